"""A stage of a model of any architecture: some of its layers in a row, inside the model's own forward.

The model's code stays as it is. Layers of other stages return what they are given; the first of ours takes
the hidden states that another rank sent, whatever it is given; what the last of ours returns is caught. All
that the forward computes besides, such as other stages' embeddings or head, nobody ever asks the value of,
and so MLX neither computes nor reads it. What a model derives from tokens or from caches, such as masks, it
derives as ever: every stage has the real tokens, and in the places of other layers' caches stands one of
ours of the same kind.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
from mlx.nn.layers.base import Module

from engine.border import Network, forget_weights, weights_of
from engine.memory.caches import Cache, fresh_like, kind_of
from engine.memory.quantised import quantise
from engine.sharding.layers import dress, forward_of


class Stage:
    """Layers `first` to `end` of a network."""

    def __init__(
        self, network: Network, first: int, end: int, kv_bits: int | None = None, *, whole: bool = False
    ) -> None:
        """`kv_bits`: the caches keep so many of each number; None: all. `whole`: it is all of the model, and
        not divided. Any will do then: layers may share caches, or return more than hidden states."""
        layers = network.layers
        self.first = first == 0
        self.last = end == len(layers)
        self._network = network
        self._kv_bits = kv_bits
        self._own = range(first, end)
        self._received: mx.array | None = None
        self._caught: mx.array | None = None
        self._resting = False
        """Our layers, too, return what they are given: what lies around them can be read by itself."""
        self.shares_head = self.last and network.shards_head
        """Logits are made by all ranks of this stage together, and not by any that has the head."""
        self._whole = whole
        self._kinds = [kind_of(cache) for cache in network.make_caches()]
        if not whole:
            for index, layer in enumerate(layers):
                self._dress(index, layer)

    @property
    def layers(self) -> int:
        return len(self._own)

    # -- making it -------------------------------------------------------------------------------

    def _dress(self, index: int, layer: Module) -> None:
        """Change what this one layer does when it is called; its other attributes stay."""
        forward = forward_of(layer)

        def call(own: Module, hidden: mx.array, *rest: object, **named: object) -> mx.array:
            if index == self._own.start and self._received is not None:
                hidden = self._received
            if index in self._own and not self._resting:
                hidden = forward(own, hidden, *rest, **named)
            if index == self._own.stop - 1:
                self._caught = hidden
            return hidden

        dress(layer, call)
        if index not in self._own:
            forget_weights(layer)

    def materialise(self, samples: bool, progress: Callable[[int, int], None]) -> None:
        """Read our layers' weights, and what of the rest this rank needs; `samples`: the norm and head, too.

        `progress` is told how many of how many layers are there.
        """
        layers = [self._network.layers[index] for index in self._own]
        for done, layer in enumerate(layers):
            progress(done, len(layers))
            # One by one: a part of a tensor is cut out of all of it.
            for weight in weights_of(layer):
                mx.eval(weight)
        self._read_surroundings(samples)
        progress(len(layers), len(layers))

    def _read_surroundings(self, samples: bool) -> None:
        """Have the forward without any layer computed: that reads what it needs, and nothing else. Layers of
        a model that is not divided can't be left out, and are in memory already."""
        token = mx.array([[0]])
        if self._whole:
            mx.eval(self._network.forward(token, self._network.make_caches()))
            return
        self._resting = True
        logits = self._network.forward(token, self._network.make_caches())
        assert self._caught is not None
        if self.first:
            mx.eval(self._caught)
        elif samples:
            self._received = mx.zeros(self._caught.shape, self._caught.dtype)
            logits = self._network.forward(token, self._network.make_caches())
        if self.last and samples:
            mx.eval(logits)
        self._resting = False
        self._received = self._caught = None

    # -- computing -------------------------------------------------------------------------------

    def fresh(self) -> list[Cache]:
        """Caches of our layers for one sequence that has nothing computed yet."""
        caches = self.all_fresh()
        return caches if self._whole else [caches[index] for index in self._own]

    def all_fresh(self) -> list[Cache]:
        """As `fresh`, of all layers of the model."""
        caches = self._network.make_caches()
        return quantise(caches, self._kv_bits) if self._kv_bits else caches

    def forward(
        self, tokens: mx.array, received: mx.array | None, own: Sequence[Cache]
    ) -> tuple[mx.array, mx.array]:
        """What our last layer returns (the logits where we have all of them on one rank), and the logits,
        which mean something at the last stage only.

        `tokens`: [batch, tokens]; `received`: [batch, tokens, width], None at the first stage; `own`: one
        cache per layer of ours, for that batch. Nothing is computed until it is asked for.
        """
        return self._run(self._network.forward, tokens, received, own)

    def embed(
        self, tokens: mx.array, received: mx.array | None, own: Sequence[Cache]
    ) -> tuple[mx.array, mx.array]:
        """As `forward`, with hidden states [batch, tokens, width] after the final norm in place of logits."""
        return self._run(self._network.hidden, tokens, received, own)

    def _run(
        self,
        forward: Callable[[mx.array, list[Cache]], mx.array],
        tokens: mx.array,
        received: mx.array | None,
        own: Sequence[Cache],
    ) -> tuple[mx.array, mx.array]:
        if self._whole:
            made = forward(tokens, list(own))
            return made, made
        self._received = received
        made = forward(tokens, self._all_caches(own, tokens.shape[0]))
        caught = self._caught
        assert caught is not None
        self._received = self._caught = None
        return caught, made

    def _all_caches(self, own: Sequence[Cache], batch: int) -> list[Cache]:
        """One per layer of the model, with stand-ins where layers are not ours."""
        standing = {self._kinds[index]: cache for index, cache in zip(self._own, own, strict=True)}
        full: list[Cache] = []
        for index, kind in enumerate(self._kinds):
            if index in self._own:
                full.append(own[index - self._own.start])
            else:
                if kind not in standing:
                    standing[kind] = fresh_like(self._network.make_caches()[index], batch)
                full.append(standing[kind])
        return full
