// A conversation: a pure function from its turns so far and one event to the turns after it.

const MEASURABLE_S = 0.05;

/** Nothing was said yet. */
export const SILENCE = Object.freeze({ turns: Object.freeze([]), next: 0 });

/** The conversation after an event; `at` is in seconds, of any clock that does not jump. */
export function reduce(conversation, event) {
  switch (event.kind) {
    case "new":
      return { ...conversation, turns: [] };
    case "ask":
      return withQuestion(conversation, event);
    case "retry":
      return { ...conversation, turns: conversation.turns.slice(0, -2) };
    default:
      return { ...conversation, turns: [...conversation.turns.slice(0, -1), answer(conversation.turns.at(-1), event)] };
  }
}

function withQuestion({ turns, next }, { text, model, at }) {
  const question = { id: next, role: "user", text };
  const reply = {
    id: next + 1, role: "assistant", model, text: "", reasoning: "", tools: [], state: "waiting",
    note: "Waiting for the node", askedAt: at, firstAt: null, lastAt: null, pieces: 0, tokens: 0, tokensAtFirst: 0, finish: null,
  };
  return { turns: [...turns, question, reply], next: next + 2 };
}

function answer(turn, event) {
  switch (event.kind) {
    case "waiting":
      return { ...turn, note: event.reason };
    case "text":
      return { ...grown(turn, event.at), text: turn.text + event.text };
    case "reasoning":
      return { ...grown(turn, event.at), reasoning: turn.reasoning + event.text };
    case "tool":
      return { ...grown(turn, event.at), tools: withCall(turn.tools, event) };
    case "usage":
      return { ...turn, tokens: event.tokens, tokensAtFirst: turn.pieces > 1 ? turn.tokensAtFirst : event.tokens };
    case "finish":
      return { ...turn, finish: event.reason };
    case "done":
    case "stopped":
      return { ...turn, state: event.kind, note: "" };
    case "failed":
      return { ...turn, state: "failed", note: event.message };
    default:
      throw new Error(`no such event: ${event.kind}`);
  }
}

function grown(turn, at) {
  return { ...turn, state: "answering", note: "", firstAt: turn.firstAt ?? at, lastAt: at, pieces: turn.pieces + 1 };
}

function withCall(tools, { name, text }) {
  if (name !== "" || tools.length === 0) return [...tools, { name, text }];
  return [...tools.slice(0, -1), { ...tools.at(-1), text: tools.at(-1).text + text }];
}

/** Whether an answer is under way. */
export function isAnswering({ turns }) {
  return ["waiting", "answering"].includes(turns.at(-1)?.state);
}

/** What is sent to the model: every question with an answer to it, and the last question. */
export function messages({ turns }) {
  const sent = [];
  for (let i = 0; i + 1 < turns.length; i += 2) {
    const [question, reply] = [turns[i], turns[i + 1]];
    const last = i + 2 >= turns.length;
    if (!last && reply.text === "") continue;
    sent.push({ role: "user", content: question.text });
    if (!last) sent.push({ role: "assistant", content: reply.text });
  }
  return sent;
}

/**
 * How fast an answer came: `ttft_s` to its first token, then `tokens_per_s`; null where not known. Over
 * less than MEASURABLE_S a rate would tell about the network's packets rather than about the model.
 */
export function speed({ tokens, tokensAtFirst, askedAt, firstAt, lastAt }) {
  const span = lastAt - firstAt;
  return {
    ttft_s: firstAt === null ? null : firstAt - askedAt,
    tokens_per_s: span >= MEASURABLE_S ? (tokens - tokensAtFirst) / span : null,
  };
}
