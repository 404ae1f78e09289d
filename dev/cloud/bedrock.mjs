// bedrock: a stand-in for Amazon Bedrock's runtime on one machine, behind dev/cloud/gateway.py, which
// has checked signature and policy before anything arrives here.
//
//   POST /model/{id}/invoke            amazon.titan-embed-text-v2:0
//   POST /model/{id}/converse          anthropic.claude-sonnet-4-5-20250929-v1:0
//   POST /model/{id}/converse-stream   the same as an event stream
//   GET  /inference-profiles/{id}      us., eu., apac., global. of both, and application-inference-profile/{titan-embed,titan-embed-next,claude}-app
//   GET  /logging/modelinvocations     what POST /_control {"logging": {...}} says, as a loggingConfig; nothing at first
//   GET  /_health                      200 once the model is loaded (the port is closed before)
//   GET, POST /_control                faults and counters, for tests: {"throttle": n, "error500": n, "hang_ms": t, "latency_ms": t};
//                                      {"piece_ms": t, "stream_end": "exception" | "cut" | "hang" | "bad_crc" | 0}: how streamed answers
//                                      come, and how they end in their middle; calls.left counts those that were left;
//                                      {"words_only": true}: vectors without the small model, which is slow under load;
//                                      {"most_at_once": n, "per_s": n}: what one model bears; what is more is throttled. calls.throttled counts;
//                                      {"given": {text: vector}, "says": text}: these vectors and this answer, in no time; 0: no more
//
// Vectors come from a small real model and from the words themselves (bedrock-embed.mjs); answers are
// extracts of the sources in the prompt (bedrock-answer.mjs, bedrock-prompt.mjs), not written by a
// language model. Shapes, limits and errors are the real service's. Never for production.
//
// Settings: BEDROCK_PORT (or the first argument), ENVIRONMENT (must not be production).
import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { answer } from './bedrock-answer.mjs';
import { SentenceModel, embed, lexical } from './bedrock-embed.mjs';
import { event, exception } from './bedrock-eventstream.mjs';
import { NEXT_TITAN, check_converse, check_titan, model_behind, model_kind, profile_regions, tokens_of } from './bedrock-validate.mjs';

const MAX_BODY_BYTES = 25 << 20;
const OPERATIONS = { invoke: 'titan', converse: 'claude', 'converse-stream': 'claude' };
const STATUS = {
  ValidationException: 400, ResourceNotFoundException: 404, UnknownOperationException: 404,
  ThrottlingException: 429, InternalServerException: 500,
};

// What a guardrail of ours, whichever it is, stops.
const GUARDED_WORD = 'guardrailtestword', GUARDED_TEXT = 'Sorry, the model cannot answer this question.';

const STREAM_ENDS = [0, 'exception', 'cut', 'hang', 'bad_crc'];

class Refusal extends Error {
  constructor(type, message) {
    super(message);
    this.type = type;
  }
}

// throttle and error500 count the calls still to be refused (true: all of them until set to 0).
class Faults {
  state = { throttle: 0, error500: 0, hang_ms: 0, latency_ms: 0, words_only: 0, piece_ms: 0, stream_end: 0, most_at_once: 0, per_s: 0, logging: 0, given: 0, says: 0 };
  calls = { invoke: 0, converse: 0, 'converse-stream': 0, left: 0, throttled: 0 };
  bears = {};           // of each model: how many run, and a bucket of calls

  set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      const is_count = Number.isInteger(value) && value >= 0;
      const is_end = (name === 'stream_end' && STREAM_ENDS.includes(value)) || (name === 'says' && typeof value === 'string')
        || (['logging', 'given'].includes(name) && value !== null && typeof value === 'object');
      if (!(name in this.state) || !(is_end || (name !== 'stream_end' && (is_count || (value === true && !name.endsWith('_ms'))))))
        throw new Refusal('ValidationException', `no such fault: ${name}`);
    }
    Object.assign(this.state, changes);
    for (const b of Object.values(this.bears))
      b.left = this.state.per_s;
  }

  #use(name) {
    const value = this.state[name];
    if (value === 0)
      return false;
    if (value !== true)
      this.state[name] = value - 1;
    return true;
  }

  #throttle() {
    this.calls.throttled++;
    throw new Refusal('ThrottlingException', 'Too many requests, please wait before trying again.');
  }

  // A call of a model begins: it is throttled, or counts until the function that comes back is called.
  begin(model) {
    const { most_at_once, per_s } = this.state, now = performance.now();
    const b = (this.bears[model] ??= { running: 0, left: per_s, at: now });
    b.left = Math.min(per_s, b.left + ((now - b.at) / 1000) * per_s);
    b.at = now;
    if ((most_at_once && b.running >= most_at_once) || (per_s && b.left < 1))
      this.#throttle();
    b.running++;
    b.left -= per_s ? 1 : 0;
    return () => b.running--;
  }

  async strike(signal) {
    if (this.#use('throttle'))
      this.#throttle();
    if (this.#use('error500'))
      throw new Refusal('InternalServerException', 'The system encountered an unexpected error during processing. Try your request again.');
    const wait_ms = this.state.hang_ms + this.state.latency_ms;
    if (wait_ms)
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait_ms);
        signal.addEventListener('abort', () => {
          clearTimeout(timer);
          resolve();
        });
      });
  }
}

async function read_body(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > MAX_BODY_BYTES)
      throw new Refusal('ValidationException', 'Input is too long for requested model.');
    parts.push(part);
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts)));
  } catch {
    throw new Refusal('ValidationException', 'The request body is not valid JSON.');
  }
}

function send_json(response, status, body, headers = {}) {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length, 'x-amzn-RequestId': randomUUID(), ...headers });
  response.end(bytes);
}

function require_good(problem) {
  if (problem)
    throw new Refusal('ValidationException', problem);
}

async function invoke(model, body, response, faults, id) {
  require_good(check_titan(body));
  const embedding = faults.state.given?.[body.inputText]?.slice() ?? await embed(model, body.inputText, body.dimensions);
  if (model_behind(id) === NEXT_TITAN)
    embedding.reverse();
  const count = tokens_of(body.inputText);
  send_json(response, 200, {
    embedding, inputTextTokenCount: count, ...(body.embeddingTypes && { embeddingsByType: { float: embedding } }),
  }, { 'x-amzn-bedrock-input-token-count': count });
}

// Text cut at max_tokens, as a model would stop in the middle of what it says.
function stop_at(text, max_tokens = 4096) {
  const pieces = text.match(/\S{1,4}|\s+\S{1,3}/g) ?? [];
  return pieces.length <= max_tokens ? { text, pieces, stopReason: 'end_turn' }
    : { text: pieces.slice(0, max_tokens).join(''), pieces: pieces.slice(0, max_tokens), stopReason: 'max_tokens' };
}

async function reply_to(model, body, faults) {
  require_good(check_converse(body));
  const from = Date.now();
  const prompt = body.messages.at(-1).content.map((b) => b.text).join('\n');
  const usage_of = (inputTokens, outputTokens) => ({ inputTokens, outputTokens, totalTokens: inputTokens + outputTokens });
  if (body.guardrailConfig && prompt.includes(GUARDED_WORD))
    return { text: GUARDED_TEXT, pieces: [GUARDED_TEXT], stopReason: 'guardrail_intervened', usage: usage_of(0, 0), metrics: { latencyMs: Date.now() - from } };
  const said = stop_at(faults.state.says || await answer(model, prompt), body.inferenceConfig?.maxTokens);
  const inputTokens = tokens_of(JSON.stringify([body.messages, body.system ?? []]));
  return { ...said, usage: usage_of(inputTokens, said.pieces.length), metrics: { latencyMs: Date.now() - from } };
}

async function converse(model, body, response, faults) {
  const { text, stopReason, usage, metrics } = await reply_to(model, body, faults);
  send_json(response, 200, { metrics, output: { message: { content: [{ text }], role: 'assistant' } }, stopReason, usage });
}

// In the middle of an answer.
function break_off(response, how) {
  if (how === 'exception')
    response.end(exception('modelStreamErrorException', { message: 'The model has encountered an error.' }));
  else if (how === 'cut')
    setTimeout(() => response.destroy(), 200);      // what was written has gone out
  else if (how === 'bad_crc') {
    const bytes = event('messageStop', { stopReason: 'end_turn' });
    bytes[bytes.length - 1] ^= 1;
    response.end(bytes);
  }     // hang: nothing more comes
}

async function converse_stream(model, body, response, faults) {
  const { pieces, stopReason, usage, metrics } = await reply_to(model, body, faults);
  response.writeHead(200, { 'content-type': 'application/vnd.amazon.eventstream', 'x-amzn-RequestId': randomUUID() });
  response.write(event('messageStart', { role: 'assistant' }));
  const { stream_end } = faults.state;
  response.on('close', () => { faults.calls.left += !response.writableEnded; });
  for (let i = 0; i < pieces.length && !response.destroyed; i += 4) {
    if (stream_end && i >= pieces.length / 2)
      return break_off(response, stream_end);
    response.write(event('contentBlockDelta', { contentBlockIndex: 0, delta: { text: pieces.slice(i, i + 4).join('') } }));
    if (faults.state.piece_ms)          // as it is now: a test has heard enough of it
      await new Promise((resolve) => setTimeout(resolve, faults.state.piece_ms));
  }
  response.write(event('contentBlockStop', { contentBlockIndex: 0 }));
  response.write(event('messageStop', { stopReason }));
  response.end(event('metadata', { metrics, usage }));
}

const WORDS_ONLY = { embed: async (text) => lexical(text) };
const HANDLERS = { invoke, converse, 'converse-stream': converse_stream };

async function serve(model, faults, request, response) {
  const path = request.url.split('?')[0];
  if (path === '/_health' && request.method === 'GET')
    return send_json(response, 200, { status: 'ready' });
  if (path === '/_control' && request.method === 'POST')
    faults.set(await read_body(request));
  if (path === '/_control')
    return send_json(response, 200, { faults: faults.state, calls: faults.calls });
  if (path === '/logging/modelinvocations' && request.method === 'GET')
    return send_json(response, 200, faults.state.logging ? { loggingConfig: faults.state.logging } : {});
  if (path.startsWith('/inference-profiles/') && request.method === 'GET')
    return send_json(response, 200, profile(decode_id(path.slice('/inference-profiles/'.length))));
  const match = /^\/model\/([^/]+)\/([a-z-]+)$/.exec(path);
  if (!match || !Object.hasOwn(OPERATIONS, match[2]) || request.method !== 'POST')
    throw new Refusal('UnknownOperationException', `${request.method} ${path}`);
  const operation = match[2];
  const body = await read_body(request);
  faults.calls[operation]++;
  const cut = new AbortController();
  response.on('close', () => cut.abort());
  const id = decode_id(match[1]), end = faults.begin(model_behind(id));
  response.on('close', end);
  await faults.strike(cut.signal);
  if (cut.signal.aborted)
    return undefined;
  const kind = model_kind(id);
  if (!kind)
    throw new Refusal('ResourceNotFoundException', 'Could not resolve the foundation model from the provided model identifier.');
  if (kind !== OPERATIONS[operation])
    throw new Refusal('ValidationException', "This action doesn't support the model that you provided.");
  return HANDLERS[operation](faults.state.words_only ? WORDS_ONLY : model, body, response, faults, id);
}

function profile(id) {
  const regions = profile_regions(id);
  if (!regions || !model_behind(id))
    throw new Refusal('ResourceNotFoundException', 'The provided inference profile does not exist.');
  return {
    inferenceProfileId: id.slice(id.lastIndexOf('/') + 1), inferenceProfileName: 'a profile', status: 'ACTIVE',
    type: id.includes('application-inference-profile/') ? 'APPLICATION' : 'SYSTEM_DEFINED',
    models: regions.map((region) => ({ modelArn: `arn:aws:bedrock:${region}::foundation-model/${model_behind(id)}` })),
  };
}

function decode_id(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal('ValidationException', 'The provided model identifier is invalid.');
  }
}

// A server that is not yet listening. Faults belong to it, so tests may run several.
export function bedrock_server(model) {
  const faults = new Faults();
  return http.createServer((request, response) => {
    serve(model, faults, request, response).catch((error) => {
      if (!(error instanceof Refusal))
        console.error(error);
      if (response.headersSent)
        return response.destroy();
      const type = error instanceof Refusal ? error.type : 'InternalServerException';
      return send_json(response, STATUS[type], { message: error.message }, { 'x-amzn-ErrorType': type });
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.env.BEDROCK_PORT ?? process.argv[2]);
  if (process.env.ENVIRONMENT === 'production') {
    console.error('bedrock: this is a stand-in for development and does not run with ENVIRONMENT=production');
    process.exit(1);
  }
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    console.error('bedrock: set BEDROCK_PORT');
    process.exit(1);
  }
  const server = bedrock_server(await SentenceModel.start());
  server.on('error', (error) => {
    console.error(`bedrock: ${error.message}`);
    process.exit(1);
  });
  server.listen(port, '127.0.0.1', () => console.log(`bedrock: ready on 127.0.0.1:${port}`));
  for (const signal of ['SIGTERM', 'SIGINT'])
    process.on(signal, () => {
      server.close(() => process.exit(0));
      server.closeIdleConnections();
      setTimeout(() => process.exit(0), 3000).unref();
    });
}
