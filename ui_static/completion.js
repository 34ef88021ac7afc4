// One chat completion over HTTP, as a stream of small events.

import { SseParser } from "./sse.js";

/** The answer can't be had, or not the rest of it; `message` is for a person to read. */
export class CompletionError extends Error {
  /** The node lets nobody in without an API key, or without another one. */
  wantsKey;

  constructor(message, { wantsKey = false } = {}) {
    super(message);
    this.wantsKey = wantsKey;
  }
}

/** Each chunk says how many tokens there are so far: several may come in one. */
const STREAM_OPTIONS = { include_usage: true, continuous_usage_stats: true };

const WORDS = {
  0: "The node can’t be reached. Is it still running?",
  404: "The node does not have this model.",
  429: "The node has too much to do. Try again in a moment.",
  503: "The node can’t answer now. Try again in a moment.",
};

/** What went wrong, in words, from an HTTP status and the body that came with it. */
export function problemOf(status, body) {
  const message = body?.error?.message ?? (typeof body?.error === "string" ? body.error : "");
  return message || WORDS[status] || `The node answered with HTTP status ${status}.`;
}

/** The events in one item of the stream: waiting, text, reasoning, tool, usage, finish, end. */
export function eventsOf(item) {
  if (item.comment !== undefined) {
    const said = item.comment === "" || /^(ping|keep-?alive)$/i.test(item.comment);
    return said ? [] : [{ kind: "waiting", reason: item.comment }];
  }
  if (item.data === "[DONE]") return [{ kind: "end" }];
  const body = JSON.parse(item.data);
  if (body.error !== undefined || item.event === "error") throw new CompletionError(problemOf(500, body));
  const events = (body.choices ?? []).flatMap(eventsOfChoice);
  if (body.usage) events.push({ kind: "usage", tokens: body.usage.completion_tokens });
  return events;
}

function eventsOfChoice({ delta = {}, finish_reason: reason }) {
  const events = [];
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  if (reasoning) events.push({ kind: "reasoning", text: reasoning });
  if (delta.content) events.push({ kind: "text", text: delta.content });
  for (const call of delta.tool_calls ?? []) {
    events.push({ kind: "tool", name: call.function?.name ?? "", text: call.function?.arguments ?? "" });
  }
  if (reason) events.push({ kind: "finish", reason });
  return events;
}

/** Ask, and give events as they come; `headers` show who asks. Aborting `signal` ends the request, on the node too. */
export async function* complete(request, headers, signal) {
  const response = await send(request, headers, signal);
  if (!response.ok) {
    const problem = problemOf(response.status, await jsonOf(response));
    throw new CompletionError(problem, { wantsKey: response.status === 401 });
  }
  const parser = new SseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await read(reader, signal);
    if (done) throw new CompletionError("The connection closed before the answer was finished.");
    for (const item of parser.push(value)) {
      for (const event of eventsOf(item)) {
        if (event.kind === "end") return;
        yield event;
      }
    }
  }
}

async function send(request, headers, signal) {
  try {
    return await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify({ ...request, stream: true, stream_options: STREAM_OPTIONS }),
      signal,
    });
  } catch (error) {
    throw signal.aborted ? error : new CompletionError(problemOf(0, null));
  }
}

async function read(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    throw signal.aborted ? error : new CompletionError("The connection to the node was lost in the middle of the answer.");
  }
}

async function jsonOf(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}
