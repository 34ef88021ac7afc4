// What the form for placing a model says, as requests to the node and in words. Pure.

import { plural } from "./format.js";
import { layersOf } from "./stages.js";

/** The address of the choices for what the form says; what is left empty is chosen by the node. */
export function previewsUrl({ model, sharding, stages, context, nodes, kv_bits, draft }) {
  const query = new URLSearchParams({ model });
  for (const [name, value] of Object.entries({ sharding, stages, context, nodes: nodes.join(","), kv_bits, draft })) {
    if (value !== "") query.set(name, value);
  }
  return `/v1/instances/previews?${query}`;
}

/** The body that places exactly this choice of the form's, whatever has changed since it was shown. */
export function bodyOf({ model, kv_bits: bits, draft }, { sharding, interconnect, context, stages }) {
  return {
    ...(bits === "" ? {} : { kv_bits: Number(bits) }),
    ...(draft === "" ? {} : { draft }),
    model, sharding, interconnect, context,
    nodes: stages.flatMap((stage) => stage.nodes),
    layers: stages.map((stage) => stage.end - stage.first),
    stages: stages.length,
    tensor: stages[0].nodes.length,
  };
}

/** Where a choice puts the model: "study: layers 1–3 → attic: layer 4". */
export function whereOf({ stages }) {
  if (stages.length === 1) return stages[0].names.join(" + ");
  return stages.map((stage) => `${stage.names.join(" + ")}: ${layersOf(stage).toLowerCase()}`).join(" → ");
}

/** What a choice is besides its place: how it is divided, for how long texts. */
export function kindOf({ sharding, interconnect, stages, context }) {
  const ranks = stages.reduce((count, stage) => count + stage.nodes.length, 0);
  const divided = ranks > 1 ? [sharding, ...(interconnect === "ring" ? [] : [interconnect])] : [];
  return [...divided, plural(context, "token")].join(", ");
}
