// What a screen reader is told as it happens: changes of phase, not each bit of progress.

import { setText } from "./dom.js";

/** The words for the instances whose phase differs from the one that they were in before. */
export function phaseNews(before, instances) {
  return instances
    .filter((instance) => before.get(instance.id) !== instance.phase)
    .map(({ model, phase, reason }) => `${model} is ${phase}${phase === "failed" ? `: ${reason}` : ""}`);
}

/** Remembers phases and speaks through one live region. */
export class Announcer {
  #region;
  #phases = new Map();

  constructor(region) {
    this.#region = region;
  }

  say(text) {
    setText(this.#region, text);
  }

  follow(instances) {
    const news = phaseNews(this.#phases, instances);
    this.#phases = new Map(instances.map((instance) => [instance.id, instance.phase]));
    if (news.length > 0) this.say(`${news.join(". ")}.`);
  }
}
