"""Looks for the best way to place a model on each grid of stages and tensor ranks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actors.planner.division import divide, evened
from actors.planner.grids import Grid
from actors.planner.machines import Machine
from actors.planner.memory import Needs, Room, contexts, runs
from actors.planner.orders import Groups, Orders, grouped, roomiest
from actors.planner.speed import Links, Pace
from bus.messages.facts import Shape
from bus.messages.placement import Interconnect, Wish


@dataclass(frozen=True, slots=True)
class Draft:
    """A way to place a model."""

    groups: Groups
    layers: tuple[int, ...]
    """Of each stage."""
    interconnect: Interconnect
    context: int
    score: float
    """Tokens per second, of one stream."""
    bounded_by: Machine | None = None
    """Whose limit for KV cache makes the context shorter than it could be; None: nobody's."""

    @property
    def grid(self) -> Grid:
        """Its stages and their ranks."""
        return Grid(len(self.groups), len(self.groups[0]))


class Search:
    """Tries what is worth trying for one wish. The same for the same, in whatever order it is asked."""

    def __init__(
        self,
        wish: Wish,
        shape: Shape,
        own_context: int | None,
        links: Links,
        draft: Shape | None = None,
    ) -> None:
        """`draft`: of the model that guesses ahead, where there is to be one."""
        self._wish, self._shape, self._draft = wish, shape, draft
        self.contexts = contexts(own_context, wish.context)
        self._pace = Pace(shape, links)
        self._orders = Orders(links)
        self._needs: dict[tuple[int, int], Needs] = {}

    def needs(self, context: int, tensor: int) -> Needs:
        """What the model needs, reckoned once."""
        key = context, tensor
        if key not in self._needs:
            wish = self._wish
            self._needs[key] = Needs(self._shape, context, tensor, wish.kv_bits, self._draft, wish.kv_bytes)
        return self._needs[key]

    def best(self, grid: Grid, pool: Sequence[Machine], interconnect: Interconnect) -> Draft | None:
        """The fastest with the longest context; None: no arrangement of these nodes holds the model."""
        least = self.needs(self.contexts[-1], grid.tensor)
        if len(pool) < grid.size or self._layers(self._roomiest(pool, grid, least), least) is None:
            return None
        for context in self.contexts:
            needs = self.needs(context, grid.tensor)
            drafts = list(self._drafts(grid, pool, interconnect, needs))
            if drafts:
                return max(drafts, key=lambda draft: draft.score)
        return None

    def _drafts(
        self, grid: Grid, pool: Sequence[Machine], interconnect: Interconnect, needs: Needs
    ) -> Iterator[Draft]:
        tried = [self._roomiest(pool, grid, needs)]
        if not self._wish.nodes and len(pool) > 1:
            linked = interconnect is Interconnect.RING
            tried = [*self._orders.quickest(pool, grid, needs, linked), *tried]
        for groups in dict.fromkeys(tried):
            layers = self._layers(groups, needs)
            if layers is not None:
                score = self._pace.tokens_per_s(groups, layers, interconnect)
                context, bounded_by = self._context(groups, layers, needs)
                yield Draft(groups, layers, interconnect, context, score, bounded_by)

    def _roomiest(self, pool: Sequence[Machine], grid: Grid, needs: Needs) -> Groups:
        """Or what the wish says: then the pool is in its order."""
        if self._wish.nodes:
            return grouped(pool, grid)
        return roomiest(pool, grid, needs, self._wish.layers)

    def _layers(self, groups: Groups, needs: Needs) -> tuple[int, ...] | None:
        """How many layers each stage takes; None: they don't fit."""
        rooms = [Room.tightest(machine.room for machine in group) for group in groups]
        if self._wish.layers:
            stages = zip(rooms, runs(self._wish.layers), strict=True)
            return self._wish.layers if all(needs.fits(*run, room) for room, run in stages) else None
        last = len(groups) - 1
        speeds = evened([min(machine.rate for machine in group) for group in groups])
        capacities = [
            needs.capacity(room, at_end=stage in (0, last), leads=stage == 0)
            for stage, room in enumerate(rooms)
        ]
        return divide(needs.layers, speeds, capacities)

    def _context(self, groups: Groups, layers: tuple[int, ...], needs: Needs) -> tuple[int, Machine | None]:
        """As many tokens as all stages have room for: the contexts that are tried are far apart. With them
        the node whose limit for KV cache allows no more, if that is what counts."""
        context, bounded_by = self.contexts[0], None
        for group, run in zip(groups, runs(layers), strict=True):
            for machine in group:
                longest = needs.longest_context(*run, machine.room)
                if longest is not None and longest < context:
                    context = longest
                    without = needs.longest_context(*run, Room(machine.free))
                    bounded_by = machine if without != longest else None
        return context, bounded_by
