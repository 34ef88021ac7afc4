// The form for placing a model: shows the ways in which that is possible, and places the one that is chosen.

import { order } from "./commands.js";
import { clone, patchList, setOptional, setText } from "./dom.js";
import { models, nodes } from "./facts.js";
import { bodyOf, kindOf, previewsUrl, whereOf } from "./placing.js";

const at = (id) => document.getElementById(id);

export class Place {
  #announce;
  #offered = "";
  #asked = 0;

  /** Take over the form; `announce(text)` tells a screen reader. */
  constructor(announce) {
    this.#announce = announce;
    at("place-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#look();
    });
    at("place-form").addEventListener("input", () => this.#forget());
  }

  /** Offer what the cluster has; what is chosen stays chosen. */
  offer(state) {
    const names = [...new Set(models(state).filter((model) => model.problem === "").map((model) => model.id))];
    if (JSON.stringify(names) !== this.#offered) {
      this.#offered = JSON.stringify(names);
      offerIn(at("place-model"), names.map((name) => new Option(name, name)));
      offerIn(at("place-draft"), [new Option("none", ""), ...names.map((name) => new Option(name, name))]);
      at("place-look").disabled = names.length === 0;
    }
    patchList(at("place-nodes"), nodes(state).filter((node) => !node.leaving), (node) => node.id, nodeCheck);
  }

  async #look() {
    const asked = this.#forget();
    const wish = wishes();
    const { model } = wish;
    const { value, problem } = await order("GET", previewsUrl(wish));
    if (asked !== this.#asked) return; // the form says something else by now
    setOptional(at("place-problem"), problem);
    if (problem !== "") return;
    const { choices, ruled_out: ruled } = value;
    const rows = choices.map((choice, index) => ({ choice, index }));
    patchList(at("place-choices"), rows, ({ index }) => index, () => choiceRow((choice) => this.#place(wish, choice)));
    showRuled(ruled, choices.length === 0);
    const words = choices.length === 0 ? "There is no way to place it: see what is out of the question." : "";
    setOptional(at("place-problem"), words);
    this.#announce(choices.length === 0 ? "" : `${choices.length} ways to place ${model}, best first.`);
  }

  async #place(wish, choice) {
    const asked = this.#asked;
    const { problem } = await order("POST", "/v1/instances", bodyOf(wish, choice));
    if (problem !== "") {
      setOptional(at("place-problem"), problem);
      return false;
    }
    if (asked === this.#asked) this.#forget();
    this.#announce(`${wish.model} is being placed on ${whereOf(choice)}.`);
    at("instances-title").focus({ preventScroll: true });
    return true;
  }

  /** What was shown is no answer any more. */
  #forget() {
    patchList(at("place-choices"), [], () => "", () => null);
    showRuled([], false);
    setOptional(at("place-problem"), "");
    this.#asked += 1;
    return this.#asked;
  }
}

/** What is chosen stays chosen, while it is there. */
function offerIn(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options);
  if (options.some((option) => option.value === chosen)) select.value = chosen;
}

function wishes() {
  const boxes = [...at("place-nodes").querySelectorAll("input:checked")];
  return {
    model: at("place-model").value,
    sharding: at("place-sharding").value,
    stages: at("place-stages").value,
    context: at("place-context").value,
    nodes: boxes.map((box) => box.value),
    kv_bits: at("place-kv-bits").value,
    draft: at("place-draft").value,
  };
}

function nodeCheck() {
  const { element, slots } = clone("node-check");
  const update = (node) => {
    slots.box.value = node.id;
    setText(slots.name, node.name);
  };
  return { element, update };
}

/** `place(choice)` resolves to whether it was done. */
function choiceRow(place) {
  const { element, slots } = clone("choice-row");
  let chosen = null;
  slots.place.addEventListener("click", async () => {
    if (slots.place.getAttribute("aria-disabled") === "true") return;
    slots.place.setAttribute("aria-disabled", "true");
    if (!(await place(chosen))) slots.place.setAttribute("aria-disabled", "false");
  });
  const update = ({ choice }) => {
    chosen = choice;
    setText(slots.where, whereOf(choice));
    setText(slots.sharding, kindOf(choice));
    setText(slots.why, choice.why);
    slots.place.setAttribute("aria-label", `Place on ${whereOf(choice)}`);
  };
  return { element, update };
}

/** Open where it is all that there is to say. */
function showRuled(ruled, open) {
  at("place-ruled").hidden = ruled.length === 0;
  at("place-ruled").open = open;
  const rows = ruled.map((item, index) => ({ ...item, index }));
  patchList(at("place-ruled-list"), rows, ({ index }) => index, ruledRow);
}

function ruledRow() {
  const { element, slots } = clone("ruled-row");
  const update = ({ what, why }) => {
    setText(slots.what, what);
    setText(slots.why, why);
  };
  return { element, update };
}
