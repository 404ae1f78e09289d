// Tests of the samples themselves: node --test dev/samples/samples.test.mjs (needs pdftotext).
// CORDON_SOURCE names the checkout when this runs from a copy of dev/.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { make_pdf } from './make-pdf.mjs';

const ROOT = resolve(process.env.CORDON_SOURCE ?? fileURLToPath(new URL('../..', import.meta.url)));
const HERE = join(ROOT, 'dev/samples');
const read = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));
const MANIFEST = read(HERE, 'manifest.json');
const plain = (text) => text.replace(/\s+/g, ' ').toLowerCase();

const text_of = (entry) => (entry.content_type === 'application/pdf'
  ? execFileSync('pdftotext', ['-layout', '-q', '-enc', 'UTF-8', join(HERE, entry.tenant, entry.file), '-'])
  : readFileSync(join(HERE, entry.tenant, entry.file))).toString();

test('the manifest and the folders name the same files', () => {
  for (const tenant of ['demo', 'lakeside'])
    assert.deepEqual(MANIFEST.filter((e) => e.tenant === tenant).map((e) => e.file).sort(), readdirSync(join(HERE, tenant)).sort());
  assert.ok(MANIFEST.length >= 16);
});

test('no patient belongs to both tenants, or is named in the other one', () => {
  for (const entry of MANIFEST) {
    const text = text_of(entry);
    for (const other of MANIFEST.filter((e) => e.tenant !== entry.tenant))
      assert.ok(!text.includes(other.patient.split(' ').at(-1)), `${entry.file} names ${other.patient}`);
    assert.match(text, new RegExp(entry.patient.split(' ').at(-1)));
  }
});

test('at least three PDFs have several pages, and say what their source says', () => {
  const pdfs = MANIFEST.filter((e) => e.content_type === 'application/pdf');
  const long = pdfs.filter((e) => text_of(e).split('\f').length > 2);
  assert.ok(long.length >= 3);
  for (const entry of pdfs) {
    const source = readFileSync(join(HERE, 'pdf-source', entry.tenant, entry.file.replace('.pdf', '.md')), 'utf8');
    const text = new Set(text_of(entry).split(/\s+/));
    for (const word of source.split('\n\n').slice(1).join(' ').split(/[\s|#]+/).filter(Boolean))
      assert.ok(text.has(word), `${entry.file} has lost "${word}"`);
    assert.equal(make_pdf(source).pages, text_of(entry).split('\f').length - 1);
  }
});

for (const file of ['tests/e2e/questions.json', 'dev/samples/more-questions.json'])
  test(`${file}: answers stand in their documents, and nowhere when there is none`, () => {
    const questions = read(ROOT, file);
    assert.equal(new Set(questions.map((q) => q.id)).size, questions.length);
    for (const q of questions) {
      const entry = MANIFEST.find((e) => e.tenant === q.tenant && e.file === q.document);
      if (q.document === null)
        assert.deepEqual(q.answer, []);
      else
        assert.ok(q.answer.some((a) => plain(text_of(entry)).includes(plain(a))), `${q.id}: ${q.answer[0]}`);
    }
  });
