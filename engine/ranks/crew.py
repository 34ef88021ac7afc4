"""The ranks of an instance, as one of them reaches the others: its sockets, its tensor group, its place."""

import logging
from collections import deque
from typing import Final

import mlx.core as mx
import msgspec
import zmq

from bus.counts import Counts
from bus.keys import Keys, ZapGate, secure_client, secure_server
from bus.messages.engine import Connect, Part
from bus.messages.placement import Interconnect
from bus.sockets import bind
from engine.gauges import Gauges
from engine.inbox import Inbox
from engine.loader import Share
from engine.ranks.conductor import Conductor
from engine.ranks.follower import Follower
from engine.ranks.hop import MOST_UNSENT, Carrier, Collective, Inlet, Outlet, Parcel
from engine.ranks.rank import Equipment, Rank, Way
from engine.sharding.group import Place
from engine.sharding.jaccl import Mesh, NoRdma, check_available
from engine.sharding.stage import Stage
from engine.steps.plan import Result

logger = logging.getLogger(__name__)

DOORSTEP_S: Final = 0.5
"""How long what was sent last may take to leave at the end."""


class Unreachable(Exception):
    """The ranks can't be connected; the message says why and what to do."""


class Crew:
    """Made when a rank is told its part; connected when all ranks listen."""

    def __init__(self, part: Part, inbox: Inbox, gauges: Gauges, keys: Keys | None) -> None:
        """Raises Unreachable if it can't listen, or where RDMA is asked for and can't be had."""
        if part.interconnect is Interconnect.JACCL:
            try:
                check_available()
            except NoRdma as error:
                raise Unreachable(str(error)) from error
        self._part = part
        self._inbox = inbox
        self._gauges = gauges
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate = ZapGate(self._context, keys, Counts()) if keys else None
        self._outlets: list[Outlet] = []
        self._group: mx.distributed.Group | None = None
        self._hop_group: mx.distributed.Group | None = None
        socket = self._socket(zmq.PULL)
        if keys:
            secure_server(socket, keys)
        try:
            self.hop = bind(socket, part.listen)
            self._place = Place(part.listen) if self._needs_place else None
        except OSError as error:
            raise Unreachable(str(error)) from error
        self._inlet = Inlet(socket, inbox.bell)

    @property
    def _needs_place(self) -> bool:
        return self._part.tensor > 1 or self._part.interconnect is Interconnect.JACCL

    @property
    def ring(self) -> str:
        """Where its place in a group will be; empty without one."""
        return self._place.endpoint if self._place else ""

    def connect(self, others: Connect) -> None:
        """To the other ranks, all of which listen. Waits for those of the tensor group."""
        part = self._part
        if len(others.hops) != part.ranks:
            raise Unreachable(
                f"{len(others.hops)} endpoints came for {part.ranks} ranks: start the instance again"
            )
        self._hops = others.hops
        if self._place is not None:
            try:
                self._join(self._place, others)
            except (RuntimeError, NoRdma) as error:
                raise Unreachable(
                    f"the group of rank {part.rank} did not come together ({error}): check that its nodes "
                    "reach each other, and start the instance again"
                ) from error

    def _join(self, place: Place, others: Connect) -> None:
        """The group that divides our stage's layers, or, by RDMA, the one that hidden states go through."""
        part = self._part
        size = part.tensor if part.tensor > 1 else part.ranks
        start = part.rank - part.rank % size
        mates = slice(start, start + size)
        if part.interconnect is Interconnect.JACCL:
            mesh = Mesh(tuple(row[mates] for row in others.devices[mates]), others.rings[start])
            group = place.join_by_rdma(mesh, part.rank - start)
        else:
            group = place.join(others.rings[mates], part.rank - start)
        if part.tensor > 1:
            self._group = group
        else:
            self._hop_group = group
            if part.rank:
                self._inlet.carry(Collective(group, source=part.rank - 1))

    def share(self, kv_bits: int | None) -> Share:
        first, end = self._part.layers[self._part.stage]
        return Share(first, end, self._part.rank == self._sampling, self._group, kv_bits)

    @property
    def _sampling(self) -> int:
        """The rank that chooses the tokens."""
        return self._part.ranks - self._part.tensor

    def lead(self, stage: Stage, equipment: Equipment) -> Conductor:
        """As rank 0."""
        lanes = len(self._part.layers)
        results: deque[Result] = deque()
        beside = [self._outlet(rank) for rank in range(1, self._part.tensor)]
        way = Way(self._onward(), beside, results.append if self._sampling == 0 else None)
        rank = Rank(stage, lanes, way, equipment)
        return Conductor(rank, lanes, self._inlet, results, self._sampling, self._gauges)

    def follow(self, stage: Stage, equipment: Equipment) -> Follower:
        """As another one."""
        part = self._part
        tell = None
        if part.rank == self._sampling:
            leader, encoder = self._outlet(0), msgspec.msgpack.Encoder()

            def tell(result: Result) -> None:
                leader.send(Parcel(encoder.encode(result)))

        rank = Rank(stage, len(part.layers), Way(self._onward(), (), tell), equipment)
        upstream = part.rank - part.tensor if part.stage else 0
        return Follower(rank, self._inlet, self._inbox, self._gauges, upstream)

    def _onward(self) -> Outlet | None:
        target = self._part.rank + self._part.tensor
        if target >= self._part.ranks:
            return None
        return self._outlet(target, Collective(self._hop_group, target=target) if self._hop_group else None)

    def _outlet(self, rank: int, carrier: Carrier | None = None) -> Outlet:
        socket = self._socket(zmq.PUSH)
        if self._keys:
            secure_client(socket, self._keys)
        socket.connect(self._hops[rank])
        outlet = Outlet(socket, carrier)
        self._outlets.append(outlet)
        return outlet

    def _socket(self, kind: zmq.SocketType) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, MOST_UNSENT)
        socket.setsockopt(zmq.RCVHWM, MOST_UNSENT)
        # No heartbeats: what is on its way outlives a link that is down for a while. Who is gone, nodes know.
        socket.setsockopt(zmq.LINGER, int(DOORSTEP_S * 1000))
        return socket

    def close(self) -> None:
        for outlet in self._outlets:
            outlet.close()
        self._inlet.close()
        if self._gate:
            self._gate.close()
        self._context.term()
