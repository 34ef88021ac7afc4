// Server-sent events out of a stream of text, comments included.
// https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Takes text as it comes, in pieces of any size, and gives the items that it completes. */
export class SseParser {
  #rest = "";
  #data = [];
  #event = "message";

  /** The items in `text`: `{ comment }` or `{ event, data }`. */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    if (line.startsWith(":")) return [{ comment: line.slice(1).trim() }];
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#event = value;
    return [];
  }

  #dispatch() {
    const item = { event: this.#event, data: this.#data.join("\n") };
    const empty = this.#data.length === 0;
    this.#data = [];
    this.#event = "message";
    return empty ? [] : [item];
  }
}
