// What the page asks the node to do: one request, and its answer or what went wrong in words.

import { problemOf } from "./completion.js";
import { setOptional, setText } from "./dom.js";
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

/** Have a view's stop button do `stop()`, which resolves to what went wrong, or to "" and the view goes. */
export function onStop({ stop: button, problem: problemSlot }, stop) {
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    showStopping(button, true);
    const problem = await stop();
    setOptional(problemSlot, problem);
    if (problem !== "") showStopping(button, false);
  });
}

// Not `disabled`: that would take the focus away from whoever pressed the button by key.
function showStopping(button, stopping) {
  button.setAttribute("aria-disabled", String(stopping));
  setText(button, stopping ? "Stopping" : "Stop");
}
