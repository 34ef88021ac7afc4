// What the page asks the node to do: one request, and its answer or what went wrong in words.

import { problemOf } from "./completion.js";
import { askForKey, keyHeaders } from "./key.js";

/** `{ status, value, problem }`: the answer's status and JSON, and "" or why it was not done. Never throws. */
export async function order(method, url, body) {
  try {
    const headers = { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...keyHeaders() };
    const response = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const value = await response.json().catch(() => null);
    if (response.status === 401) askForKey();
    return { status: response.status, value, problem: response.ok ? "" : problemOf(response.status, value) };
  } catch {
    return { status: 0, value: null, problem: "The node can’t be reached." };
  }
}
