// The cards of the placed models: phase, reason, progress, and what they do now.

import { clone, mark, setOptional, setShare, setText } from "./dom.js";
import { isBusy } from "./facts.js";
import { bytes, duration, integer, percent, plural, rate } from "./format.js";

/** A card that shows `{ instance, nodes, now }`. */
export function instanceCard() {
  const { element, slots } = clone("instance-card");
  return { element, update: (shown) => show(element, slots, shown) };
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
  setText(slots.kv, bytes(instance.kv_bytes));
  setText(slots.context, instance.context === null ? "–" : integer(instance.context));
  setOptional(slots.placement, placementOf(instance, nodes));
}

/** What a ready instance is doing; nothing for one that is not ready. */
export function activityOf(instance) {
  if (instance.phase !== "ready") return "";
  return isBusy(instance) ? "busy" : "idle";
}

/** Where an instance runs, and whether that went smoothly. */
export function placementOf(instance, nodes) {
  const names = instance.nodes.map((id) => nodes.find((node) => node.id === id)?.name ?? id);
  const spread = names.length > 1 ? ` as a ${instance.sharding} over ${instance.interconnect}` : "";
  const restarts = instance.restarts > 0 ? `, restarted ${plural(instance.restarts, "time")}` : "";
  return names.length === 0 ? "" : `On ${names.join(", ")}${spread}${restarts}`;
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
