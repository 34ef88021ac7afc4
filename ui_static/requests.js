// The rows of the requests under way, each with a button that stops it.

import { onStop, order } from "./commands.js";
import { clone, mark, setText } from "./dom.js";
import { duration, integer, plural, rate } from "./format.js";

/** A row that shows `{ request, now }`; `stop(id)` resolves to what went wrong, or to "". */
export function requestRow(stop) {
  const { element, slots } = clone("request-row");
  let id = "";
  onStop(slots, () => stop(id));
  const update = ({ request, now }) => {
    id = request.id;
    show(element, slots, request, now);
  };
  return { element, update };
}

function show(element, slots, request, now) {
  mark(element, "state", request.state);
  setText(slots.state, request.state);
  setText(slots.model, request.model);
  setText(slots.reason, reasonOf(request));
  setText(slots.prompt, promptOf(request));
  setText(slots.generated, integer(request.generated_tokens));
  setText(slots.rate, rate(request.tokens_per_s));
  setText(slots.age, duration(now - request.started_at));
  setText(slots.id, request.id);
  slots.stop.setAttribute("aria-label", `Stop request ${request.id}`);
}

/** Why there is nothing new to see of a request, how long that may take, and what it asks for beyond one answer. */
export function reasonOf({ reason, state, sequences, place, eta_s: eta, cached_tokens: cached, priority }) {
  const parts = [reason];
  if (state === "waiting" && place !== null) parts.push(place === 0 ? "it is the next" : `${integer(place)} before it`);
  if (state !== "decode" && cached > 0) parts.push(`${plural(cached, "token")} kept from before`);
  if (state === "prefill" && eta !== null) parts.push(`about ${duration(Math.max(1, Math.ceil(eta)))} to go`);
  if (sequences > 1) parts.push(plural(sequences, "answer"));
  if (priority !== 0) parts.push(`priority ${priority}`);
  return parts.filter((part) => part !== "").join(", ");
}

/** Tokens of the prompt: all of them, or how many are computed while some are not. */
export function promptOf({ prompt_tokens: all, prefilled_tokens: done, state }) {
  const partial = state === "prefill" && done < all;
  return partial ? `${integer(done)} of ${integer(all)}` : integer(all);
}

/** Ask the node to end a request. An unknown one has ended by itself, which is as good. */
export async function cancel(id) {
  const { status, problem } = await order("POST", `/v1/cancel/${encodeURIComponent(id)}`);
  return status === 404 || problem === "" ? "" : `Not stopped: ${problem}`;
}
