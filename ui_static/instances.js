// The cards of the placed models: phase, reason, progress, and what they do now.

import { cachesOf, kvName, kvShares } from "./caches.js";
import { onStop, order } from "./commands.js";
import { clone, mark, patchList, setOptional, setShare, setText } from "./dom.js";
import { isBusy } from "./facts.js";
import { bytes, duration, integer, percent, plural, rate } from "./format.js";
import { stageRow } from "./stages.js";

/** A card that shows `{ instance, nodes, now }`; `stop(id)` resolves to what went wrong, or to "". */
export function instanceCard(stop) {
  const { element, slots } = clone("instance-card");
  let id = "";
  onStop(slots, () => stop(id));
  const update = (shown) => {
    id = shown.instance.id;
    show(element, slots, shown);
  };
  return { element, update };
}

/** Have an instance run no more. An unknown one has ended already, which is as good. */
export function withdraw(id) {
  return order("DELETE", `/v1/instances/${encodeURIComponent(id)}`).then(({ status, problem }) => (status === 404 ? "" : problem));
}

function show(element, slots, { instance, nodes, now }) {
  const ready = instance.phase === "ready";
  mark(element, "phase", instance.phase);
  mark(element, "activity", activityOf(instance));
  setText(slots.model, instance.model);
  setText(slots.phase, instance.phase);
  setText(slots.activity, activityOf(instance));
  setText(slots.since, `for ${duration(now - instance.since)}`);
  setOptional(slots.reason, instance.reason.toLowerCase() === instance.phase ? "" : instance.reason);
  showProgress(slots, ready ? 1 : instance.progress, ready || instance.phase === "failed");
  setText(slots.rate, rate(instance.tokens_per_s));
  setText(slots.running, integer(instance.running));
  setText(slots.prefilling, integer(instance.prefilling));
  setText(slots.waiting, integer(instance.waiting));
  showCaches(slots, instance);
  setText(slots.context, instance.context === null ? "–" : integer(instance.context));
  slots.stop.setAttribute("aria-label", `Stop model ${instance.model}, instance ${instance.id}`);
  showStages(slots.stages, instance, nodes);
  setOptional(slots.placement, placementOf(instance, nodes));
  setOptional(slots.successor, successorOf(instance, nodes));
}

function showCaches(slots, instance) {
  const shares = kvShares(instance);
  setText(slots["kv-name"], kvName(instance));
  setText(slots.kv, bytes(instance.kv_bytes));
  slots["kv-meter"].hidden = shares === null;
  setShare(slots["kv-used"], shares?.used ?? 0);
  setShare(slots["kv-kept"], shares?.kept ?? 0);
  if (shares !== null) slots["kv-meter"].setAttribute("aria-label", `KV cache: ${percent(shares.used + shares.kept)} in use`);
  setOptional(slots.caches, cachesOf(instance));
}

/** A model on one machine has nothing to divide. */
function showStages(container, { stages, ranks }, nodes) {
  const shown = ranks.length > 1 ? stages : [];
  container.hidden = shown.length === 0;
  const rows = shown.map((stage, number) => ({ stage, number, ranks: ranks.filter((one) => one.stage === number), nodes }));
  patchList(container, rows, ({ number }) => number, stageRow);
}

/** What is made ready to take over. */
export function successorOf({ successor }, nodes) {
  if (successor === null) return "";
  const far = successor.progress === null ? "" : `, ${percent(successor.progress)}`;
  return `Next: on ${namesOf(successor.nodes, nodes).join(", ")} (${successor.phase}${far})`;
}

function namesOf(ids, nodes) {
  return ids.map((id) => nodes.find((node) => node.id === id)?.name ?? id);
}

/** What a ready instance is doing; nothing for one that is not ready. */
export function activityOf(instance) {
  if (instance.phase !== "ready") return "";
  return isBusy(instance) ? "busy" : "idle";
}

/** Where an instance runs, or how it is divided, and whether that went smoothly. */
export function placementOf(instance, nodes) {
  const [only, ...others] = namesOf(instance.nodes, nodes);
  if (only === undefined) return "";
  const where = others.length === 0 ? `On ${only}` : `Divided as ${instance.sharding} over ${instance.interconnect}`;
  return where + (instance.restarts > 0 ? `, restarted ${plural(instance.restarts, "time")}` : "");
}

function showProgress({ progress, bar }, share, over) {
  mark(progress, "over", String(over));
  mark(progress, "known", String(share !== null));
  setShare(bar, share ?? 0);
  progress.setAttribute("aria-hidden", String(over));
  if (share === null) progress.removeAttribute("aria-valuenow");
  else progress.setAttribute("aria-valuenow", String(Math.round(share * 100)));
  progress.title = share === null || over ? "" : percent(share);
}
