// What is known of the cluster: a pure function from the facts so far and one event to the facts after it.

/** Fields that an older node may not send; the same defaults as in the messages themselves. */
const DEFAULTS = {
  node: { cpu_load: 0, facts_endpoint: "" },
  model: { quantization: "", read_only: false, built_in: false, tools: false, problem: "" },
  instance: {
    progress: null, sharding: "pipeline", interconnect: "ring", context: null, restarts: 0,
    running: 0, prefilling: 0, waiting: 0, kv_bytes: 0, active_bytes: 0, cached_bytes: 0, tokens_per_s: 0,
  },
  request: {
    sequences: 1, instance: null, prompt_tokens: 0, prefilled_tokens: 0, generated_tokens: 0, tokens_per_s: 0,
  },
};

const KINDS = { nodes: "node", models: "model", instances: "instance", requests: "request" };

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
  return kind === "model" ? `model/${value.node}/${value.id}` : `${kind}/${value.id}`;
}

/** All facts of one kind, in an order that does not change as they do. */
export function listOf(state, kind, orderOf) {
  return Object.values(state.facts)
    .filter((fact) => fact.kind === kind)
    .map((fact) => fact.value)
    .sort((a, b) => compare(orderOf(a), orderOf(b)) || compare(keyOf(kind, a), keyOf(kind, b)));
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

export const nodes = (state) => listOf(state, "node", (fact) => (fact.id === state.node ? "" : fact.name));
export const models = (state) => listOf(state, "model", (fact) => fact.id);
export const instances = (state) => listOf(state, "instance", (fact) => fact.model);
export const requests = (state) => listOf(state, "request", (fact) => fact.started_at);

/** What the models of a machine hold, in bytes. */
export function heldOn(state, nodeId) {
  const here = instances(state).filter((instance) => instance.nodes.includes(nodeId));
  return {
    active: sum(here.map((instance) => instance.active_bytes)),
    cached: sum(here.map((instance) => instance.cached_bytes)),
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
