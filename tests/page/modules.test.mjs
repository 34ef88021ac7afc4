// The page's pure modules, by themselves.

import assert from "node:assert/strict";
import { test } from "node:test";

import { phaseNews } from "../../ui_static/announcer.js";
import { CompletionError, eventsOf, problemOf } from "../../ui_static/completion.js";
import * as conversation from "../../ui_static/conversation.js";
import * as facts from "../../ui_static/facts.js";
import * as format from "../../ui_static/format.js";
import { backoffMs } from "../../ui_static/live.js";
import { partsOf } from "../../ui_static/prose.js";
import { SseParser } from "../../ui_static/sse.js";

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

const instance = (id, fields) => ({ key: `instance/${id}`, kind: "instance", value: { id, model: id, nodes: ["n"], ...fields } });

test("changes come and go, and a snapshot replaces everything", () => {
  const two = known(instance("a", {}), instance("b", {}));
  assert.deepEqual(facts.instances(two).map(({ id }) => id), ["a", "b"]);
  assert.equal(facts.instances(two)[0].kv_bytes, 0);
  const one = facts.reduce(two, { kind: "change", change: { key: "instance/a", kind: "instance", value: null } });
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
