// The turns of a conversation as they are shown: questions, answers, how fast they came, what went wrong.

import { speed } from "./conversation.js";
import { clone, mark, setOptional, setText } from "./dom.js";
import { latency, plural, rate } from "./format.js";
import { showProse } from "./prose.js";

const ENDINGS = { length: "cut at the limit of tokens", tool_calls: "called a tool" };

/** A view of one turn; `retry()` asks the last question again. */
export function turnView(turn, retry) {
  return turn.role === "user" ? questionView() : answerView(retry);
}

function questionView() {
  const { element, slots } = clone("turn-user");
  return { element, update: (turn) => setText(slots.text, turn.text) };
}

function answerView(retry) {
  const { element, slots } = clone("turn-assistant");
  slots.retry.addEventListener("click", retry);
  let shown = null;
  const update = (turn) => {
    if (turn !== shown) show(element, slots, turn); // each token comes by here once for every turn
    shown = turn;
  };
  return { element, update };
}

function show(element, slots, turn) {
  mark(element, "state", turn.state);
  setText(slots.speaker, turn.model);
  slots.reasoning.hidden = turn.reasoning === "";
  showProse(slots["reasoning-text"], turn.reasoning);
  showProse(slots.text, [turn.text, ...turn.tools.map(callText)].filter((text) => text !== "").join("\n\n"));
  setOptional(slots.pending, turn.state === "failed" ? "" : turn.note);
  setOptional(slots.problem, turn.state === "failed" ? turn.note : "");
  setText(slots.stats, statsOf(turn));
  slots.retry.hidden = turn.state !== "failed";
}

function callText({ name, text }) {
  return `Calls \`${name}(${text})\``;
}

/** What is said under an answer: its tokens, how long the first took, how fast the others came. */
export function statsOf(turn) {
  if (turn.state === "waiting") return "";
  const { ttft_s, tokens_per_s } = speed(turn);
  const parts = [];
  if (turn.state === "stopped") parts.push("stopped");
  if (turn.state === "done" && turn.finish in ENDINGS) parts.push(ENDINGS[turn.finish]);
  if (tokens_per_s !== null) parts.push(`${rate(tokens_per_s)} tokens/s`);
  if (ttft_s !== null) parts.push(`first token after ${latency(ttft_s)}`);
  if (turn.tokens > 0) parts.push(plural(turn.tokens, "token"));
  return parts.join(" · ");
}
