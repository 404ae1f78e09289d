// bedrock-text: English words for the stand-in model: tokens, stems, statements. Pure functions.

// Words that say nothing about the subject of a text or a question.
const STOP = new Set(`a about above after again against all also am an and any are as at be because been before being below between both but by
can could did do does doing done down during each either else ever few for from further get gets getting give given gives go goes had has have having he her
here hers herself him himself his how however i if in into is it its itself just let made make makes many may me might more most much must my myself
near no nor not now of off on once one only onto or other our ours out over own per please quite rather same she should since so some still such than that
the their theirs them themselves then there these they this those though through to too under until up upon us very was we were what when where whether which while
who whom whose why will with within without would yet you your yours mr mrs ms dr patient client tell show shows showed say says said`.split(/\s+/));

// Words of clinical language that mean the same to a reader; each group is one word to us. A general
// dictionary of the trade, in place of what a large model has learned.
const SYNONYMS = [
  'medicine medication drug pill tablet prescription prescribe', 'painkiller analgesic nsaid non-steroidal anti-inflammatory',
  'doctor physician clinician', 'surgery operation operative surgical procedure', 'surgeon surgeons', 'weight weigh weighs weighed',
  'kidney renal nephrology nephropathy', 'heart cardiac cardiology', 'lung pulmonary', 'liver hepatic', 'eye ocular ophthalmic', 'stomach gastric',
  'tumor tumour neoplasm carcinoid cancer malignancy', 'bacteria bacterium organism germ', 'bleed bleeding blood-loss hemorrhage', 'allergy allergic allergies',
  'hospital ward inpatient', 'admit admission admitted', 'discharge discharged', 'house home dwelling', 'apartment unit flat', 'landlord owner',
  'appointment visit follow-up', 'injection inject injected intravitreal', 'big large size measure measures measuring', 'recommend recommended advise advised advice suggest suggested recommendation',
  'co-payment copayment copay', 'month monthly', 'week weekly', 'year yearly annual', 'day daily', 'sugar glucose', 'hba1c a1c', 'sodium na', 'potassium k+',
  'antibiotic antimicrobial', 'breathlessness dyspnea', 'wound ulcer sore', 'walk walking', 'fall falls', 'benefit benefits', 'stop stopped discontinue discontinued',
  'begin start', 'find finding', 'lose loss', 'leg legs', 'score scored scores points', 'nodule nodules', 'mistake error wrongly',
];
// Forms that no suffix rule finds.
const IRREGULAR = new Map(Object.entries({
  held: 'hold', grew: 'grow', grown: 'grow', fell: 'fall', fallen: 'fall', lost: 'lose', found: 'find', began: 'begin', begun: 'begin', gave: 'give', given: 'give',
  took: 'take', taken: 'take', went: 'go', felt: 'feel', slept: 'sleep', drank: 'drink', broke: 'break', broken: 'break', paid: 'pay', sent: 'send', wrote: 'write',
  written: 'write', brought: 'bring', bought: 'buy', taught: 'teach', rose: 'rise', risen: 'rise', swollen: 'swell', drove: 'drive', driven: 'drive', spoke: 'speak',
  died: 'die', death: 'die', bled: 'bleed', left: 'leave', kept: 'keep', met: 'meet', worse: 'bad', worst: 'bad', children: 'child', feet: 'foot', teeth: 'tooth',
}));
const STEM_CLASS = new Map();

export function stem(word) {
  let w = IRREGULAR.get(word) ?? word;
  if (w.length > 4 && w.endsWith('ies'))
    w = `${w.slice(0, -3)}y`;
  else if (w.length > 4 && /(s|x|z|ch|sh)es$/.test(w))
    w = w.slice(0, -2);
  else if (w.length > 3 && w.endsWith('s') && !/(ss|us|is)$/.test(w))
    w = w.slice(0, -1);
  for (const suffix of ['ingly', 'edly', 'ing', 'ed', 'ly']) {
    const root = w.slice(0, -suffix.length);
    if (!w.endsWith(suffix) || root.length < 3 || !/[aeiouy]/.test(root))
      continue;
    w = /([bdfgmnprt])\1$/.test(root) ? root.slice(0, -1) : root;
    break;
  }
  for (const [suffix, by] of [['ational', 'ate'], ['ation', 'ate'], ['ement', ''], ['ness', ''], ['ility', 'le'], ['ivity', 'ive'], ['tion', 't'], ['ment', '']])
    if (w.endsWith(suffix) && w.length - suffix.length >= 4) {
      w = w.slice(0, -suffix.length) + by;
      break;
    }
  if (w.length > 4 && w.endsWith('e'))
    w = w.slice(0, -1);
  return w.length > 3 && w.endsWith('y') ? `${w.slice(0, -1)}i` : w;
}

for (const group of SYNONYMS) {
  const words = group.split(' ');
  for (const word of words)
    STEM_CLASS.set(stem(word), stem(words[0]));
}

// The stem that stands for a word and for its synonyms.
export function concept(word) {
  const s = stem(word);
  return STEM_CLASS.get(s) ?? s;
}

// Words that shape a question more than they say what it is about.
export const GENERIC = new Set(`happen kind type sort large big small severe severity long often far take taken took use need receive show find found see seen level dose
  score value result amount number name date time size call ask order place put know mean describe cause reason keep carry go went come came now next first last
  current currently recent recently worse better change old new high low come left seen made make reach report reported record recorded present main exact
  start give given phone telephone`.split(/\s+/).map(concept));
// Words as they stand: letters and digits with inner hyphens, points, slashes; "Hollis's" is "Hollis".
export function words(text) {
  const out = [];
  for (const match of text.matchAll(/[\p{L}\p{N}]+(?:[-.,/'’+][\p{L}\p{N}]+)*\+?/gu))
    out.push(match[0].replace(/['’]s$/i, '').replace(/['’]/g, ''));
  return out;
}

// Lower-case content words; compound ones ("co-payment", "PET-CT") come whole and in parts.
export function content_words(text) {
  const out = [];
  for (const raw of words(text)) {
    const word = raw.toLowerCase();
    if (STOP.has(word))
      continue;
    out.push(word);
    if (/\p{L}[-/]|[-/]\p{L}/u.test(word))
      for (const part of word.split(/[-/]/))
        if (part.length > 1 && !STOP.has(part))
          out.push(part);
  }
  return out;
}

export const is_stop_word = (word) => STOP.has(word.toLowerCase());

const TITLES = /\b(?:Dr|Mr|Mrs|Ms|Prof|St|No|vs|approx|e\.g|i\.e|[A-Z])\.$/;

// A text as statements [{text, heading}]: sentences of paragraphs (lines that were wrapped are joined),
// table rows and list items, each with the heading or the table's head that it stands under.
export function statements(text) {
  const out = [];
  let heading = '', table_head = '', paragraph = '';
  const flush = () => {
    for (const sentence of sentences(paragraph))
      out.push({ text: sentence, heading });
    paragraph = '';
  };
  let is_after_gap = true;
  const lines = text.split(/[\n\f]/).map((line) => line.trim());
  for (const [i, line] of lines.entries()) {
    const begins = is_after_gap && !/^\p{Ll}/u.test(lines[i + 1] ?? '');
    is_after_gap = !line;
    const is_row = /^\|/.test(line) || /\S(?: {3,}|\t)\S/.test(line);
    if (!is_row && table_head && line)
      table_head = '';
    if (!line || /^[|\s:-]+$/.test(line)) {
      if (!line)
        flush();
      continue;
    }
    if (is_row) {
      flush();
      const row = line.replace(/^\||\|$/g, '').trim();
      out.push({ text: row, heading: table_head ? `${heading}: ${table_head}` : heading });
      table_head ||= row;
    } else if (/^#{1,6} /.test(line) || is_heading(line, begins)) {
      flush();
      heading = line.replace(/^#+ /, '');
    } else if (/^(?:[-*•]|\d{1,2}\.) /.test(line) || /^\**[A-Z][\w /]{1,28}:/.test(line)) {
      flush();
      paragraph = line;
    } else
      paragraph = paragraph ? `${paragraph} ${line}` : line;
  }
  flush();
  return out;
}

// In capitals, or a few words without a stop on a line of their own after an empty one.
function is_heading(line, begins) {
  if (line.length >= 70 || /[.;,:!?]$/.test(line) || !/\p{L}{3}/u.test(line) || /\d{3}/.test(line))
    return false;
  return line === line.toUpperCase() || (begins && line.length < 45 && /^\p{Lu}[^|=]*$/u.test(line) && line.split(' ').length <= 7);
}

function sentences(paragraph) {
  const out = [];
  let start = 0;
  for (const match of paragraph.matchAll(/[.!?]["')\]]?\s+(?=["'(*]*[\p{Lu}\p{N}])/gu)) {
    const end = match.index + match[0].trimEnd().length;
    const piece = paragraph.slice(start, end);
    if (TITLES.test(piece) || /^\**(?:\d{1,2}\.)?\s*$/.test(piece) || /^\d{1,2}\.$/.test(piece.trim()))
      continue;
    out.push(piece.trim());
    start = match.index + match[0].length;
  }
  const rest = paragraph.slice(start).trim();
  return rest ? [...out, rest] : out;
}
