"""One scenario from its first request to the answers at its end."""

import asyncio

from scripts.fault_runs.asking import Asker, Errand, Question
from scripts.fault_runs.care import place, placed, views, wait_for, withdraw_all
from scripts.fault_runs.cluster import Cluster, ClusterBroken, Node
from scripts.fault_runs.history import Began, Settled
from scripts.fault_runs.recorder import Recorder
from scripts.fault_runs.rest import Views, apart, is_idle, unready
from scripts.fault_runs.scenarios import Client, Moment, Scenario
from scripts.fault_runs.striking import Striker, reached

PATIENCE_S = 60.0
"""Of a client, after the last fault was undone."""
SETTLE_S = 60.0
MOMENT_S = 30.0
"""How long the moment of a fault is waited for; it is done then anyhow."""
HUNG_S = 2.0
"""Of a client whose node hangs for good."""
IDLE_S = 5.0
PROBE_S = 30.0


class Run:
    """One scenario from its first request to the answers at its end."""

    def __init__(
        self,
        seed: int,
        model: str,
        recorder: Recorder,
        cluster: Cluster,
        questions: list[Question],
        scenario: Scenario,
    ) -> None:
        self._seed = seed
        self._model = model
        self._recorder = recorder
        self._cluster = cluster
        self._questions = questions
        self._scenario = scenario
        self._askers: list[tuple[str, Asker]] = []
        self._hung: set[str] = set()
        """Nodes that will never go on."""
        self._striker = Striker(cluster, recorder, model, f"n{scenario.clients[0].node}")

    async def conduct(self) -> None:
        """Requests and faults, then rest, then one request to each node that lives."""
        self._begin()
        reasons: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                await self._requests_and_faults(group)
        except* ClusterBroken as broken:
            reasons += map(str, broken.exceptions)
        await self._settle("; ".join(reasons))
        async with asyncio.TaskGroup() as group:
            for node in self._cluster.live:
                group.create_task(self._probe(node))

    async def _requests_and_faults(self, group: asyncio.TaskGroup) -> None:
        scenario, history = self._scenario, self._recorder.events
        if scenario.moment is Moment.LOAD:
            await withdraw_all(self._cluster, self._recorder, self._model)
            await place(self._cluster.nodes[0], self._model, scenario.layout)
        for index, client in enumerate(scenario.clients):
            group.create_task(self._ask(index, client))
        await self._recorder.until(lambda: reached(scenario.moment, history), MOMENT_S)
        await asyncio.sleep(scenario.delay_s)
        self._hung |= await self._striker.strike(scenario.faults, group)
        for node, asker in self._askers:
            if node in self._hung:
                asker.hurry(HUNG_S)

    def _begin(self) -> None:
        scenario, cluster = self._scenario, self._cluster
        self._recorder.begin()
        found = set() if scenario.moment is Moment.LOAD else placed(cluster, self._model)
        began = Began(
            at_s=0.0,
            seed=self._seed,
            number=scenario.number,
            scenario=scenario.name,
            nodes=tuple(node.name for node in cluster.nodes),
            instance=min(found, default=""),
        )
        self._recorder.add(began)
        for node in cluster.nodes:
            node.watcher.repeat()

    async def _ask(self, index: int, client: Client) -> None:
        await asyncio.sleep(client.delay_s)
        node = self._cluster.nodes[client.node]
        errand = Errand(
            request=f"r{index}",
            node=node.name,
            url=node.url,
            model=self._model,
            question=self._questions[client.prompt],
            leaves=client.leaves,
            after_pieces=client.after_pieces,
        )
        longest_s = max((fault.heal_after_s or 0.0 for fault in self._scenario.faults), default=0.0)
        asker = Asker(errand, self._recorder)
        self._askers.append((node.name, asker))
        await asker.run(HUNG_S if node.name in self._hung else PATIENCE_S + longest_s)

    async def _settle(self, reason: str) -> None:
        try:
            await wait_for(self._cluster, self._recorder, self._amiss, SETTLE_S)
        except ClusterBroken as broken:
            reason = reason or str(broken)
        await self._recorder.until(lambda: is_idle(views(self._cluster), self._model), IDLE_S)
        live = tuple(node.name for node in self._cluster.live)
        self._recorder.add(Settled(at_s=self._recorder.now_s, reason=reason, live=live))

    def _amiss(self, seen: Views) -> str:
        return apart(seen) or unready(seen, self._model)

    async def _probe(self, node: Node) -> None:
        question = min(self._questions, key=lambda question: question.max_tokens)
        errand = Errand(
            request=f"probe-{node.name}",
            node=node.name,
            url=node.url,
            model=self._model,
            question=question,
            probe=True,
        )
        await Asker(errand, self._recorder).run(PROBE_S)
