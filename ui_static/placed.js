// One object per placed model, from what is declared and what its ranks say. Pure.

const UNHEARD = "its first rank has not said anything yet";

/** Instances, each with its ranks: the fact of its present epoch, `stages`, `ranks` and `successor`. */
export function placed({ facts, declared, ranks }) {
  const latest = latestOf(declared);
  const said = new Map(facts.map((fact) => [`${fact.id}/${fact.epoch}`, fact]));
  const ids = new Set(facts.map((fact) => fact.id));
  for (const [id, fact] of latest) if (!fact.withdrawn) ids.add(id);
  return [...ids].map((id) => whole(id, latest.get(id), said, facts, ranks));
}

/** Of several nodes' words on an instance, the one that counts: a withdrawal, else the later epoch and term. */
export function latestOf(declared) {
  const latest = new Map();
  for (const fact of declared) {
    const known = latest.get(fact.instance.id);
    if (known === undefined || precedes(known, fact)) latest.set(fact.instance.id, fact);
  }
  return latest;
}

function precedes(earlier, later) {
  const [a, b] = [earlier, later].map(({ withdrawn, instance, term, at }) => [Number(withdrawn), instance.epoch, term.number, term.node, at]);
  const differing = a.findIndex((part, index) => part !== b[index]);
  return differing >= 0 && a[differing] < b[differing];
}

function whole(id, declaration, said, facts, ranks) {
  const wanted = declaration !== undefined && !declaration.withdrawn;
  const own = wanted
    ? said.get(`${id}/${declaration.instance.epoch}`)
    : facts.filter((fact) => fact.id === id).reduce((one, other) => (one.epoch > other.epoch ? one : other));
  const fact = own ?? silent(declaration.instance, declaration);
  const stages = wanted ? declaration.instance.stages : stagesOf(fact);
  return { ...fact, stages, ranks: ranksOf(fact, stages, ranks), successor: successorOf(declaration, said) };
}

/** An instance of an older node does not say how its layers are divided. */
function stagesOf({ stages, nodes }) {
  return stages.length > 0 || nodes.length === 0 ? stages : [{ first: 0, end: 0, nodes }];
}

const KEEPS_NOTHING = {
  kv_limit_bytes: 0, prefix_bytes: 0, prompt_tokens: 0, cached_tokens: 0, drafted_tokens: 0, accepted_tokens: 0, preempted: 0,
  kv_bits: null, draft: null,
};

/** What there is to show of an instance that has said nothing itself. */
function silent(instance, { reason, at }) {
  return {
    ...KEEPS_NOTHING, ...instance, nodes: instance.stages.flatMap((stage) => stage.nodes), phase: "waiting", reason: reason || UNHEARD,
    since: at, progress: null, restarts: 0, running: 0, prefilling: 0, waiting: 0, kv_bytes: 0, active_bytes: 0,
    cached_bytes: 0, tokens_per_s: 0,
  };
}

/** One entry per node of an instance, in rank order; an instance on one node speaks for its only rank. */
function ranksOf(fact, stages, ranks) {
  const alone = fact.nodes.length === 1;
  const { phase, reason, progress, active_bytes: active } = fact;
  return stages.flatMap((stage, number) => stage.nodes.map((node) => ({ node, stage: number }))).map((place, rank) => {
    const own = ranks.find((one) => one.instance === fact.id && one.epoch === fact.epoch && one.rank === rank);
    if (own !== undefined) return { ...own, ...place, rank };
    if (alone) return { ...place, rank, phase, reason, progress, active_bytes: active };
    return { ...place, rank, phase: "waiting", reason: "it has not said anything yet", progress: null, active_bytes: 0 };
  });
}

function successorOf(declaration, said) {
  const next = declaration?.withdrawn ? null : declaration?.successor ?? null;
  if (next === null) return null;
  const fact = said.get(`${next.id}/${next.epoch}`);
  const nodes = next.stages.flatMap((stage) => stage.nodes);
  return { epoch: next.epoch, nodes, phase: fact?.phase ?? "waiting", progress: fact?.progress ?? null };
}
