// evaluate: how well does the stand-in model find and answer? Chunks the samples with ingest-worker's
// own splitter, embeds them, ranks each tenant's chunks by cosine for each question of
// tests/e2e/questions.json, asks for an answer over the best eight, and prints the figures.
//
//   node dev/samples/evaluate.mjs [--verbose] [QUESTIONS.json]      (needs cc, pdftotext, dev's npm packages)
//
// CORDON_SOURCE names the checkout when the script runs from a copy of dev/.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answer } from '../cloud/bedrock-answer.mjs';
import { SentenceModel, cosine, embed } from '../cloud/bedrock-embed.mjs';
import { prompt_text } from '../cloud/bedrock-prompt.mjs';

const ROOT = resolve(process.env.CORDON_SOURCE ?? fileURLToPath(new URL('../..', import.meta.url)));
const SAMPLES = join(ROOT, 'dev/samples');
const TOP = 8;
const args = process.argv.slice(2);
const is_verbose = args.includes('--verbose');
const questions_file = args.find((a) => !a.startsWith('--')) ?? join(ROOT, 'tests/e2e/questions.json');

function build_splitter(folder) {
  const binary = join(folder, 'split-text');
  const sources = ['dev/samples/split-text.c', 'common/text/splitter.c', 'common/text/tokens.c', 'common/core/utf8.c',
    'common/core/arena.c', 'common/core/status.c', 'common/core/buffer.c'];
  execFileSync('cc', ['-std=c17', '-D_GNU_SOURCE', '-O2', '-I', join(ROOT, 'common'), ...sources.map((s) => join(ROOT, s)),
    '-lprotobuf-c', '-lcrypto', '-o', binary]);
  return binary;
}

function text_of(entry) {
  const path = join(SAMPLES, entry.tenant, entry.file);
  if (entry.content_type !== 'application/pdf')
    return readFileSync(path);
  return execFileSync('pdftotext', ['-layout', '-q', '-enc', 'UTF-8', path, '-']);
}

async function load_chunks(model, splitter) {
  const chunks = [];
  for (const entry of JSON.parse(readFileSync(join(SAMPLES, 'manifest.json')))) {
    const bytes = text_of(entry);
    for (const line of execFileSync(splitter, { input: bytes }).toString().trim().split('\n')) {
      const [from, to, page] = line.split(' ').map(Number);
      chunks.push({ tenant: entry.tenant, file: entry.file, title: entry.file, page, text: bytes.subarray(from, to).toString() });
    }
  }
  await Promise.all(chunks.map(async (c) => (c.vector = await embed(model, c.text))));
  return chunks;
}

const plain = (text) => text.replace(/\s+/g, ' ').toLowerCase();

async function ask(model, chunks, q) {
  const vector = await embed(model, q.question);
  const hits = chunks.filter((c) => c.tenant === q.tenant)
    .map((c) => ({ chunk: c, score: cosine(vector, c.vector) }))
    .sort((a, b) => b.score - a.score).slice(0, TOP);
  const documents = [...new Set(hits.map((h) => h.chunk.file))];
  const text = await answer(model, prompt_text(hits.map((h, i) => ({ number: i + 1, ...h.chunk })), q.question));
  const cited = [...text.matchAll(/\[(\d+)\]/g)].map((m) => hits[Number(m[1]) - 1].chunk);
  const is_supported = (c) => q.answer.some((a) => plain(c.text).includes(plain(a)));
  return {
    rank: documents.indexOf(q.document) + 1,
    is_retrieved: hits.some((h) => is_supported(h.chunk)),
    is_found: text !== 'NOT_FOUND',
    is_right: cited.some((c) => is_supported(c) ),
    is_right_document: cited.some((c) => c.file === q.document && is_supported(c)),
    is_in_text: q.answer.some((a) => plain(text).includes(plain(a))),
    text, hits,
  };
}

const folder = mkdtempSync(join(tmpdir(), 'evaluate-'));
const model = await SentenceModel.start();
try {
  const questions = JSON.parse(readFileSync(questions_file));
  const from = Date.now();
  const chunks = await load_chunks(model, build_splitter(folder));
  console.log(`${chunks.length} chunks embedded in ${((Date.now() - from) / 1000).toFixed(1)} s`);
  const results = [];
  const asked = Date.now();
  for (const q of questions) {
    const r = { q, ...await ask(model, chunks, q) };
    results.push(r);
    const is_good = q.document ? r.rank === 1 && r.is_right && r.is_in_text : !r.is_found;
    if (is_verbose || !is_good)
      console.log(`${is_good ? ' ok' : ' --'} ${q.id} rank ${r.rank}${r.is_retrieved ? '' : ' (chunk missed)'} ${r.is_right ? 'cited' : 'NOT CITED'} ` +
        `| ${q.question}\n       -> ${r.text}   (wanted ${q.document}: ${q.answer[0]})`);
  }
  const yes = results.filter((r) => r.q.document), no = results.filter((r) => !r.q.document);
  const figure = (name, list, is_good) => {
    const n = list.filter(is_good).length;
    console.log(`${name.padEnd(48)} ${n}/${list.length}  ${((100 * n) / list.length).toFixed(0)} %`);
  };
  console.log(`${((Date.now() - asked) / questions.length).toFixed(0)} ms a question`);
  figure('right document first', yes, (r) => r.rank === 1);
  figure('right document in the first three', yes, (r) => r.rank >= 1 && r.rank <= 3);
  figure('a supporting chunk among the eight', yes, (r) => r.is_retrieved);
  figure('answered, a cited chunk holds the answer', yes, (r) => r.is_right);
  figure('answered from the very document', yes, (r) => r.is_right_document);
  figure('answer string in the answer itself', yes, (r) => r.is_in_text);
  figure('unanswerable refused', no, (r) => !r.is_found);
} finally {
  rmSync(folder, { recursive: true });
  await model.stop();
}
