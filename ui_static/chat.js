// The chat box: asks, shows the answer as it comes, stops it.

import { complete, CompletionError } from "./completion.js";
import { isAnswering, messages, reduce, SILENCE } from "./conversation.js";
import { patchList, setText } from "./dom.js";
import { choices } from "./facts.js";
import { askForKey, keyHeaders } from "./key.js";
import { turnView } from "./turns.js";

/** As mlx_lm does by default, so that a question gets the same answer each time; small models wander above it. */
const TEMPERATURE = 0;
/** So far from the end of the conversation, in pixels, it still counts as being read at its end. */
const NEAR_END_PX = 48;

const at = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;

export class Chat {
  #conversation = SILENCE;
  #abort = null;
  #announce;
  #offered = "";

  /** Take over the chat's part of the document; `announce(text)` tells a screen reader. */
  constructor(announce) {
    this.#announce = announce;
    at("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    at("chat-text").addEventListener("keydown", (event) => this.#onKey(event));
    at("chat-new").addEventListener("click", () => this.#startAnew());
  }

  /** Offer the models that the cluster has; the one that is chosen stays chosen. */
  offer(state) {
    const models = choices(state);
    const offered = JSON.stringify(models);
    if (offered === this.#offered) return;
    this.#offered = offered;
    const select = at("chat-model");
    const chosen = select.value;
    select.replaceChildren(...models.map(optionOf));
    if (models.some(({ model }) => model === chosen)) select.value = chosen;
    select.disabled = models.length === 0;
  }

  #onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!isAnswering(this.#conversation)) at("chat-form").requestSubmit();
  }

  #submit() {
    if (isAnswering(this.#conversation)) {
      this.#abort.abort();
      return;
    }
    const text = at("chat-text").value.trim();
    if (text === "" || at("chat-model").value === "") return;
    at("chat-text").value = "";
    this.#ask(text);
  }

  #startAnew() {
    this.#abort?.abort();
    this.#take({ kind: "new" });
    at("chat-text").focus();
  }

  #retry() {
    const question = this.#conversation.turns.at(-2);
    if (isAnswering(this.#conversation) || question === undefined) return;
    this.#take({ kind: "retry" });
    this.#ask(question.text);
    at("chat-text").focus();
  }

  async #ask(text) {
    const abort = new AbortController();
    const model = at("chat-model").value;
    this.#abort = abort;
    this.#take({ kind: "ask", text, model, at: seconds() });
    scrollToEnd();
    const request = { model, messages: messages(this.#conversation), temperature: TEMPERATURE };
    const end = await this.#receive(request, abort.signal);
    if (this.#abort !== abort || this.#conversation.turns.length === 0) return; // a new chat has begun
    this.#abort = null;
    this.#take(end);
    this.#announce(END_WORDS[end.kind]);
  }

  /** Show what comes; gives the event that ends the turn. */
  async #receive(request, signal) {
    try {
      for await (const event of complete(request, keyHeaders(), signal)) {
        if (signal.aborted) break;
        this.#take({ ...event, at: seconds() });
      }
    } catch (error) {
      if (signal.aborted) return { kind: "stopped" };
      if (error.wantsKey) askForKey();
      return { kind: "failed", message: wordsOf(error) };
    }
    return { kind: signal.aborted ? "stopped" : "done" };
  }

  #take(event) {
    this.#conversation = reduce(this.#conversation, event);
    this.#show();
  }

  #show() {
    const transcript = at("transcript");
    const atEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < NEAR_END_PX;
    patchList(at("turns"), this.#conversation.turns, ({ id }) => id, (turn) => turnView(turn, () => this.#retry()));
    at("chat-empty").hidden = this.#conversation.turns.length > 0;
    const answering = isAnswering(this.#conversation);
    setText(at("chat-send"), answering ? "Stop" : "Send");
    at("chat-send").classList.toggle("stopping", answering);
    if (atEnd) scrollToEnd();
  }
}

const END_WORDS = { done: "The answer is finished.", stopped: "The answer was stopped.", failed: "The answer failed." };

function wordsOf(error) {
  return error instanceof CompletionError ? error.message : `The answer can’t be read: ${error.message}`;
}

function scrollToEnd() {
  at("transcript").scrollTop = at("transcript").scrollHeight;
}

function optionOf({ model, phase }) {
  const note = phase === null ? " (loads when asked)" : phase === "ready" ? "" : ` (${phase})`;
  return new Option(`${model}${note}`, model);
}
