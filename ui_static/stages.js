// The stages of a divided model: which machines have which layers, and how far each of them is.

import { clone, mark, patchList, setOptional, setShare, setText } from "./dom.js";
import { integer, percent } from "./format.js";

/** A row that shows `{ stage, ranks, nodes }`. */
export function stageRow() {
  const { element, slots } = clone("stage-row");
  const update = ({ stage, ranks, nodes }) => {
    setText(slots.layers, layersOf(stage));
    patchList(slots.ranks, ranks.map((rank) => ({ rank, nodes })), ({ rank }) => rank.rank, rankChip);
  };
  return { element, update };
}

/** A run of layers in a person's counting: from 1, both ends included. */
export function layersOf({ first, end }) {
  return end - first === 1 ? `Layer ${integer(end)}` : `Layers ${integer(first + 1)}–${integer(end)}`;
}

function rankChip() {
  const { element, slots } = clone("rank-chip");
  const update = ({ rank, nodes }) => {
    mark(element, "phase", rank.phase);
    setText(slots.name, nodes.find((node) => node.id === rank.node)?.name ?? rank.node);
    setText(slots.phase, rankPhase(rank));
    setOptional(slots.reason, rank.phase === "ready" || rank.reason === rank.phase ? "" : rank.reason);
    slots.progress.hidden = rank.phase === "ready" || rank.progress === null;
    setShare(slots.bar, rank.progress ?? 0);
  };
  return { element, update };
}

/** A rank's phase, and how far it is in it where that is known. */
export function rankPhase({ phase, progress }) {
  return progress === null || phase === "ready" ? phase : `${phase} ${percent(progress)}`;
}
