// An answer's text as a model writes it: code is set apart, everything else stays as it is.

import { mark, setText } from "./dom.js";

const FENCE = /^```[^\n`]*\n([\s\S]*?)(?:\n?```[ \t]*(?:\n|$)|$)/;
const TICKS = /^`([^`\n]+)`/;

/** The parts of a text, in order: `{ kind: "plain" | "code" | "block", text }`. */
export function partsOf(text) {
  const parts = [];
  let plain = "";
  const flush = () => {
    if (plain !== "") parts.push({ kind: "plain", text: plain });
    plain = "";
  };
  for (let at = 0; at < text.length; ) {
    const tick = text.indexOf("`", at);
    plain += text.slice(at, tick < 0 ? text.length : tick);
    if (tick < 0) break;
    const found = codeAt(text, tick);
    if (found === null) {
      plain += "`";
      at = tick + 1;
    } else {
      if (found.part.kind === "block") plain = plain.replace(/\n+$/, ""); // it has a margin of its own
      flush();
      parts.push(found.part);
      at = tick + found.length;
    }
  }
  flush();
  return parts;
}

function codeAt(text, at) {
  const rest = text.slice(at);
  const fence = at === 0 || text[at - 1] === "\n" ? FENCE.exec(rest) : null;
  if (fence !== null) return { part: { kind: "block", text: fence[1] }, length: fence[0].length };
  const ticks = TICKS.exec(rest);
  if (ticks !== null) return { part: { kind: "code", text: ticks[1] }, length: ticks[0].length };
  return null;
}

const TAGS = { plain: "span", code: "code", block: "pre" };

/** Show a text; parts that stay as they were are left alone, so that a selection outlives new tokens. */
export function showProse(container, text) {
  const parts = partsOf(text);
  parts.forEach((part, i) => {
    let element = container.children[i];
    if (element?.dataset.kind !== part.kind) {
      while (container.children.length > i) container.lastElementChild.remove();
      element = container.appendChild(document.createElement(TAGS[part.kind]));
      mark(element, "kind", part.kind);
    }
    setText(element, part.text);
  });
  while (container.children.length > parts.length) container.lastElementChild.remove();
}
