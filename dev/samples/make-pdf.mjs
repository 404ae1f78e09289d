// make-pdf: turns pdf-source/<tenant>/<name>.md into <tenant>/<name>.pdf.
//
// The samples need PDFs of several pages with real text in them. This writes them with nothing but
// Node: standard fonts (so nothing is embedded), Latin-1 text, compressed page streams.
//
//   node dev/samples/make-pdf.mjs            rewrite every PDF
//
// Source format: "key: value" lines (title, facility, patient), an empty line, then
//   "# " and "## " headings, "- " list items, "| a | b |" table rows, anything else is a paragraph.
import { readFileSync, writeFileSync, readdirSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = { width: 612, height: 792, left: 62, right: 62, top: 96, bottom: 70 };
const TEXT_WIDTH = PAGE.width - PAGE.left - PAGE.right;

// Widths of Helvetica in thousandths of the font size, from space to tilde (Adobe's metrics).
const HELVETICA = [
  278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556,
  556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778,
  722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278,
  278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
  556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
const STYLES = {
  h1: { font: 'F2', size: 15, leading: 20, before: 10, after: 4 },
  h2: { font: 'F2', size: 11.5, leading: 15, before: 9, after: 2 },
  p: { font: 'F1', size: 10.5, leading: 14, before: 0, after: 6 },
  li: { font: 'F1', size: 10.5, leading: 14, before: 0, after: 2, indent: 14 },
  row: { font: 'F3', size: 9, leading: 12.5, before: 0, after: 0 },
};

function width(text, style) {
  if (style.font === 'F3')
    return text.length * 0.6 * style.size;
  const bold = style.font === 'F2' ? 1.08 : 1;
  let sum = 0;
  for (const c of text)
    sum += HELVETICA[c.charCodeAt(0) - 32] ?? 556;
  return (sum * bold * style.size) / 1000;
}

function wrap(text, style) {
  const max = TEXT_WIDTH - (style.indent ?? 0);
  const lines = [];
  let line = '';
  for (const word of text.split(/ +/)) {
    const longer = line ? `${line} ${word}` : word;
    if (line && width(longer, style) > max) {
      lines.push(line);
      line = word;
    } else
      line = longer;
  }
  return [...lines, line];
}

function parse(source) {
  const [head, ...rest] = source.split('\n\n');
  const meta = Object.fromEntries(head.split('\n').map((l) => [l.slice(0, l.indexOf(':')), l.slice(l.indexOf(':') + 1).trim()]));
  const blocks = [];
  for (const line of rest.join('\n\n').split('\n')) {
    if (line.startsWith('# '))
      blocks.push({ kind: 'h1', text: line.slice(2) });
    else if (line.startsWith('## '))
      blocks.push({ kind: 'h2', text: line.slice(3) });
    else if (line.startsWith('- '))
      blocks.push({ kind: 'li', text: line.slice(2) });
    else if (line.startsWith('|'))
      blocks.push({ kind: 'row', text: line.replace(/^\| ?/, '').replace(/ ?\|$/, '').replaceAll(' | ', '   ') });
    else
      blocks.push({ kind: line ? 'p' : 'gap', text: line });
  }
  return { meta, blocks };
}

function paginate(blocks) {
  const pages = [[]];
  let y = PAGE.height - PAGE.top;
  let previous = 'gap';
  const fresh = () => {
    pages.push([]);
    y = PAGE.height - PAGE.top;
  };
  for (const block of blocks) {
    if (block.kind === 'gap') {
      if (previous === 'row' || previous === 'li')
        y -= 5;
      previous = 'gap';
      continue;
    }
    const style = STYLES[block.kind];
    const lines = block.kind === 'row' ? [block.text] : wrap(block.text, style);
    y -= style.before;
    const keep = block.kind.startsWith('h') ? 3 * style.leading : style.leading;
    if (y - keep < PAGE.bottom)
      fresh();
    for (const [i, text] of lines.entries()) {
      if (y - style.leading < PAGE.bottom)
        fresh();
      y -= style.leading;
      if (block.kind === 'li' && i === 0)
        pages.at(-1).push({ ...style, x: PAGE.left + 3, y, text: '-' });
      pages.at(-1).push({ ...style, x: PAGE.left + (style.indent ?? 0), y, text });
    }
    // A line of its own ("Signed by ...", "Date of birth: ...") stays close to the next one.
    y -= block.kind === 'p' && lines.length === 1 && text_is_field(block.text) ? 0 : style.after;
    previous = block.kind;
  }
  return pages;
}

function text_is_field(text) {
  return /^[A-Z][A-Za-z ]{2,30}: /.test(text);
}

const escape = (text) => text.replace(/[\\()]/g, '\\$&');

function page_stream(runs, meta, number, count) {
  const out = [];
  const show = (font, size, x, y, text) =>
    out.push(`BT /${font} ${size} Tf 1 0 0 1 ${x.toFixed(2)} ${y.toFixed(2)} Tm (${escape(text)}) Tj ET`);
  show('F2', 10, PAGE.left, PAGE.height - 46, meta.facility);
  show('F1', 9, PAGE.left, PAGE.height - 60, meta.patient);
  out.push(`0.5 w ${PAGE.left} ${PAGE.height - 68} m ${PAGE.width - PAGE.right} ${PAGE.height - 68} l S`);
  for (const run of runs)
    show(run.font, run.size, run.x, run.y, run.text);
  show('F1', 8, PAGE.left, 44, `${meta.title} - confidential health information - page ${number} of ${count}`);
  return Buffer.from(out.join('\n'), 'latin1');
}

export function make_pdf(source) {
  const { meta, blocks } = parse(source);
  const pages = paginate(blocks);
  const objects = [];
  const add = (body) => objects.push(Buffer.isBuffer(body) ? body : Buffer.from(body, 'latin1'));
  const first_page = 7;     // 1 catalog, 2 tree, 3-5 fonts, 6 information
  const kids = pages.map((_, i) => `${first_page + 2 * i} 0 R`).join(' ');
  add('<< /Type /Catalog /Pages 2 0 R /Lang (en-US) >>');
  add(`<< /Type /Pages /Kids [${kids}] /Count ${pages.length} >>`);
  for (const name of ['Helvetica', 'Helvetica-Bold', 'Courier'])
    add(`<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`);
  add(`<< /Title (${escape(meta.title)}) /Producer (dev/samples/make-pdf.mjs) >>`);
  for (const [i, runs] of pages.entries()) {
    add(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${PAGE.width} ${PAGE.height}] ` +
      `/Resources << /Font << /F1 3 0 R /F2 4 0 R /F3 5 0 R >> >> /Contents ${first_page + 2 * i + 1} 0 R >>`);
    const data = deflateSync(page_stream(runs, meta, i + 1, pages.length), { level: 9 });
    add(Buffer.concat([Buffer.from(`<< /Length ${data.length} /Filter /FlateDecode >>\nstream\n`), data, Buffer.from('\nendstream')]));
  }
  const parts = [Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1')];
  const offsets = [];
  let at = parts[0].length;
  for (const [i, body] of objects.entries()) {
    const object = Buffer.concat([Buffer.from(`${i + 1} 0 obj\n`), body, Buffer.from('\nendobj\n')]);
    offsets.push(at);
    parts.push(object);
    at += object.length;
  }
  const rows = offsets.map((o) => `${String(o).padStart(10, '0')} 00000 n \n`).join('');
  parts.push(Buffer.from(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${rows}` +
    `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R /Info 6 0 R >>\nstartxref\n${at}\n%%EOF\n`));
  return { bytes: Buffer.concat(parts), pages: pages.length };
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const tenant of readdirSync(join(HERE, 'pdf-source')))
    for (const file of readdirSync(join(HERE, 'pdf-source', tenant))) {
      const target = join(HERE, tenant, file.replace(/\.md$/, '.pdf'));
      const { bytes, pages } = make_pdf(readFileSync(join(HERE, 'pdf-source', tenant, file), 'utf8'));
      writeFileSync(target, bytes);
      console.log(`${target}: ${pages} pages, ${bytes.length} bytes`);
    }
