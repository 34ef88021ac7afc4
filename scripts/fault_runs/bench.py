"""Carries scenarios out on a cluster that is kept warm from one to the next."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts.fault_runs.asking import Question
from scripts.fault_runs.care import mend, place, views, wait_for, withdraw_all
from scripts.fault_runs.cluster import Cluster, ClusterBroken, running
from scripts.fault_runs.history import AnyEvent, Mended
from scripts.fault_runs.questions import questions
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.rest import apart, unready
from scripts.fault_runs.run import Run
from scripts.fault_runs.scenarios import Layout, Scenario

WHOLE_S = 60.0
"""Until all nodes of a cluster see each other, and for a model to be placed and ready."""
WHOLE = Layout(1, 1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all runs."""

    seed: int
    folder: Path
    models: Path
    """A folder with the model in it."""
    model: str


class Bench:
    """A cluster at a time, and the runs on it."""

    def __init__(self, terms: Terms) -> None:
        self.recorder = Recorder()
        self._terms = terms
        self._stack = AsyncExitStack()
        self._cluster: Cluster | None = None
        self._shape: tuple[int, bool] | None = None
        self._questions: list[Question] = []
        self._clusters = 0
        self.logs: list[Path] = []
        """What the nodes of the latest cluster print."""

    async def close(self) -> None:
        """End the cluster."""
        self._cluster = None
        await self._stack.aclose()

    async def run(self, scenario: Scenario) -> list[AnyEvent]:
        """The history of one run. Raises ClusterBroken when no cluster could be had to run it on."""
        try:
            cluster = await self._ready(scenario)
        except ClusterBroken:
            await self.close()
            raise
        run = Run(self._terms.seed, self._terms.model, self.recorder, cluster, self._questions, scenario)
        await run.conduct()
        await self._mend(cluster)
        return list(self.recorder.events)

    async def _mend(self, cluster: Cluster) -> None:
        reason = ""
        try:
            await mend(cluster, self.recorder)
            await wait_for(cluster, self.recorder, apart, WHOLE_S)
            await wait_for(cluster, self.recorder, lambda seen: unready(seen, self._terms.model), WHOLE_S)
        except ClusterBroken as broken:
            reason = str(broken)
            await self.close()
        self.recorder.add(Mended(at_s=self.recorder.now_s, reason=reason))

    async def _ready(self, scenario: Scenario) -> Cluster:
        """A whole cluster with the instance ready: the one that there is, or else a new one."""
        shape = (scenario.nodes, scenario.namespaces)
        if self._cluster is not None and self._shape == shape:
            await self._prepare(self._cluster, scenario.layout)
            return self._cluster
        await self.close()
        return await self._new(shape, scenario.layout)

    async def _new(self, shape: tuple[int, bool], layout: Layout) -> Cluster:
        self._clusters += 1
        folder = self._terms.folder / f"cluster-{self._clusters}"
        entered = running(*shape, folder, self._terms.models, self._terms.model, self.recorder)
        self._cluster = cluster = await self._stack.enter_async_context(entered)
        self._shape = shape
        self.logs = [node.log for node in cluster.nodes]
        # What the nodes place at their start by themselves has to be there before it can be withdrawn.
        await wait_for(cluster, self.recorder, lambda seen: unready(seen, self._terms.model), WHOLE_S)
        if not self._questions:
            await self._prepare(cluster, WHOLE)
            self._questions = await questions(cluster.nodes[0].url, self._terms.model, self._terms.seed)
        await self._prepare(cluster, layout)
        return cluster

    async def _prepare(self, cluster: Cluster, layout: Layout) -> None:
        """Wait until the cluster is whole; have the model placed in this layout alone."""
        await wait_for(cluster, self.recorder, apart, WHOLE_S)
        model = self._terms.model
        if unready(views(cluster), model, layout):
            await withdraw_all(cluster, self.recorder)
            await place(cluster.nodes[0], model, layout)
        await wait_for(cluster, self.recorder, lambda seen: unready(seen, model, layout), WHOLE_S)
