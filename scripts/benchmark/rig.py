"""What every scenario works with: servers, models, clients, a place to write, and how thorough to be."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark import models
from scripts.benchmark.contenders import Contender, MlxLm, Server, running
from scripts.benchmark.load import Load, check
from scripts.benchmark.models import Prompts, Shape
from scripts.benchmark.process import ProcessDied, usable_cores
from scripts.benchmark.traffic import Body, Message, Report, Wish

READY_S = 120.0
"""How long a server may take to start and answer."""


@dataclass
class Rig:
    """The bench that scenarios are run on."""

    load: Load
    scratch: Path
    peers: tuple[MlxLm, ...]
    """The first is the one to compare with."""
    quick: bool
    _models: dict[str, tuple[Path, Prompts]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def rounds(self, thorough: int) -> int:
        return max(1, thorough // 4) if self.quick else thorough

    def say(self, text: str) -> None:
        """How far it is, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def model(self, shape: Shape) -> Path:
        """The model's folder; made when it is first asked for."""
        return self._made(shape)[0]

    def prompt(self, shape: Shape, tokens: int) -> str:
        """A prompt that nobody was asked before."""
        return self._made(shape)[1].next(tokens)

    def folder(self) -> Path:
        """A name in the scratch folder that is not taken."""
        return self.scratch / f"run-{next(self._numbers)}"

    def two_cores(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """One core for each of two nodes, and the others for the clients; empty where nobody can choose."""
        first, second, others = usable_cores()[:1], usable_cores()[1:2], usable_cores()[2:]
        if not second:
            return (), ()
        self.load.keep_to(others)
        return first, second

    @contextmanager
    def serving(self, contenders: Sequence[Contender], shape: Shape) -> Iterator[list[Server]]:
        """All of them serving the model at once, ready and warm; idle ones take next to nothing."""
        with ExitStack() as stack:
            servers = []
            for contender in contenders:
                server = stack.enter_context(running(contender, self.model(shape), self.folder()))
                self.run(server, [self.wish(server, shape, 64, 16, insist_s=READY_S)], READY_S)
                self.run(server, [self.wish(server, shape, 64, 32) for _ in range(4)], READY_S)
                servers.append(server)
            yield servers

    def wish(
        self,
        server: Server,
        shape: Shape,
        prompt_tokens: int,
        max_tokens: int,
        *,
        temperature: float = 0.0,
        stream: bool = True,
        delay_s: float = 0.0,
        hang_up_after_s: float | None = None,
        background: bool = False,
        insist_s: float = 0.0,
    ) -> Wish:
        """A request to a server, with a prompt of its own."""
        body = Body(
            model=server.model,
            prompt=self.prompt(shape, prompt_tokens),
            max_tokens=max_tokens,
            temperature=temperature,
            stream=stream,
            stream_options={"include_usage": True} if stream else None,
        )
        return Wish(
            url=f"{server.url}/v1/completions",
            body=body,
            delay_s=delay_s,
            hang_up_after_s=hang_up_after_s,
            background=background,
            insist_s=insist_s,
        )

    def chat(
        self,
        server: Server,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        turns: Sequence[Sequence[Message]] = (),
        tools: Sequence[dict[str, object]] = (),
        response_format: dict[str, object] | None = None,
        ignore_eos: bool = False,
    ) -> Wish:
        """A greedy chat with a server, streamed."""
        body = Body(
            model=server.model,
            messages=tuple(messages),
            tools=tuple(tools),
            max_tokens=max_tokens,
            temperature=0.0,
            stream=True,
            stream_options={"include_usage": True},
            response_format=response_format,
            ignore_eos=ignore_eos,
        )
        said = tuple(tuple(turn) for turn in turns)
        return Wish(url=f"{server.url}/v1/chat/completions", body=body, turns=said)

    def run(self, server: Server, wishes: Sequence[Wish], deadline_s: float) -> Report:
        """Let clients do as they are told. Raises ProcessDied, with the server's last words."""
        self.start(server, wishes, deadline_s)
        return self.finish(server)

    def start(self, server: Server, wishes: Sequence[Wish], deadline_s: float) -> None:
        """Set clients going; `finish` has to follow."""
        for process in server.processes:
            process.check()
        self.load.start(wishes, deadline_s)

    def finish(self, server: Server) -> Report:
        """What the clients saw."""
        report = self.load.finish()
        for process in server.processes:
            process.check()
        try:
            check(report.seen)
        except RuntimeError as error:
            raise ProcessDied(f"{server.contender}: {error}\n{server.process.last_words()}") from error
        return report

    def _made(self, shape: Shape) -> tuple[Path, Prompts]:
        if shape.name not in self._models:
            path = models.make(shape, self.scratch / "models")
            self._models[shape.name] = (path, Prompts(path))
        return self._models[shape.name]
