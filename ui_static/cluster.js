// The cluster's half of the page: from the facts to the cards and rows.

import { patchList, setText } from "./dom.js";
import { coordinator, heldOn, instances, models, nodes, requests } from "./facts.js";
import { plural } from "./format.js";
import { instanceCard, withdraw } from "./instances.js";
import { modelRow } from "./models.js";
import { nodeCard } from "./nodes.js";
import { cancel, requestRow } from "./requests.js";

const at = (id) => document.getElementById(id);

/** Show all facts; `now` is in seconds since 1970. */
export function showCluster(state, now) {
  const all = { nodes: nodes(state), models: models(state), instances: instances(state), requests: requests(state) };
  setText(at("summary"), summaryOf(all));
  setText(at("requests-count"), all.requests.length === 0 ? "" : String(all.requests.length));
  keepFocus(at("instances"), at("instances-title"), () => {
    const cards = all.instances.map((instance) => ({ instance, nodes: all.nodes, now }));
    showList("instances", cards, ({ instance }) => instance.id, () => instanceCard(withdraw));
  });
  keepFocus(at("requests"), at("requests-title"), () => {
    showList("requests", all.requests.map((request) => ({ request, now })), ({ request }) => request.id, () => requestRow(cancel));
  });
  const decides = coordinator(state);
  const cards = all.nodes.map((node) => ({
    node, held: heldOn(state, node.id), here: node.id === state.node, coordinates: all.nodes.length > 1 && node.id === decides, now,
  }));
  showList("nodes", cards, ({ node }) => node.id, nodeCard);
  const rows = all.models.map((model) => ({ model, nodes: all.nodes }));
  showList("models", rows, ({ model }) => `${model.node}/${model.id}`, modelRow);
}

function showList(id, items, keyOf, makeView) {
  patchList(at(id), items, keyOf, makeView);
  const empty = at(`${id}-empty`);
  if (empty !== null) empty.hidden = items.length > 0;
}

/** When the focused element goes away with its row, its section's title takes the focus. */
function keepFocus(container, refuge, change) {
  const inside = container.contains(document.activeElement);
  change();
  if (inside && !container.contains(document.activeElement)) refuge.focus({ preventScroll: true });
}

/** The cluster in one line. */
export function summaryOf({ nodes, instances, requests }) {
  const ready = instances.filter((instance) => instance.phase === "ready").length;
  const failed = instances.filter((instance) => instance.phase === "failed").length;
  const coming = instances.length - ready - failed;
  const parts = [plural(nodes.length, "machine"), `${plural(ready, "model")} ready`];
  if (coming > 0) parts.push(`${coming} on the way`);
  if (failed > 0) parts.push(`${failed} failed`);
  parts.push(plural(requests.length, "request"));
  return parts.join(" · ");
}
