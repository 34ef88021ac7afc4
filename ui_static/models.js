// The rows of the models in the machines' folders.

import { clone, mark, setOptional, setText } from "./dom.js";
import { bytes, integer } from "./format.js";

/** A row that shows `{ model, nodes }`. */
export function modelRow() {
  const { element, slots } = clone("model-row");
  return { element, update: (shown) => show(element, slots, shown) };
}

function show(element, slots, { model, nodes }) {
  mark(element, "usable", String(model.problem === ""));
  setText(slots.name, model.id);
  slots.name.title = model.path;
  setOptional(slots.architecture, model.architecture);
  setText(slots.traits, traitsOf(model, nodes).join(", "));
  setText(slots.context, model.context == null ? "–" : integer(model.context));
  setText(slots.size, bytes(model.size_bytes));
  setOptional(slots.problem, model.problem);
}

/** What sets a model apart, in words; where it lies only matters with several machines. */
export function traitsOf(model, nodes) {
  const traits = [];
  if (model.built_in) traits.push("built in");
  if (model.quantization !== "") traits.push(model.quantization);
  if (model.embeds) traits.push("embeddings");
  if (model.tools) traits.push("tools");
  if (model.read_only && !model.built_in) traits.push("read-only folder");
  if (nodes.length > 1) traits.push(`on ${nodes.find((node) => node.id === model.node)?.name ?? model.node}`);
  return traits;
}
