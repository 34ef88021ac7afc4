"""`GET /metrics`: what requests cost and how long they took, and the cluster's facts, for Prometheus."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.gateway import View
from api.placed import Placed
from bus.messages.facts import InstanceFact, NodeFact, RankFact, RequestFact, RequestState
from bus.messages.request import Admitted, Chunk, Completed, Failed, RequestEvent

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_E2E_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """By its client: it left."""


class Meter:
    """One request's clock; fed with its events as they come."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics
        self._began = time.monotonic()
        self._last: dict[int, float] = {}
        self._generated: dict[int, int] = {}
        self.outcome = Outcome.CANCELLED

    def observe(self, event: RequestEvent) -> None:
        """Note what the event says of tokens and time."""
        match event:
            case Chunk():
                self._chunk(event)
            case Admitted():
                self._metrics.prompt_tokens.inc(sum(event.prompt_tokens))
            case Completed():
                self.outcome = Outcome.COMPLETED
            case Failed():
                self.outcome = Outcome.FAILED
            case _:
                pass

    def _chunk(self, event: Chunk) -> None:
        """Gaps are per answer and per token: a chunk of two tokens is two gaps of half its wait."""
        fresh = event.generated - self._generated.get(event.index, 0)
        if fresh <= 0:
            return
        now = time.monotonic()
        if not self._generated:
            self._metrics.ttft_s.observe(now - self._began)
        last = self._last.get(event.index)
        if last is not None:
            for _ in range(min(fresh, 8)):
                self._metrics.itl_s.observe((now - last) / fresh)
        self._last[event.index] = now
        self._generated[event.index] = event.generated
        self._metrics.generated_tokens.inc(fresh)

    def finish(self) -> None:
        """The request is over."""
        self._metrics.requests.labels(self.outcome.value).inc()
        self._metrics.e2e_s.observe(time.monotonic() - self._began)


class Metrics:
    """The server's own counters and histograms in a registry of their own, and the view's facts."""

    def __init__(self, view: View, bus_counts: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter("exo_requests", "Requests that ended.", ["outcome"], registry=registry)
        self.prompt_tokens = Counter("exo_prompt_tokens", "Prompt tokens admitted.", registry=registry)
        self.generated_tokens = Counter("exo_generation_tokens", "Tokens generated.", registry=registry)
        self.ttft_s = Histogram(
            "exo_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_TTFT_S,
            registry=registry,
        )
        self.itl_s = Histogram(
            "exo_inter_token_latency_seconds",
            "Between two tokens of one answer.",
            buckets=_ITL_S,
            registry=registry,
        )
        self.e2e_s = Histogram(
            "exo_request_duration_seconds",
            "From a request's arrival to its end.",
            buckets=_E2E_S,
            registry=registry,
        )
        for outcome in Outcome:
            self.requests.labels(outcome.value)
        registry.register(FactsCollector(view, bus_counts))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """A clock for one request, stopped when the block is left."""
        meter = Meter(self)
        try:
            yield meter
        finally:
            meter.finish()

    async def get(self, _request: web.Request) -> web.Response:
        """The text exposition format."""
        return web.Response(
            body=generate_latest(self.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


class FactsCollector(Collector):
    """Reads the latest facts at each scrape: nothing here can go stale."""

    def __init__(self, view: View, bus_counts: Callable[[], Mapping[str, int]]) -> None:
        self._view = view
        self._bus_counts = bus_counts

    def collect(self) -> Iterator[Metric]:
        """All gauges and the bus's counters."""
        by_key = self._view.facts()
        facts = tuple(by_key.values())
        yield from _request_metrics([fact for fact in facts if isinstance(fact, RequestFact)])
        # While an epoch takes over from another both say something; a series can hold one of them only.
        yield from _instance_metrics(Placed(by_key).facts())
        yield from _rank_metrics([fact for fact in facts if isinstance(fact, RankFact)])
        yield from _node_metrics([fact for fact in facts if isinstance(fact, NodeFact)])
        yield _bus_metric(self._bus_counts())


def _bus_metric(counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily("exo_bus_events", "What the bus dropped or mended.", labels=["kind"])
    for kind, count in counts.items():
        family.add_metric([kind], count)
    return family


def _request_metrics(requests: list[RequestFact]) -> Iterator[Metric]:
    running = sum(r.state in (RequestState.PREFILL, RequestState.DECODE) for r in requests)
    waiting = sum(r.state is RequestState.WAITING for r in requests)
    yield GaugeMetricFamily("exo_requests_running", "Requests in prefill or decode.", running)
    yield GaugeMetricFamily(
        "exo_requests_waiting", "Requests that wait for an instance or in its line.", waiting
    )


def _instance_metrics(instances: Sequence[InstanceFact]) -> Iterator[Metric]:
    for name, text, read in _INSTANCE_GAUGES:
        family = GaugeMetricFamily(f"exo_instance_{name}", text, labels=["instance", "model"])
        for fact in instances:
            family.add_metric([fact.id, fact.model], read(fact))
        yield family
    for name, text, count in _INSTANCE_COUNTS:
        counter = CounterMetricFamily(f"exo_instance_{name}", text, labels=["instance", "model"])
        for fact in instances:
            counter.add_metric([fact.id, fact.model], count(fact))
        yield counter
    phases = GaugeMetricFamily(
        "exo_instance_phase", "1 for the phase that it is in.", labels=["instance", "model", "phase"]
    )
    for fact in instances:
        phases.add_metric([fact.id, fact.model, fact.phase.value], 1)
    yield phases


def _rank_metrics(ranks: list[RankFact]) -> Iterator[Metric]:
    labels = ["instance", "epoch", "rank", "node"]
    phases = GaugeMetricFamily(
        "exo_rank_phase", "1 for the phase that a rank of several is in.", labels=[*labels, "phase"]
    )
    active = GaugeMetricFamily("exo_rank_active_bytes", "Memory of all of its arrays.", labels=labels)
    for fact in ranks:
        which = [fact.instance, str(fact.epoch), str(fact.rank), fact.node]
        phases.add_metric([*which, fact.phase.value], 1)
        active.add_metric(which, fact.active_bytes)
    yield phases
    yield active


def _node_metrics(nodes: list[NodeFact]) -> Iterator[Metric]:
    yield GaugeMetricFamily("exo_nodes", "Machines in the cluster, this one among them.", len(nodes))
    for name, text, read in _NODE_GAUGES:
        family = GaugeMetricFamily(f"exo_node_{name}", text, labels=["node", "name"])
        for fact in nodes:
            family.add_metric([fact.id, fact.name], read(fact))
        yield family


_INSTANCE_GAUGES: tuple[tuple[str, str, Callable[[InstanceFact], float]], ...] = (
    ("running", "Sequences that decode.", lambda fact: fact.running),
    ("prefilling", "Sequences in prefill.", lambda fact: fact.prefilling),
    ("waiting", "Sequences that wait their turn.", lambda fact: fact.waiting),
    ("kv_bytes", "Memory of the KV cache.", lambda fact: fact.kv_bytes),
    ("kv_limit_bytes", "What the KV cache may take; 0: not bounded.", lambda fact: fact.kv_limit_bytes),
    ("prefix_bytes", "Of the KV cache: kept for later prompts.", lambda fact: fact.prefix_bytes),
    ("active_bytes", "Memory of all arrays.", lambda fact: fact.active_bytes),
    ("cached_bytes", "Freed memory that is kept for reuse.", lambda fact: fact.cached_bytes),
    ("tokens_per_second", "Decoded in the last second.", lambda fact: fact.tokens_per_s),
    ("epoch", "Counts its placements.", lambda fact: fact.epoch),
    ("ranks", "Nodes that it is divided over.", lambda fact: len(fact.nodes)),
    ("restarts", "Times that its engine was started again.", lambda fact: fact.restarts),
)

_INSTANCE_COUNTS: tuple[tuple[str, str, Callable[[InstanceFact], int]], ...] = (
    ("prompt_tokens", "Of prompts, since its engine's start.", lambda fact: fact.prompt_tokens),
    ("cached_tokens", "Of those, not computed again.", lambda fact: fact.cached_tokens),
    ("drafted_tokens", "Guessed ahead.", lambda fact: fact.drafted_tokens),
    ("accepted_tokens", "Guessed ahead and right.", lambda fact: fact.accepted_tokens),
    ("preempted", "Sequences put off for want of memory.", lambda fact: fact.preempted),
)

_NODE_GAUGES: tuple[tuple[str, str, Callable[[NodeFact], float]], ...] = (
    ("memory_total_bytes", "The machine's memory.", lambda fact: fact.memory.total_bytes),
    ("memory_available_bytes", "Memory that is to be had.", lambda fact: fact.memory.available_bytes),
    ("cpu_load", "0 to 1, over all cores.", lambda fact: fact.cpu_load),
)
