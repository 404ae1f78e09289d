// bedrock-prompt: the prompt that embedding-worker sends to the chat model, written and read.
//
//   <sources>
//   <source id="1" document="discharge.pdf" page="2">
//   TEXT
//   </source>
//   </sources>
//   <question>TEXT</question>
//
// TEXT and attributes have & < > and " as entities, so nothing inside a source can end it.

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escape = (text) => text.replace(/[&<>"]/g, (c) => ENTITIES[c]);
const unescape = (text) => text.replace(/&(?:lt|gt|quot|amp|#39|apos);/g,
  (e) => ({ '&lt;': '<', '&gt;': '>', '&quot;': '"', '&amp;': '&', '&#39;': "'", '&apos;': "'" })[e]);

// sources: [{number, title, page, text}]
export function prompt_text(sources, question) {
  const blocks = sources.map((s) =>
    `<source id="${s.number}" document="${escape(s.title)}" page="${s.page}">\n${escape(s.text)}\n</source>\n`);
  return `<sources>\n${blocks.join('')}</sources>\n<question>${escape(question)}</question>`;
}

// -> {sources: [{number, title, page, text}], question}; null when the text is not such a prompt.
export function parse_prompt(text) {
  const question = /<question>([^<>]*)<\/question>/.exec(text);
  if (!question)
    return null;
  const sources = [];
  for (const m of text.matchAll(/<source id="(\d+)"([^<>]*)>\n?([^<>]*)<\/source>/g)) {
    const attribute = (name) => unescape(new RegExp(`\\b${name}="([^"]*)"`).exec(m[2])?.[1] ?? '');
    sources.push({ number: Number(m[1]), title: attribute('document'), page: Number(attribute('page')) || 0, text: unescape(m[3]).trim() });
  }
  return { sources, question: unescape(question[1]).trim() };
}
