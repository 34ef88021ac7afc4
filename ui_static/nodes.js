// The cards of the machines: what computes, what is in memory, how busy it is.

import { clone, mark, setOptional, setShare, setText } from "./dom.js";
import { memoryParts } from "./facts.js";
import { bytes, duration, gigaPerSecond, integer, percent } from "./format.js";

/** A card that shows `{ node, held, here, coordinates, now }`; `held` is what its models hold, in bytes. */
export function nodeCard() {
  const { element, slots } = clone("node-card");
  return { element, update: (shown) => show(slots, shown) };
}

function show(slots, { node, held, here, coordinates, now }) {
  setText(slots.name, node.name);
  slots.here.hidden = !here;
  slots.coordinator.hidden = !coordinates;
  slots.leaving.hidden = !node.leaving;
  setText(slots.version, `version ${node.version}`);
  setText(slots.kind, node.accelerator.kind);
  setText(slots.accelerator, acceleratorOf(node.accelerator));
  setOptional(slots.note, node.accelerator.note);
  showMemory(slots, node, held);
  setText(slots.load, percent(node.cpu_load));
  setText(slots.cores, integer(node.cpu_count));
  setText(slots.uptime, duration(now - node.started_at));
  setText(slots.compute, gigaPerSecond(node.gigaflops, "FLOP/s"));
  setText(slots.bandwidth, gigaPerSecond(node.bandwidth_gb_s, "B/s"));
  setOptional(slots.address, reachedAt(node));
}

/** Where other nodes reach it: the loopback address is that of nodes on the same machine only. */
export function reachedAt({ address }) {
  if (address === "") return "";
  return address.startsWith("127.") ? `Only this machine’s nodes reach it, at ${address}` : `Other nodes reach it at ${address}`;
}

function acceleratorOf({ name, memory_bytes: memory }) {
  return memory === null || memory === undefined ? name : `${name}, up to ${bytes(memory)} for models`;
}

function showMemory(slots, node, held) {
  const parts = memoryParts(node, held);
  const share = (part) => part / Math.max(1, parts.total);
  mark(slots.pressure, "pressure", node.memory.pressure);
  setText(slots.pressure, `pressure ${node.memory.pressure}`);
  setText(slots.available, `${bytes(parts.available)} free of ${bytes(parts.total)}`);
  setShare(slots["held-bar"], share(parts.active));
  setShare(slots["cached-bar"], share(parts.cached));
  setShare(slots["other-bar"], share(parts.other));
  slots.memory.setAttribute("aria-label", `Memory: ${percent(1 - share(parts.available))} in use`);
  setText(slots.held, bytes(held.active));
  setText(slots.cached, bytes(held.cached));
  setText(slots.other, bytes(parts.other));
  setOptional(slots["pressure-reason"], pressureReason(node.memory));
}

/** What there is to say about the pressure beyond its name. */
export function pressureReason({ reason = "", stalled }) {
  const share = stalled ?? 0;
  const stall = share > 0 ? `Something waited for memory in ${percent(share)} of the last ten seconds.` : "";
  return [reason, stall].filter((part) => part !== "").join(" ");
}
