"""Requests that come, go on with each other's answers, are cancelled, and give way: all drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from bus.messages.base import SequenceId
from bus.messages.engine import Budget, Submit
from bus.messages.generation import Sampling, Stopping, TokenPrompt
from engine.scheduling.pace import Pace
from tests.engine.harness import Harness

LONGEST: Final = 230
"""Tokens of a prompt."""
ANSWER: Final = 40
"""Tokens of an answer at most."""
TURNS: Final = 20_000
"""Of the loop: more than any traffic here takes."""
CACHE_BYTES: Final = 1 << 26
PLENTY: Final = Budget(1 << 30, CACHE_BYTES)


@dataclass(frozen=True, slots=True)
class Drawn(Pace):
    """Slices of any size: nothing hangs on how long a step took."""

    gap_s: float = 0.06
    seed: int = 0
    step: int = 0

    def after_decode(self, took_s: float) -> Pace:
        return self._next()

    def after_join(self, took_s: float) -> Pace:
        return self._next()

    def after_slice(self, *seen: object, **named: object) -> Pace:
        return self._next()

    def _next(self) -> Drawn:
        return replace(self, step=self.step + 1)

    def slice(self, position: int, crowd: float | None, joining: bool = False) -> int:
        return random.Random(self.seed * TURNS + self.step).choice((1, 3, 16, 30, 64, 300))


@dataclass(slots=True)
class Asked:
    """A request."""

    sequence: SequenceId
    prompt: tuple[int, ...]
    tokens: int
    greedy: bool
    echo: bool
    """Log-probabilities of the prompt's own tokens are wanted, too."""
    cancelled: bool = False


class Traffic:
    """Of one harness; what was asked, and what came of it."""

    def __init__(self, harness: Harness, seed: int) -> None:
        self.asked: list[Asked] = []
        self._harness = harness
        self._seed = seed
        self._chance = random.Random(seed)

    def run(self, requests: int) -> None:
        """Until so many or a few more have ended, and nothing is kept of them."""
        self._harness.inbox.put(PLENTY)
        turns = 0
        while (live := self._live()) or len(self.asked) < requests:
            self._act(live, requests)
            self._harness.loop.turn()
            turns += 1
            assert turns < TURNS, f"it never ends: {[each.sequence for each in live]} are under way"
        self._harness.inbox.put(Budget(1 << 30, CACHE_BYTES, short=True))
        self._harness.loop.turn()

    def _live(self) -> list[Asked]:
        return [each for each in self.asked if not each.cancelled and not self._harness.over(each.sequence)]

    def _act(self, live: list[Asked], requests: int) -> None:
        chance = self._chance
        if len(self.asked) < requests and (not live or chance.random() < 0.08):
            for _ in range(chance.choice((1, 1, 2, 4))):
                self._ask(f"{self._seed}-{len(self.asked)}")
        elif live and chance.random() < 0.01:
            gone = chance.choice(live)
            gone.cancelled = True
            self._harness.cancel(gone.sequence)
        elif chance.random() < 0.02:
            self._harness.inbox.put(self._budget())

    def _budget(self) -> Budget:
        """For one to three of the longest that there are, or for all."""
        chance, footprint = self._chance, self._harness.footprint
        if chance.random() < 0.3:
            return PLENTY
        longest = LONGEST + 2 * ANSWER
        alone = footprint.sequence(longest) + footprint.copying([longest])
        return Budget(int(alone * chance.uniform(1.0, 3.0)), CACHE_BYTES, short=chance.random() < 0.2)

    # -- requests --------------------------------------------------------------------------------

    def _ask(self, name: str) -> None:
        chance, prompt = self._chance, self._prompt()
        greedy, echo = chance.random() < 0.8, chance.random() < 0.1
        tokens = chance.randint(1, ANSWER)
        sampled = Sampling(temperature=0.9, seed=chance.randrange(1 << 30))
        wish = Submit(
            SequenceId(name),
            TokenPrompt(prompt),
            Sampling(temperature=0.0) if greedy else sampled,
            Stopping(max_tokens=tokens, ignore_eos=True),
            logprobs=0,
            echo=echo,
            priority=chance.choice((0, 0, 0, 1)),
        )
        marks = tuple(sorted(chance.sample(range(1, len(prompt)), 2))) if len(prompt) > 20 else ()
        self._harness.inbox.put(replace(self._harness.intake.accept(wish), marks=marks))
        self.asked.append(Asked(wish.sequence, prompt, tokens, greedy, echo))

    def _prompt(self) -> tuple[int, ...]:
        """Half of them go on with what was asked and answered before, or with a part of it; of what is new,
        much repeats itself."""
        chance = self._chance
        begins: tuple[int, ...] = ()
        if self.asked and chance.random() < 0.5:
            before = chance.choice(self.asked)
            begins = (*before.prompt, *self.ids(before))
            begins = begins[: len(begins) if chance.random() < 0.6 else chance.randint(1, len(begins))]
        length = chance.choice((1, 2, 9, 17, 33, 70, 150))
        words = [chance.randrange(20, 500) for _ in range(chance.choice((3, 6, 200)))]
        return (*begins, *(words[place % len(words)] for place in range(length)))[:LONGEST]

    # -- answers ---------------------------------------------------------------------------------

    def ids(self, each: Asked) -> tuple[int, ...]:
        return tuple(token for delta in self._harness.deltas(each.sequence) for token in delta.ids)

    def logprobs(self, each: Asked) -> list[float | None]:
        """Of its prompt's tokens, where they were wanted, and of its own; a cancelled one may lack some."""
        return [told.logprob for delta in self._harness.deltas(each.sequence) for told in delta.logprobs]
