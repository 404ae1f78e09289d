// bedrock-embed: vectors for the stand-in.
//
// Half of a vector comes from a small real sentence model (512 numbers): the mean over the statements of
// the text, as the model is good at the sense of one sentence and poor at a page. It is also weak at
// names and terms, where a model of Titan's size is strong. So the other half is lexical: each content
// word, stemmed and with its synonyms, adds to three places of 512 chosen by a hash, whatever its count
// and with no statistics of any collection, so that a text's vector depends on the text alone. Cosine
// over the whole is then a weighted sum of both likenesses.
import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { concept, content_words, statements } from './bedrock-text.mjs';

const HALF = 512;
const LEXICAL_SHARE = 0.6;          // of the cosine
const PLACES_PER_WORD = 3;
const BATCH_MAX_CHARS = 6000;       // about a second of computing on a small machine
const BATCH_MAX_TEXTS = 32;
const CACHE_MAX = 20000;

// The sentence model behind a queue: calls that wait while it is busy go in one batch, short texts first.
export class SentenceModel {
  #worker;
  #waiting = [];
  #cache = new Map();
  #batch = null;

  static async start() {
    const model = new SentenceModel();
    model.#worker = new Worker(new URL('./bedrock-model-worker.mjs', import.meta.url));
    model.#worker.unref();
    await new Promise((resolve, reject) => {
      model.#worker.once('error', reject);
      model.#worker.once('message', resolve);
    });
    model.#worker.on('message', (message) => model.#answered(message));
    model.#worker.on('error', (error) => {
      throw error;
    });
    return model;
  }

  stop() {
    return this.#worker.terminate();
  }

  // text -> Float32Array-like of 512, length 1. The same text is computed once.
  embed(text) {
    const key = createHash('sha256').update(text).digest('base64');
    const known = this.#cache.get(key);
    if (known)
      return known;
    const promise = new Promise((resolve, reject) => this.#waiting.push({ text, resolve, reject }));
    promise.catch(() => this.#cache.delete(key));
    this.#cache.set(key, promise);
    if (this.#cache.size > CACHE_MAX)
      this.#cache.delete(this.#cache.keys().next().value);
    if (!this.#batch)
      setImmediate(() => this.#next());
    return promise;
  }

  #next() {
    if (this.#batch || !this.#waiting.length)
      return;
    this.#waiting.sort((a, b) => a.text.length - b.text.length);
    let chars = 0, n = 0;
    while (n < this.#waiting.length && n < BATCH_MAX_TEXTS && (n === 0 || chars + this.#waiting[n].text.length <= BATCH_MAX_CHARS))
      chars += this.#waiting[n++].text.length;
    this.#batch = this.#waiting.splice(0, n);
    this.#worker.ref();
    this.#worker.postMessage({ texts: this.#batch.map((w) => w.text) });
  }

  #answered({ vectors, error }) {
    const batch = this.#batch;
    this.#batch = null;
    this.#worker.unref();
    for (const [i, waiting] of batch.entries())
      if (vectors)
        waiting.resolve(unit(vectors[i]));
      else
        waiting.reject(new Error(error));
    this.#next();
  }
}

export function unit(vector) {
  const length = Math.hypot(...vector) || 1;
  return Array.from(vector, (x) => x / length);
}

export function cosine(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++)
    sum += a[i] * b[i];
  return sum;
}

// Places and signs of a word in the lexical half.
const places_cache = new Map();
function places(word) {
  let out = places_cache.get(word);
  if (!out) {
    const hash = createHash('sha256').update(word).digest();
    out = [];
    for (let i = 0; i < PLACES_PER_WORD; i++)
      out.push([hash.readUInt16BE(2 * i) % HALF, hash[16 + i] & 1 ? 1 : -1]);
    if (places_cache.size > 50000)
      places_cache.clear();
    places_cache.set(word, out);
  }
  return out;
}

export function lexical(text) {
  const out = new Array(HALF).fill(0);
  for (const word of new Set(content_words(text).map(concept)))
    for (const [place, sign] of places(word))
      out[place] += sign;
  return unit(out);
}

export async function sense(model, text) {
  const parts = statements(text);
  const vectors = await Promise.all((parts.length ? parts.map((p) => p.text) : [text]).map((t) => model.embed(t)));
  const sum = new Array(HALF).fill(0);
  for (const vector of vectors)
    for (const [i, x] of vector.entries())
      sum[i] += x;
  return unit(sum);
}

// The vector of a text: 1,024, 512 or 256 numbers, of length 1.
export async function embed(model, text, dimensions = 1024) {
  const whole = [
    ...(await sense(model, text)).map((x) => x * Math.sqrt(1 - LEXICAL_SHARE)),
    ...lexical(text).map((x) => x * Math.sqrt(LEXICAL_SHARE)),
  ];
  const out = new Array(dimensions).fill(0);
  for (const [i, x] of whole.entries())
    out[i % dimensions] += x;
  return unit(out);
}
