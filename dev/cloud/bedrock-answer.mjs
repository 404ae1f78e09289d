// bedrock-answer: the stand-in for the chat model. It reads the sources of the prompt, picks the
// statements that answer the question and cites them, or says NOT_FOUND.
//
// No question is known to it. A statement is taken when
//   - it comes from a document that speaks of whoever the question names;
//   - it, its heading and its neighbourhood hold the question's words, weighted by how rare they are in
//     the sources: a term that occurs nowhere weighs most, so asking for what is not there is refused;
//   - its sense (sentence vectors) is near enough to the question's;
//   - it holds the kind of thing that is asked for: a number, a date, a name.
import { cosine } from './bedrock-embed.mjs';
import { parse_prompt } from './bedrock-prompt.mjs';
import { concept, content_words, is_stop_word, statements, words } from './bedrock-text.mjs';

export const NOT_FOUND = 'NOT_FOUND';

const COVERAGE_MIN = 0.62;          // of the question's terms, by weight
const SCORE_MIN = 0.6;
const STATEMENTS_MAX = 3;
const KEEP_RATIO = 0.9;             // of the best score, for a second and third statement

// How much a term counts by where it is found.
const IN_STATEMENT = 1, IN_HEADING = 0.85, IN_NEIGHBOUR = 0.6, IN_SOURCE = 0.4, IN_DOCUMENT = 0.25;

// Words that shape a question more than they say what it is about.
const GENERIC = new Set(`happen kind type sort large big small severe severity long often far take taken took use need receive show find found see seen level dose
  score value result amount number name date time size call ask order place put know mean describe cause reason keep carry go went come came now next first last
  current currently recent recently worse better change old new high low come left seen made make reach report reported record recorded present main exact`.split(/\s+/).map(concept));
const MONTHS = /^(?:january|february|march|april|may|june|july|august|september|october|november|december)$/i;

const HAS_NUMBER = /\d/;
const HAS_DATE = /\b(?:january|february|march|april|may|june|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|today|tomorrow)\b|\d{1,2}\/\d{1,2}|\b(?:19|20)\d\d\b|\d{1,2}:\d\d|\b\d+ (?:days?|weeks?|months?|years?|hours?)\b/i;
const HAS_NAME = /(?:Dr|Mr|Mrs|Ms)\. |\b\p{Lu}\p{Ll}+ (?:\p{Lu}\.? )?\p{Lu}\p{Ll}+/u;

function wanted(question) {
  const q = question.toLowerCase();
  if (/\b(?:when|what date|what time|which day|since when|until when)\b/.test(q))
    return HAS_DATE;
  if (/\b(?:how (?:much|many|large|big|long|old|high|low|often|far)|dose|score|level|size|number|amount|rate|weight|percent|iq)\b/.test(q))
    return HAS_NUMBER;
  if (/\bwho(?:m|se)?\b|\bwhich (?:\w+ )?(?:doctor|physician|surgeon|nurse|therapist|social worker|case worker|pharmacist)\b/.test(q))
    return HAS_NAME;
  return null;
}

// Runs of capitalised words ("Marguerite Hollis", "Berg Balance Scale"), not the first word of the question.
function names(question) {
  const runs = [];
  for (const match of question.matchAll(/(?<=\S\s+(?:["'(])?)\p{Lu}[\p{L}'’-]+(?:\s+\p{Lu}[\p{L}'’-]+)*/gu)) {
    const run = words(match[0]).filter((w) => !/^(?:Mr|Mrs|Ms|Dr)$/.test(w) && !MONTHS.test(w) && !is_stop_word(w) && /\p{Ll}/u.test(w));
    if (run.length)
      runs.push(run.map((w) => w.toLowerCase()));
  }
  return runs;
}

function is_like(a, b) {
  if (a === b)
    return true;
  const short = Math.min(a.length, b.length);
  let n = 0;
  while (n < short && a[n] === b[n])
    n++;
  return n >= 5 && n / short >= 0.75 && n / Math.max(a.length, b.length) >= 0.5;
}

const has_term = (terms, term) => terms.has(term) || [...terms].some((t) => is_like(t, term));
const terms_of = (text) => new Set(content_words(text).map(concept));

function read_sources(sources) {
  const documents = new Map();
  const list = [];
  for (const source of sources) {
    const document = documents.get(source.title) ?? { words: new Set(), terms: new Set() };
    documents.set(source.title, document);
    const title = source.title.replace(/[-_.]/g, ' ');
    for (const word of words(`${title} ${source.text}`))
      for (const part of [word, ...word.split(/[-/]/)])
        document.words.add(part.toLowerCase());
    const parts = statements(source.text).map((s) => ({ ...s, source, document, terms: terms_of(s.text), heading_terms: terms_of(`${s.heading} ${title}`) }));
    const all = new Set(parts.flatMap((p) => [...p.terms, ...p.heading_terms]));
    for (const term of all)
      document.terms.add(term);
    for (const [i, part] of parts.entries())
      list.push({ ...part, source_terms: all, neighbour_terms: new Set([...(parts[i - 1]?.terms ?? []), ...(parts[i + 1]?.terms ?? [])]) });
  }
  return list;
}

// [{term, weight}] of the question: what it is about, without the people and things that it names.
function question_terms(question, runs, list) {
  const named = new Set(runs.flat().map(concept));
  const out = [];
  for (const term of new Set(content_words(question).map(concept))) {
    if (named.has(term))
      continue;
    const n = list.filter((s) => has_term(s.terms, term)).length;
    const rarity = Math.log(1 + list.length / (1 + n));
    out.push({ term, weight: GENERIC.has(term) ? 0.2 * rarity : rarity });
  }
  return out;
}

function coverage(statement, terms) {
  let sum = 0, all = 0;
  for (const { term, weight } of terms) {
    all += weight;
    const places = [[statement.terms, IN_STATEMENT], [statement.heading_terms, IN_HEADING], [statement.neighbour_terms, IN_NEIGHBOUR],
      [statement.source_terms, IN_SOURCE], [statement.document.terms, IN_DOCUMENT]];
    sum += weight * (places.find(([set]) => has_term(set, term))?.[1] ?? 0);
  }
  return all ? sum / all : 0;
}

function speaks_of(statement, runs) {
  return runs.every((run) => run.some((w) => statement.document.words.has(w) || statement.document.terms.has(concept(w))));
}

// The part of the named things that stands in the statement or near it.
function nearness(statement, runs) {
  if (!runs.length)
    return 1;
  const near = runs.filter((run) => run.some((w) => has_term(statement.terms, concept(w)) || has_term(statement.heading_terms, concept(w))
    || has_term(statement.neighbour_terms, concept(w))));
  return near.length / runs.length;
}

async function rank(model, question, sources) {
  const list = read_sources(sources);
  const runs = names(question);
  const terms = question_terms(question, runs, list);
  const type = wanted(question);
  const about = await model.embed(question);
  const scored = [];
  for (const statement of list) {
    if (!speaks_of(statement, runs) || words(statement.text).length < 3)
      continue;
    const covered = coverage(statement, terms);
    const likeness = cosine(about, await model.embed(statement.text));
    const is_typed = !type || type.test(statement.text);
    const score = 0.65 * covered + 0.35 * likeness + 0.08 * nearness(statement, runs) - (is_typed ? 0 : 0.2);
    scored.push({ statement, covered, likeness, score });
  }
  return scored.sort((a, b) => b.score - a.score);
}

function tidy(text) {
  return text.replace(/\*\*|^\s*(?:[-*•]|\d{1,2}\.)\s+/g, '').replace(/\s*\|\s*/g, ' | ').replace(/ {3,}/g, ' | ').replace(/\s+/g, ' ')
    .replace(/^[\s|]+|[\s|]+$/g, '').replace(/[.;:]$/, '').replace(/\[(\d+)\]/g, '($1)');
}

// The prompt's user text -> "Statement [1]. Another one [2][3]." or NOT_FOUND.
export async function answer(model, text) {
  const prompt = parse_prompt(text);
  if (!prompt || !prompt.sources.length || !prompt.question)
    return NOT_FOUND;
  const ranked = (await rank(model, prompt.question, prompt.sources)).filter((r) => r.covered >= COVERAGE_MIN && r.score >= SCORE_MIN);
  if (!ranked.length)
    return NOT_FOUND;
  const said = [];
  for (const { statement, score } of ranked) {
    const words_said = tidy(statement.text);
    const same = said.find((s) => s.text.includes(words_said));
    if (same || said.length === STATEMENTS_MAX || score < KEEP_RATIO * ranked[0].score) {
      if (same?.text === words_said)
        same.numbers.add(statement.source.number);
      continue;
    }
    const heading = tidy(statement.heading);
    said.push({ text: words_said, heading, numbers: new Set([statement.source.number]) });
  }
  return said.map((s) => `${s.heading && !s.text.includes(':') ? `${s.heading}: ` : ''}${s.text} ${[...s.numbers].sort((a, b) => a - b).map((n) => `[${n}]`).join('')}.`).join(' ');
}
