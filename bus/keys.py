"""The cluster's key: made from its secret, put on sockets that leave the machine, and asked of who knocks.

Every member holds the same CURVE key pair, as server and as client: who has it is a member, and nobody else
is. CURVE shows that a caller knows a key; the gate (ZAP, https://rfc.zeromq.org/spec/27/) that it is ours.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

import zmq
from zmq.utils import z85

from bus.counts import Counts

_SALT: Final = b"exo-actors"
_GATE: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"exo-actors"
_VERSION: Final = b"1.0"
_CURVE: Final = b"CURVE"


@dataclass(frozen=True, slots=True)
class Keys:
    """A CURVE key pair, in Z85: 40 characters each."""

    public: bytes
    private: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: str) -> Self:
        """The key pair of a cluster's secret; takes about 0.1 s. Raises ValueError for an empty one."""
        if not secret:
            raise ValueError("A cluster's secret cannot be empty.")
        private = z85.encode(_stretched(secret))
        return cls(zmq.curve_public(private), private)

    @property
    def fingerprint(self) -> str:
        """Tells clusters apart, and tells nothing of their keys."""
        return hashlib.sha256(self.public).hexdigest()[:16]


@lru_cache(maxsize=4)
def _stretched(secret: str) -> bytes:
    # Slow on purpose: a secret that a person made up must not be found by trying words.
    return hashlib.scrypt(secret.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)


def secure_server(socket: zmq.Socket[bytes], keys: Keys) -> None:
    """Before it is bound: let in who has the cluster's key; nobody while its context has no gate."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.private)
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    # Without it, a context that has no gate would let in whoever knows the public key.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: zmq.Socket[bytes], keys: Keys) -> None:
    """Before it connects: speak only with who has the cluster's key."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.private)


class ZapGate:
    """Admits the cluster's key, and nothing else, to every secured socket of a ZeroMQ context.

    One per context, opened before the first socket is bound and closed after the last. It has a thread of its
    own, so that it works beside an event loop and in a process that has none.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys, counts: Counts) -> None:
        """Raises OSError if the context has a gate already."""
        self._admitted = z85.decode(keys.public)
        self._counts = counts
        self._questions = context.socket(zmq.REP)
        self._questions.setsockopt(zmq.LINGER, 0)
        try:
            self._questions.bind(_GATE)
        except zmq.ZMQError as error:
            self._questions.close()
            raise OSError(error.errno, "This ZeroMQ context has a gate already.") from error
        self._end, self._ended = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        endpoint = f"inproc://gate-end-{id(self)}"
        self._ended.bind(endpoint)
        self._end.connect(endpoint)
        self._thread = threading.Thread(target=self._serve, name="zap gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let in nobody any more; takes no longer than a question."""
        if not self._end.closed:
            self._end.send(b"")
            self._thread.join()
            self._end.close(linger=0)

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._questions, self._ended):
            poller.register(socket, zmq.POLLIN)
        while self._ended not in dict(poller.poll()):
            self._questions.send_multipart(self._answer(self._questions.recv_multipart()))
        self._questions.close()
        self._ended.close()

    def _answer(self, question: list[bytes]) -> list[bytes]:
        _, number, _, address, _, mechanism, *credentials = question
        if mechanism == _CURVE and credentials == [self._admitted]:
            return [_VERSION, number, b"200", b"OK", b"member", b""]
        self._counts.refuse(address.decode(errors="replace"), "its key is another one")
        return [_VERSION, number, b"400", b"Not the cluster's key", b"", b""]
