// What an instance keeps in its KV cache and what that saves, in words. Pure.

import { bytes, integer, percent, plural } from "./format.js";

/** How the KV cache is divided, as shares of its limit; null where it has none. */
export function kvShares({ kv_bytes: all, prefix_bytes: kept, kv_limit_bytes: limit }) {
  if (!(limit > 0)) return null;
  const prefixes = Math.min(kept, all);
  return { used: (all - prefixes) / limit, kept: prefixes / limit };
}

/** The KV cache's name in the figures: with its limit, where it has one. */
export function kvName({ kv_limit_bytes: limit }) {
  return limit > 0 ? `KV cache, of ${bytes(limit)}` : "KV cache";
}

/** What there is to say beyond the figures; nothing of what is not used. */
export function cachesOf(instance) {
  const { prefix_bytes: kept, kv_bits: bits, preempted } = instance;
  const parts = [];
  if (kept > 0) parts.push(`${bytes(kept)} kept for prompts that begin the same`);
  parts.push(...hitsOf(instance));
  if (bits !== null) parts.push(`KV cache in ${bits} bits`);
  parts.push(...guessesOf(instance));
  if (preempted > 0) parts.push(`${plural(preempted, "answer")} put off for want of memory`);
  return parts.join(" · ");
}

function hitsOf({ prompt_tokens: all, cached_tokens: cached }) {
  return cached > 0 && all > 0 ? [`${percent(cached / all)} of ${integer(all)} prompt tokens not computed again`] : [];
}

function guessesOf({ draft, drafted_tokens: guessed, accepted_tokens: right }) {
  const by = draft === null ? "" : ` by ${draft}`;
  if (guessed > 0) return [`${percent(right / guessed)} of tokens guessed${by} were right`];
  return draft === null ? [] : [`tokens guessed${by}`];
}
