// The page's pure modules, by themselves.

import assert from "node:assert/strict";
import { test } from "node:test";

import { phaseNews } from "../../ui_static/announcer.js";
import { cachesOf, kvName, kvShares } from "../../ui_static/caches.js";
import { CompletionError, eventsOf, problemOf } from "../../ui_static/completion.js";
import * as conversation from "../../ui_static/conversation.js";
import * as facts from "../../ui_static/facts.js";
import * as format from "../../ui_static/format.js";
import { backoffMs } from "../../ui_static/live.js";
import { traitsOf } from "../../ui_static/models.js";
import { reachedAt } from "../../ui_static/nodes.js";
import { placed } from "../../ui_static/placed.js";
import { bodyOf, kindOf, previewsUrl, whereOf } from "../../ui_static/placing.js";
import { partsOf } from "../../ui_static/prose.js";
import { reasonOf } from "../../ui_static/requests.js";
import { SseParser } from "../../ui_static/sse.js";
import { layersOf, rankPhase } from "../../ui_static/stages.js";

test("figures keep three digits", () => {
  assert.equal(format.bytes(0), "0 B");
  assert.equal(format.bytes(1023), "1023 B");
  assert.equal(format.bytes(1234567), "1.18 MiB");
  assert.equal(format.bytes(24 * 2 ** 30), "24.0 GiB");
  assert.equal(format.rate(9.96), "10.0");
  assert.equal(format.rate(1234.5), "1,235");
  assert.equal(format.latency(0.0423), "42 ms");
  assert.equal(format.latency(1.26), "1.26 s");
  assert.equal(format.percent(0.404), "40 %");
  assert.deepEqual([0, 38.4, 412, 4200].map((count) => format.gigaPerSecond(count, "B/s")), ["–", "38.4 GB/s", "412 GB/s", "4.20 TB/s"]);
});

test("a node that listens on loopback is reached by its own machine's nodes", () => {
  assert.equal(reachedAt({ address: "" }), "");
  assert.equal(reachedAt({ address: "127.0.0.1:52416" }), "Only this machine’s nodes reach it, at 127.0.0.1:52416");
  assert.equal(reachedAt({ address: "192.168.1.20:52416" }), "Other nodes reach it at 192.168.1.20:52416");
});

test("durations name their two largest units", () => {
  const words = [-3, 59.9, 75, 7500, 183_600].map(format.duration);
  assert.deepEqual(words, ["0 s", "59 s", "1 min 15 s", "2 h 05 min", "2 d 03 h"]);
});

test("server-sent events are the same however the stream is cut", () => {
  const stream = ": loading 40 %\n\nevent: change\r\ndata: {\"a\":\ndata: 1}\r\n\r\ndata:[DONE]\n\nid: 7\n\n";
  const expected = [{ comment: "loading 40 %" }, { event: "change", data: '{"a":\n1}' }, { event: "message", data: "[DONE]" }];
  for (let size = 1; size <= stream.length; size += 1) {
    const parser = new SseParser();
    const items = [];
    for (let at = 0; at < stream.length; at += size) items.push(...parser.push(stream.slice(at, at + size)));
    assert.deepEqual(items, expected, `cut into pieces of ${size}`);
  }
});

test("a chunk of a completion is text, a finish or usage, and an error is thrown", () => {
  const chunk = { choices: [{ delta: { content: "Hi" }, finish_reason: "stop" }], usage: { completion_tokens: 2 } };
  assert.deepEqual(eventsOf({ event: "message", data: JSON.stringify(chunk) }), [
    { kind: "text", text: "Hi" }, { kind: "finish", reason: "stop" }, { kind: "usage", tokens: 2 },
  ]);
  assert.deepEqual(eventsOf({ comment: "keep-alive" }), []);
  assert.deepEqual(eventsOf({ comment: "prefill 3/9" }), [{ kind: "waiting", reason: "prefill 3/9" }]);
  assert.throws(() => eventsOf({ event: "message", data: '{"error":{"message":"gone"}}' }), new CompletionError("gone"));
});

test("what went wrong is told in the node's words, else in the page's", () => {
  assert.equal(problemOf(400, { error: { message: "too long" } }), "too long");
  assert.match(problemOf(503, null), /Try again/);
  assert.match(problemOf(418, {}), /418/);
});

function spoken(...events) {
  return events.reduce(conversation.reduce, conversation.SILENCE);
}

test("a conversation is sent without the questions that got no answer", () => {
  const turns = spoken(
    { kind: "ask", text: "one", model: "m", at: 0 }, { kind: "failed", message: "no" },
    { kind: "ask", text: "two", model: "m", at: 1 }, { kind: "text", text: "2", at: 2 }, { kind: "stopped" },
    { kind: "ask", text: "three", model: "m", at: 3 },
  );
  assert.deepEqual(conversation.messages(turns), [
    { role: "user", content: "two" }, { role: "assistant", content: "2" }, { role: "user", content: "three" },
  ]);
  assert.equal(conversation.isAnswering(turns), true);
});

test("speed is the time to the first token, then the rate of the others", () => {
  const turns = spoken(
    { kind: "ask", text: "q", model: "m", at: 10 }, { kind: "text", text: "a", at: 10.5 }, { kind: "usage", tokens: 3 },
    { kind: "text", text: "b", at: 12.5 }, { kind: "usage", tokens: 23 }, { kind: "done" },
  );
  assert.deepEqual(conversation.speed(turns.turns.at(-1)), { ttft_s: 0.5, tokens_per_s: 10 });
});

test("an answer that came at once has no rate", () => {
  const turns = spoken(
    { kind: "ask", text: "q", model: "m", at: 10 }, { kind: "text", text: "a", at: 10.5 },
    { kind: "text", text: "b", at: 10.51 }, { kind: "usage", tokens: 40 }, { kind: "done" },
  );
  assert.equal(conversation.speed(turns.turns.at(-1)).tokens_per_s, null);
});

test("a reducer leaves what it was given as it was", () => {
  const before = spoken({ kind: "ask", text: "q", model: "m", at: 0 });
  const copy = structuredClone(before);
  conversation.reduce(before, { kind: "text", text: "a", at: 1 });
  assert.deepEqual(before, copy);
});

const NODE = { id: "n", name: "study", memory: { total_bytes: 100, available_bytes: 40 }, accelerator: { kind: "cpu" } };

function known(...changes) {
  const cluster = { node: "n", version: "1", nodes: [NODE], models: [], instances: [], requests: [] };
  const snapshot = facts.reduce(facts.NOTHING, { kind: "snapshot", cluster });
  return changes.reduce((state, change) => facts.reduce(state, { kind: "change", change }), snapshot);
}

const instance = (id, fields) => ({ key: `instance/${id}/${fields.epoch ?? 1}`, kind: "instance", value: { id, model: id, nodes: ["n"], ...fields } });

test("changes come and go, and a snapshot replaces everything", () => {
  const two = known(instance("a", {}), instance("b", {}));
  assert.deepEqual(facts.instances(two).map(({ id }) => id), ["a", "b"]);
  assert.equal(facts.instances(two)[0].kv_bytes, 0);
  const one = facts.reduce(two, { kind: "change", change: { key: "instance/a/1", kind: "instance", value: null } });
  assert.deepEqual(facts.instances(one).map(({ id }) => id), ["b"]);
  assert.equal(facts.instances(two).length, 2);
  assert.deepEqual(facts.instances(known()), []);
});

test("memory is divided so that its parts never exceed the whole", () => {
  const parts = facts.memoryParts(NODE, { active: 50, cached: 30 });
  assert.deepEqual(parts, { total: 100, available: 40, active: 50, cached: 10, other: 0 });
  const apart = facts.memoryParts({ ...NODE, accelerator: { kind: "cuda" } }, { active: 50, cached: 30 });
  assert.deepEqual([apart.active, apart.other], [0, 60]);
});

test("what a machine's models hold is added up", () => {
  const state = known(instance("a", { active_bytes: 5, cached_bytes: 1 }), instance("b", { active_bytes: 7, nodes: ["other"] }));
  assert.deepEqual(facts.heldOn(state, "n"), { active: 5, cached: 1 });
});

test("placed models are offered before those on disk, broken ones not at all", () => {
  const model = (id, problem = "") => ({ key: `model/n/${id}`, kind: "model", value: { id, node: "n", problem } });
  const state = known(model("disk"), model("broken", "no config"), model("placed"), instance("placed", { phase: "ready" }));
  assert.deepEqual(facts.choices(state), [{ model: "placed", phase: "ready" }, { model: "disk", phase: null }]);
});

test("only a phase that is new is spoken", () => {
  const before = new Map([["a", "loading"], ["b", "ready"]]);
  const now = [{ id: "a", model: "m", phase: "failed", reason: "no weights" }, { id: "b", model: "n", phase: "ready" }];
  assert.deepEqual(phaseNews(before, now), ["m is failed: no weights"]);
});

test("code is set apart from prose, also while its end has not come", () => {
  const kinds = (text) => partsOf(text).map(({ kind, text: shown }) => `${kind}:${shown}`);
  assert.deepEqual(kinds("a `b` c"), ["plain:a ", "code:b", "plain: c"]);
  assert.deepEqual(kinds("see\n```py\nx = 1\n```\nend"), ["plain:see", "block:x = 1", "plain:end"]);
  assert.deepEqual(kinds("```\nx = "), ["block:x = "]);
  assert.deepEqual(kinds("a ` b"), ["plain:a ` b"]);
});

test("a lost connection is tried again soon at first, then every five seconds", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 50].map(backoffMs), [500, 1000, 2000, 4000, 5000, 5000]);
});

const stage = (first, end, ...nodes) => ({ first, end, nodes, names: nodes, needed_bytes: 1 });
const declaration = (epoch, number, fields = {}) => ({
  instance: { id: "a", epoch, model: "m", stages: [stage(0, 3, "n"), stage(3, 4, "o")], context: 8 },
  term: { number, node: "n" }, reason: "", withdrawn: false, successor: null, at: 1, given_up: false, ...fields,
});
const said = (epoch, phase) => ({ id: "a", epoch, model: "m", nodes: ["n", "o"], phase, reason: phase, progress: null, stages: [], active_bytes: 0 });
const rankFact = (rank, node, phase, epoch = 1) => ({ instance: "a", epoch, rank, node, phase, reason: "", progress: null, active_bytes: 7 });

test("a declared model is there before it says anything, each rank as it says itself", () => {
  const [silent] = placed({ facts: [], declared: [declaration(1, 1)], ranks: [rankFact(1, "o", "loading"), rankFact(1, "o", "failed", 9)] });
  assert.equal(silent.phase, "waiting");
  assert.deepEqual(silent.ranks.map(({ node, stage: at, phase }) => [node, at, phase]), [["n", 0, "waiting"], ["o", 1, "loading"]]);
});

test("two epochs are one model, and the one that is declared is shown", () => {
  const successor = { ...declaration(2, 1).instance, stages: [stage(0, 4, "o")] };
  const facts = [said(1, "ready"), said(2, "loading")];
  const [one] = placed({ facts, declared: [declaration(1, 1, { successor })], ranks: [] });
  assert.deepEqual([one.epoch, one.phase, one.successor], [1, "ready", { epoch: 2, nodes: ["o"], phase: "loading", progress: null }]);
  const [other] = placed({ facts, declared: [declaration(1, 5), declaration(2, 1)], ranks: [] });
  assert.deepEqual([other.epoch, other.successor], [2, null]);
});

test("of two words on a model the later term counts, and a withdrawal before all", () => {
  const words = [declaration(1, 2, { reason: "later" }), declaration(1, 1, { reason: "earlier" })];
  for (const declared of [words, [...words].reverse()]) {
    assert.equal(placed({ facts: [], declared, ranks: [] })[0].reason, "later");
  }
  const gone = declaration(1, 1, { withdrawn: true });
  assert.deepEqual(placed({ facts: [], declared: [...words, gone], ranks: [] }), []);
  assert.equal(placed({ facts: [said(1, "draining")], declared: [gone], ranks: [] })[0].phase, "draining");
});

test("of two coordinators that meet, the one with the later term is shown", () => {
  const acting = (node, number) => ({ key: `coordinator/${node}`, kind: "coordinator", value: { node, term: { number, node } } });
  assert.equal(facts.coordinator(known(acting("o", 3), acting("n", 2))), "o");
  assert.equal(facts.coordinator(known()), null);
});

test("a declaration of a snapshot can be withdrawn later", () => {
  const cluster = { node: "n", version: "1", nodes: [NODE], declared: [{ ...declaration(1, 1), said_by: "n" }] };
  const before = facts.reduce(facts.NOTHING, { kind: "snapshot", cluster });
  assert.equal(facts.instances(before).length, 1);
  const after = facts.reduce(before, { kind: "change", change: { key: "declared/n/a", kind: "declared", value: null } });
  assert.deepEqual(facts.instances(after), []);
});

test("only what the form says is asked for", () => {
  const open = { model: "org/m", sharding: "", stages: "", context: "", nodes: [], kv_bits: "", draft: "" };
  assert.equal(previewsUrl(open), "/v1/instances/previews?model=org%2Fm");
  const fixed = { model: "m", sharding: "pipeline", stages: "2", context: "512", nodes: ["n", "o"], kv_bits: "8", draft: "d" };
  const query = "model=m&sharding=pipeline&stages=2&context=512&nodes=n%2Co&kv_bits=8&draft=d";
  assert.equal(previewsUrl(fixed), `/v1/instances/previews?${query}`);
});

test("a choice is placed as it was shown, and told by its layers", () => {
  const choice = { sharding: "hybrid", interconnect: "ring", context: 2048, stages: [stage(0, 3, "a", "b"), stage(3, 4, "c", "d")] };
  const body = {
    model: "m", sharding: "hybrid", interconnect: "ring", context: 2048, nodes: ["a", "b", "c", "d"], layers: [3, 1], stages: 2, tensor: 2,
  };
  assert.deepEqual(bodyOf({ model: "m", kv_bits: "", draft: "" }, choice), body);
  assert.deepEqual(bodyOf({ model: "m", kv_bits: "4", draft: "d" }, choice), { ...body, kv_bits: 4, draft: "d" });
  assert.equal(whereOf(choice), "a + b: layers 1–3 → c + d: layer 4");
  assert.equal(kindOf(choice), "hybrid, 2,048 tokens");
  assert.equal(whereOf({ stages: [stage(0, 4, "a")] }), "a");
  assert.equal(kindOf({ ...choice, stages: [stage(0, 4, "a")] }), "2,048 tokens");
});

test("layers are counted from one, and a rank says how far it is", () => {
  assert.equal(layersOf({ first: 0, end: 1 }), "Layer 1");
  assert.equal(layersOf({ first: 4, end: 8 }), "Layers 5–8");
  assert.equal(rankPhase({ phase: "loading", progress: 0.4 }), "loading 40 %");
  assert.equal(rankPhase({ phase: "ready", progress: 1 }), "ready");
});

const plainRequest = { reason: "its turn", state: "waiting", sequences: 1, place: null, eta_s: null, cached_tokens: 0, priority: 0 };

test("a request that waits says its place, and one in prefill what is kept and how long the rest takes", () => {
  const words = (fields) => reasonOf({ ...plainRequest, ...fields });
  assert.equal(words({}), "its turn");
  assert.equal(words({ place: 0 }), "its turn, it is the next");
  assert.equal(words({ place: 1200, sequences: 2, priority: -1 }), "its turn, 1,200 before it, 2 answers, priority -1");
  const prefill = { state: "prefill", reason: "computing the prompt", place: null, cached_tokens: 3072, eta_s: 11.2 };
  assert.equal(words(prefill), "computing the prompt, 3,072 tokens kept from before, about 12 s to go");
  assert.equal(words({ ...prefill, eta_s: 0.01, cached_tokens: 0 }), "computing the prompt, about 1 s to go");
  assert.equal(words({ ...prefill, state: "decode", reason: "generating" }), "generating");
});

test("an instance says what it keeps, and nothing of what it does not use", () => {
  const [idle] = facts.instances(known(instance("a", {})));
  assert.equal(cachesOf(idle), "");
  assert.equal(kvName(idle), "KV cache");
  assert.equal(kvShares(idle), null);
  const busy = {
    ...idle, kv_bytes: 3 * 2 ** 30, prefix_bytes: 2 ** 30, kv_limit_bytes: 4 * 2 ** 30, prompt_tokens: 2000, cached_tokens: 1260,
    kv_bits: 8, drafted_tokens: 200, accepted_tokens: 142, draft: "tiny", preempted: 1,
  };
  assert.deepEqual(kvShares(busy), { used: 0.5, kept: 0.25 });
  assert.equal(kvName(busy), "KV cache, of 4.00 GiB");
  assert.equal(cachesOf(busy), [
    "1.00 GiB kept for prompts that begin the same", "63 % of 2,000 prompt tokens not computed again", "KV cache in 8 bits",
    "71 % of tokens guessed by tiny were right", "1 answer put off for want of memory",
  ].join(" · "));
  assert.equal(cachesOf({ ...idle, drafted_tokens: 4, accepted_tokens: 1 }), "25 % of tokens guessed were right");
  assert.equal(cachesOf({ ...idle, draft: "tiny" }), "tokens guessed by tiny");
});

test("an instance that has said nothing yet keeps nothing", () => {
  const cluster = { node: "n", version: "1", nodes: [NODE], declared: [{ ...declaration(1, 1), said_by: "n" }] };
  const [silent] = facts.instances(facts.reduce(facts.NOTHING, { kind: "snapshot", cluster }));
  assert.equal(cachesOf(silent), "");
});

test("a model that was made for embeddings says so", () => {
  const model = { node: "n1", built_in: false, quantization: "4-bit", tools: true, embeds: true, read_only: false };
  assert.deepEqual(traitsOf(model, [{ id: "n1", name: "study" }]), ["4-bit", "embeddings", "tools"]);
});
