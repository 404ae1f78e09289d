// bedrock-validate: what the real service refuses, refused. Each function returns the message of a
// ValidationException, or null when the request is good. Pure.

export const TITAN = 'amazon.titan-embed-text-v2:0';
// No model of Amazon's: one whose vectors have nothing to do with Titan's, so that tenants can change from one to the other.
export const NEXT_TITAN = 'amazon.titan-embed-text-next:0';
export const CLAUDE = 'anthropic.claude-sonnet-4-5-20250929-v1:0';

const MAX_CHARS = 50000;
const MAX_TOKENS = 8192;
const MAX_OUTPUT_TOKENS = 64000;

export const tokens_of = (text) => Math.max(1, Math.ceil(text.length / 4.7));

// Of the account's own profiles, which have names without meaning.
export const APPLICATION_PROFILES = { 'titan-embed-app': TITAN, 'titan-embed-next-app': NEXT_TITAN, 'claude-app': CLAUDE };

const KINDS = { [TITAN]: 'titan', [NEXT_TITAN]: 'titan', [CLAUDE]: 'claude' };

// The foundation model behind an id, an inference profile's id ("us.anthropic...") or an ARN; null.
export function model_behind(id) {
  const name = id.startsWith('arn:') ? id.slice(id.lastIndexOf('/') + 1) : id;
  const base = APPLICATION_PROFILES[name] ?? name.replace(/^(?:us|eu|apac|global)\./, '');
  return Object.hasOwn(KINDS, base) ? base : null;
}

// "titan", "claude" or null.
export function model_kind(id) {
  return KINDS[model_behind(id)] ?? null;
}

// The regions of a profile's models, as GetInferenceProfile would say; null: it is no profile.
export function profile_regions(id) {
  const name = id.startsWith('arn:') ? id.slice(id.lastIndexOf('/') + 1) : id;
  const geography = /^(us|eu|apac|global)\./.exec(name)?.[1] ?? (Object.hasOwn(APPLICATION_PROFILES, name) ? 'one' : null);
  return { us: ['us-east-1', 'us-west-2'], eu: ['eu-central-1', 'eu-west-1'], apac: ['ap-northeast-1'], global: [''], one: ['us-east-1'] }[geography] ?? null;
}

const is_object = (x) => x !== null && typeof x === 'object' && !Array.isArray(x);
const malformed = (what) => `Malformed input request: ${what}, please reformat your input and try again.`;

export function check_titan(body) {
  if (!is_object(body))
    return malformed('#: expected type: JSONObject');
  const extra = Object.keys(body).find((k) => !['inputText', 'dimensions', 'normalize', 'embeddingTypes'].includes(k));
  if (extra !== undefined)
    return malformed(`#: extraneous key [${extra}] is not permitted`);
  if (body.inputText === undefined)
    return malformed('#: required key [inputText] not found');
  if (typeof body.inputText !== 'string')
    return malformed('#/inputText: expected type: String');
  if (!body.inputText.length)
    return malformed('#/inputText: expected minLength: 1, actual: 0');
  if (body.inputText.length > MAX_CHARS)
    return malformed(`#/inputText: expected maxLength: ${MAX_CHARS}, actual: ${body.inputText.length}`);
  if (body.dimensions !== undefined && ![256, 512, 1024].includes(body.dimensions))
    return malformed(`#/dimensions: ${JSON.stringify(body.dimensions)} is not a valid enum value`);
  if (body.normalize !== undefined && typeof body.normalize !== 'boolean')
    return malformed('#/normalize: expected type: Boolean');
  if (body.embeddingTypes !== undefined && JSON.stringify(body.embeddingTypes) !== '["float"]')
    return malformed('#/embeddingTypes: the stand-in knows only ["float"]');
  const count = tokens_of(body.inputText);
  if (count > MAX_TOKENS)
    return `400 Bad Request: Too many input tokens. Max input tokens: ${MAX_TOKENS}, request input token count: ${count} `;
  return null;
}

function check_blocks(blocks, where) {
  if (!Array.isArray(blocks) || !blocks.length)
    return `The content field in the Message object at ${where} is empty. Add a ContentBlock object to the content field and try again.`;
  for (const [i, block] of blocks.entries()) {
    if (!is_object(block) || Object.keys(block).length !== 1 || typeof block.text !== 'string')
      return `The ContentBlock object at ${where}.${i} must hold text and nothing else (the stand-in takes text only).`;
    if (!block.text.trim())
      return `The text field in the ContentBlock object at ${where}.${i} is blank. Add text to the text field, and try again.`;
  }
  return null;
}

function check_messages(messages) {
  if (!Array.isArray(messages) || !messages.length)
    return 'A conversation must start with a user message. Try again with a conversation that starts with a user message.';
  for (const [i, message] of messages.entries()) {
    if (!is_object(message) || Object.keys(message).some((k) => k !== 'role' && k !== 'content') || !['user', 'assistant'].includes(message.role))
      return `Value at 'messages.${i}' failed to satisfy constraint: Member must have a role of user or assistant, and content`;
    if (message.role !== (i % 2 ? 'assistant' : 'user'))
      return i ? 'A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again.'
        : 'A conversation must start with a user message. Try again with a conversation that starts with a user message.';
    const problem = check_blocks(message.content, `messages.${i}.content`);
    if (problem)
      return problem;
  }
  return messages.at(-1).role === 'user' ? null : 'This model does not support assistant message prefill. The conversation must end with a user message.';
}

function check_config(config) {
  if (!is_object(config))
    return "Value at 'inferenceConfig' failed to satisfy constraint: Member must be a structure";
  const extra = Object.keys(config).find((k) => !['maxTokens', 'temperature', 'topP', 'stopSequences'].includes(k));
  if (extra !== undefined)
    return `Unexpected field type: inferenceConfig.${extra}`;
  const { maxTokens, temperature, topP, stopSequences } = config;
  if (maxTokens !== undefined && !(Number.isInteger(maxTokens) && maxTokens >= 1))
    return "Value at 'inferenceConfig.maxTokens' failed to satisfy constraint: Member must have value greater than or equal to 1";
  if (maxTokens > MAX_OUTPUT_TOKENS)
    return `The maximum tokens you requested exceeds the model limit of ${MAX_OUTPUT_TOKENS}. Try again with a maximum tokens value that is lower than ${MAX_OUTPUT_TOKENS}.`;
  for (const [name, value] of Object.entries({ temperature, topP }))
    if (value !== undefined && !(typeof value === 'number' && value >= 0 && value <= 1))
      return `Value at 'inferenceConfig.${name}' failed to satisfy constraint: Member must be between 0 and 1`;
  if (temperature !== undefined && topP !== undefined)
    return 'The model returned the following errors: `temperature` and `top_p` cannot both be specified for this model. Please use only one.';
  if (stopSequences !== undefined && !(Array.isArray(stopSequences) && stopSequences.every((s) => typeof s === 'string' && s)))
    return "Value at 'inferenceConfig.stopSequences' failed to satisfy constraint: Member must be a list of strings";
  return null;
}

function check_guardrail(config) {
  const names = ['guardrailIdentifier', 'guardrailVersion', 'trace', 'streamProcessingMode'];
  if (!is_object(config) || Object.keys(config).some((k) => !names.includes(k)) || names.slice(0, 2).some((k) => typeof config[k] !== 'string'))
    return "Value at 'guardrailConfig' failed to satisfy constraint: Member must have guardrailIdentifier and guardrailVersion";
  return /^(DRAFT|[1-9]\d{0,7})$/.test(config.guardrailVersion) ? null
    : 'The guardrail identifier or version provided in the request does not exist.';
}

export function check_converse(body) {
  if (!is_object(body))
    return 'The request body is not a JSON object.';
  const extra = Object.keys(body).find((k) => !['messages', 'system', 'inferenceConfig', 'guardrailConfig', 'requestMetadata'].includes(k));
  if (extra !== undefined)
    return `Unexpected field type: ${extra}`;
  if (body.system !== undefined && (!Array.isArray(body.system) || check_blocks(body.system, 'system')))
    return 'The system field must be a list of SystemContentBlock objects with text.';
  return check_messages(body.messages) ?? (body.inferenceConfig === undefined ? null : check_config(body.inferenceConfig))
    ?? (body.guardrailConfig === undefined ? null : check_guardrail(body.guardrailConfig));
}
