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
import { GENERIC, concept, content_words, is_stop_word, statements, words } from './bedrock-text.mjs';

export const NOT_FOUND = 'NOT_FOUND';

const COVERAGE_MIN = 0.54;          // of the question's terms, by weight
const SCORE_MIN = 0.54;
const STATEMENTS_MAX = 3;
const KEEP_RATIO = 0.9;             // of the best score, for a second and third statement

// How much a term counts by where it is found.
const PLACES = { terms: 1, heading_terms: 0.85, neighbour_terms: 0.6, source_terms: 0.4, document_terms: 0.25 };
const NAME_PLACES = { terms: 1, heading_terms: 1, neighbour_terms: 0.9, source_terms: 0.8, document_terms: 0.65 };

// Who wrote and in what kind of paper: known from a document's look, seldom said beside the answer.
const PAPERS = new Set(`radiologist surgeon psychiatrist psychologist nurse nursing pharmacist pathologist therapist doctor letter report assessment note evaluation
  examination plan summary document chart form review landlord`.split(/\s+/).map(concept));
const GENERIC_WEIGHT = 0.1, PAPER_WEIGHT = 0.3, KIND_WEIGHT = 0.35;

// What a question wants to see, and how that looks. The first row whose question fits counts.
const MONTH = 'january|february|march|april|may|june|july|august|september|october|november|december';
const DATES = new RegExp(`\\b(?:${MONTH})\\.? \\d{1,2}\\b(?:, \\d{4})?|\\b\\d{1,2} (?:${MONTH})\\b|\\b(?:19|20)\\d\\d\\b|\\b\\d{1,2}/\\d{1,2}(?:/\\d{2,4})?\\b|\\b\\d{1,2}:\\d\\d\\b`, 'gi');
const HAS_NUMBER = { test: (text) => /\d/.test(text.replace(DATES, ' ')) };
const WANTED = [
  [/\b(?:tele)?phone number\b/, /\d{3}[- ]\d{4}/],
  [/\b(?:when|what date|what time|which day)\b/,
    new RegExp(`\\b(?:${MONTH}|(?:mon|tues|wednes|thurs|fri|satur|sun)day|today|tomorrow)\\b|\\d{1,2}/\\d{1,2}|\\b(?:19|20)\\d\\d\\b|\\d{1,2}:\\d\\d|\\b\\d+ (?:days?|weeks?|months?|years?|hours?)\\b`, 'i')],
  [/\bhow (?:long|old)\b/, /\b\d[\d.,]*[- ](?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b/i],
  [/^(?:how much|what)\b.*\b(?:benefit|rent|cost|price|payment|co-payment|copay|income|deductible|owes?|pays?|fee|charge|savings)\b/, /\$ ?\d/],
  [/\b(?:how (?:much|many|large|big|high|low|often|far)|dose|score|scale|level|size|number|amount|rate|ratio|fraction|pressure|a1c|hba1c|index|count|weight|percent|iq)\b/, HAS_NUMBER],
  [/\b(?:which|what) (?:\w+ ){0,2}(?:medicines?|medications?|drugs?|tablets?|pills?|antibiotics?|painkillers?|antidepressants?)\b/,
    /\d ?(?:mg|mcg|g|units|iu|puffs?)\b|\w(?:cillin|mycin|cycline|floxacin|azole|pril|sartan|olol|statin|gliflozin|gliptin|glutide|zosin|semide|azepam|oxetine|traline|alopram|mab|cept|profen|proxen|aban|parin|izide|formin|sone|solone|codone)s?\b|\bnsaids?\b/i],
  [/\bwho(?:m|se)?\b|\bwhich (?:\w+ )?(?:doctor|physician|surgeon|nurse|therapist|pharmacist|social worker|case worker)\b/, null],
  [/^why\b/, /\b(?:because|due to|caused?|attributed|thought|worse|stopped|as it|so that|therefore|reason)\b/i],
];
const HAS_NAME = /(?:Dr|Mr|Mrs|Ms)\. |\b\p{Lu}\p{Ll}+ (?:\p{Lu}\.? )?\p{Lu}\p{Ll}+/u;

function wanted(question) {
  const row = WANTED.find(([asks]) => asks.test(question.toLowerCase()));
  return row ? row[1] ?? HAS_NAME : null;
}

// The text without what the question said itself: the 1 of "A1c" is no answer to a question for A1c.
function without(text, own) {
  return own.reduce((rest, word) => rest.replaceAll(word, ' '), text);
}

// A line that says whose paper it is answers nothing but that.
const IDENTITY = /^\W*(?:patient|client|child|student|applicant|name|re|mrn|dob|born|date of birth|medical record number|(?:lakeside )?file(?: number)?|accession number)\b[^.]{0,4}:|\bpage \d+ of \d+$/i;
const ASKS_IDENTITY = /\b(?:birth|born|old|mrn|record|file|accession|number|name)\b/i;

// "It has been ...": the statement speaks of what the one before it named.
const ANAPHORA = /^\W*(?:it|its|he|she|his|her|they|their|this|these|that|those|both|there)\b/i;

// Runs of capitalised words [{words, is_person}], but for the first word of the question: a person is
// spoken of in the whole document, a thing ("Berg Balance Scale") only where it stands.
function names(question) {
  const runs = [];
  for (const match of question.matchAll(/(?<=\S\s+(?:["'(])?)\p{Lu}[\p{L}'’-]+(?:\s+\p{Lu}[\p{L}'’-]+)*/gu)) {
    for (const part of match[0].split(/(?<=['’]s)\s+/))
      add(part, question.slice(0, match.index));
  }
  return runs;

  function add(text, before) {
    const run = words(text).filter((w) => !/^(?:Mr|Mrs|Ms|Dr)$/.test(w) && !new RegExp(`^(?:${MONTH})$`, 'i').test(w) && !is_stop_word(w) && /\p{Ll}/u.test(w));
    const is_person = run.length < 3 || /['’]s$/.test(text) || /\b(?:Mr|Mrs|Ms|Dr)\.? $/.test(before);
    if (run.length)
      runs.push({ words: run.map((w) => w.toLowerCase()), is_person });
  }
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

function terms_of(text) {
  const terms = new Set(content_words(text).map(concept));
  return /\bDr\.|\bMD\b/.test(text) ? terms.add('doctor') : terms;
}

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
    for (const [i, part] of parts.entries()) {
      const before = parts[i - 1], after = parts[i + 1];
      const leans = before && ANAPHORA.test(part.text);
      list.push({
        ...part, source_terms: all, document_terms: document.terms,
        text: leans ? `${before.text} ${part.text}` : part.text,
        heading_terms: leans ? new Set([...part.heading_terms, ...before.terms]) : part.heading_terms,
        neighbour_terms: new Set([...(before?.terms ?? []), ...(after?.terms ?? [])]),
      });
    }
  }
  return list;
}

// The noun that "which" or "what kind of" asks for: the answer is one of its kind and need not say so.
function kind_asked(question) {
  const match = /\b(?:which|what)(?: (?:kind|type|sort) of)?((?: [\p{L}-]+){1,4}?) (?:is|was|were|are|did|does|do|has|had|have|grew|must|should|can|will|would|treats?)\b/iu.exec(question);
  return new Set(match ? content_words(match[1]).map(concept) : []);
}

function rarity(list, term) {
  return Math.log(1 + list.length / (1 + list.filter((s) => has_term(s.terms, term)).length));
}

// What the question is about: [{terms, places, weight}], one entry for each word and each name.
function question_parts(question, runs, list) {
  const named = new Set(runs.flatMap((run) => run.words).map(concept));
  const kind = kind_asked(question);
  const parts = [];
  const terms = [...new Set(content_words(question).map(concept))].filter((term) => !named.has(term));
  if (terms.every((term) => GENERIC.has(term) || PAPERS.has(term) || kind.has(term)))
    kind.clear();       // then the kind is all that the question is about
  for (const term of terms) {
    const share = GENERIC.has(term) ? GENERIC_WEIGHT : PAPERS.has(term) ? PAPER_WEIGHT : kind.has(term) ? KIND_WEIGHT : 1;
    parts.push({ terms: [term], places: PLACES, weight: share * rarity(list, term) });
  }
  for (const run of runs) {
    const known = run.words.map(concept).filter((term) => list.some((s) => has_term(s.source_terms, term)));
    if (known.length)
      parts.push({ terms: known, places: run.is_person ? NAME_PLACES : PLACES, weight: Math.max(...known.map((term) => rarity(list, term))) });
  }
  return parts;
}

function place_value(statement, term, places) {
  for (const [place, value] of Object.entries(places))
    if (has_term(statement[place], term))
      return value;
  return 0;
}

function coverage(statement, parts) {
  let sum = 0, all = 0;
  for (const { terms, places, weight } of parts) {
    all += weight;
    sum += weight * terms.reduce((n, term) => n + place_value(statement, term, places), 0) / terms.length;
  }
  return all ? sum / all : 0;
}

function speaks_of(statement, runs) {
  return runs.every((run) => run.words.some((w) => statement.document.words.has(w) || statement.document.terms.has(concept(w))));
}

// The statements that may be said, best first: [{statement, score}].
async function rank(model, question, sources) {
  const list = read_sources(sources);
  const runs = names(question);
  const parts = question_parts(question, runs, list);
  const type = wanted(question);
  const own = words(question).filter((w) => /\d/.test(w));
  const about = await model.embed(question);
  const scored = [];
  for (const statement of list) {
    if (!speaks_of(statement, runs) || words(statement.text).length < 3 || (IDENTITY.test(statement.text) && !ASKS_IDENTITY.test(question)))
      continue;
    const covered = coverage(statement, parts);
    if (covered < COVERAGE_MIN || (type && !type.test(without(statement.text, own))))
      continue;
    const likeness = cosine(about, await model.embed(statement.text));
    scored.push({ statement, score: 0.7 * covered + 0.3 * likeness });
  }
  return scored.filter((s) => s.score >= SCORE_MIN).sort((a, b) => b.score - a.score);
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
  const ranked = await rank(model, prompt.question, prompt.sources);
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
