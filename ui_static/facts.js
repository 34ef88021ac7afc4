// What is known of the cluster: a pure function from the facts so far and one event to the facts after it.

import { placed } from "./placed.js";

/** Fields that an older node may not send; the same defaults as in the messages themselves. */
const DEFAULTS = {
  node: { cpu_load: 0, facts_endpoint: "", address: "", gigaflops: 0, bandwidth_gb_s: 0, leaving: false },
  model: { quantization: "", read_only: false, built_in: false, tools: false, problem: "" },
  instance: {
    epoch: 1, progress: null, sharding: "pipeline", interconnect: "ring", context: null, restarts: 0, stages: [],
    running: 0, prefilling: 0, waiting: 0, kv_bytes: 0, active_bytes: 0, cached_bytes: 0, tokens_per_s: 0,
    kv_limit_bytes: 0, prefix_bytes: 0, prompt_tokens: 0, cached_tokens: 0, drafted_tokens: 0, accepted_tokens: 0,
    preempted: 0, kv_bits: null, draft: null,
  },
  rank: { progress: null, active_bytes: 0, kv_bytes: 0 },
  declared: { reason: "", withdrawn: false, successor: null, at: 0, given_up: false },
  coordinator: {},
  request: {
    sequences: 1, instance: null, prompt_tokens: 0, prefilled_tokens: 0, generated_tokens: 0, tokens_per_s: 0,
    cached_tokens: 0, place: null, eta_s: null, priority: 0,
  },
};

const KINDS = {
  nodes: "node", models: "model", instances: "instance", ranks: "rank", declared: "declared",
  coordinators: "coordinator", requests: "request",
};

/** Nothing is known yet. `facts` goes from key to `{ kind, value }`. */
export const NOTHING = Object.freeze({ node: null, version: "", facts: Object.freeze({}) });

/** The facts after an event: `{ kind: "snapshot", cluster }` or `{ kind: "change", change }`. */
export function reduce(state, event) {
  switch (event.kind) {
    case "snapshot":
      return fromSnapshot(event.cluster);
    case "change":
      return { ...state, facts: withChange(state.facts, event.change) };
    default:
      throw new Error(`no such event: ${event.kind}`);
  }
}

function fromSnapshot(cluster) {
  const facts = {};
  for (const [list, kind] of Object.entries(KINDS)) {
    for (const value of cluster[list] ?? []) facts[keyOf(kind, value)] = known(kind, value);
  }
  return { node: cluster.node, version: cluster.version, facts };
}

function withChange(facts, { key, kind, value }) {
  if (!(kind in DEFAULTS)) return facts; // a newer node may publish kinds that this page does not know
  if (value !== null) return { ...facts, [key]: known(kind, value) };
  const { [key]: withdrawn, ...rest } = facts;
  return rest;
}

function known(kind, value) {
  return { kind, value: { ...DEFAULTS[kind], ...value } };
}

/** The key under which a fact is published. */
export function keyOf(kind, value) {
  switch (kind) {
    case "model":
      return `model/${value.node}/${value.id}`;
    case "instance":
      return `instance/${value.id}/${value.epoch ?? 1}`;
    case "rank":
      return `rank/${value.instance}/${value.epoch}/${value.rank}`;
    case "declared":
      return `declared/${value.said_by}/${value.instance.id}`;
    case "coordinator":
      return `coordinator/${value.node}`;
    default:
      return `${kind}/${value.id}`;
  }
}

/** All facts of one kind. */
function all(state, kind) {
  return Object.values(state.facts).filter((fact) => fact.kind === kind).map((fact) => fact.value);
}

/** In an order that does not change as the facts do. */
function sorted(values, kind, orderOf) {
  return values.sort((a, b) => compare(orderOf(a), orderOf(b)) || compare(keyOf(kind, a), keyOf(kind, b)));
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

export const nodes = (state) => sorted(all(state, "node"), "node", (fact) => (fact.id === state.node ? "" : fact.name));
export const models = (state) => sorted(all(state, "model"), "model", (fact) => fact.id);
export const requests = (state) => sorted(all(state, "request"), "request", (fact) => fact.started_at);

/** The placed models, each once, whatever epochs of it there are. */
export function instances(state) {
  const seen = { facts: all(state, "instance"), declared: all(state, "declared"), ranks: all(state, "rank") };
  return sorted(placed(seen), "instance", (instance) => instance.model);
}

/** The id of the node that decides where models run: of two that meet, the one with the later term; else null. */
export function coordinator(state) {
  const [first] = all(state, "coordinator").sort((a, b) => b.term.number - a.term.number || compare(a.node, b.node));
  return first?.node ?? null;
}

/** What the models of a machine hold, in bytes. What is kept for reuse is only known of first ranks. */
export function heldOn(state, nodeId) {
  const placedModels = instances(state);
  const here = placedModels.flatMap((instance) => instance.ranks).filter((rank) => rank.node === nodeId);
  return {
    active: sum(here.map((rank) => rank.active_bytes)),
    cached: sum(placedModels.filter((instance) => instance.nodes[0] === nodeId).map((instance) => instance.cached_bytes)),
  };
}

/**
 * How a machine's memory is divided, in bytes. Where models live in memory of the accelerator's own,
 * nothing of the machine's memory is theirs.
 */
export function memoryParts(node, held) {
  const { total_bytes: total, available_bytes: available } = node.memory;
  const used = Math.max(0, total - available);
  const shared = node.accelerator.kind !== "cuda";
  const active = shared ? Math.min(held.active, used) : 0;
  const cached = shared ? Math.min(held.cached, used - active) : 0;
  return { total, available, active, cached, other: used - active - cached };
}

/** Whether anything is computed or waits in an instance. */
export function isBusy(instance) {
  return instance.running + instance.prefilling + instance.waiting > 0;
}

/** The models that one can talk to: those that are placed first, then the rest of the store. */
export function choices(state) {
  const placed = new Map();
  for (const instance of instances(state)) {
    if (placed.get(instance.model) !== "ready") placed.set(instance.model, instance.phase);
  }
  const stored = models(state).filter((model) => model.problem === "" && !placed.has(model.id));
  return [
    ...[...placed].map(([model, phase]) => ({ model, phase })),
    ...[...new Set(stored.map((model) => model.id))].map((model) => ({ model, phase: null })),
  ];
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
