"""What a node is started with: made once from the command line and the environment, never changed."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Never, TypeVar

from exo_actors import __version__, convert
from exo_actors.logs import Levels, parse_levels

T = TypeVar("T")

DEFAULT_PORT = 52415
DEFAULT_BUS_PORT = 52416
DEFAULT_DATA_DIR = Path.home() / ".exo_actors"
"""Hidden, but at the same short path on every system: people copy models and keys there by hand."""
DEFAULT_PACE_MS = 60.0
DEFAULT_TIMEOUT_S = 3600.0
DEFAULT_PREFIXES_DISK = "8GiB"


class UsageError(Exception):
    """A flag or an environment variable is wrong; the message says which and what it takes."""


class Command(StrEnum):
    """What to do."""

    RUN = "run"
    DOCTOR = "doctor"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set on a node."""

    command: Command
    host: str
    """The address to listen on; beyond loopback only if a person says so."""
    port: int
    """0: any free one."""
    data_dir: Path
    models_dirs: tuple[Path, ...]
    """Where models lie: the first one that has a model counts, the first writable one takes new ones."""
    models: tuple[str, ...]
    """What to serve from the start, by name or path; none: the built-in model."""
    name: str | None
    offline: bool
    """Nothing is asked of the internet."""
    page: bool
    pace_s: float
    """The gap between two tokens of a running stream that others' prompts may cause."""
    timeout_s: float
    """The deadline of a whole request that does not bring its own."""
    context: int | None
    """The longest prompt and answer together, in tokens; None: what each model was made for."""
    api_keys: Path | None
    """A file with the keys that the API takes, and their limits; None: whoever reaches it may use it."""
    kv_memory: int | None
    """Bytes of KV cache on this node, all models together, at most; None: what its memory allows."""
    prefix_cache: bool
    """What was computed of a prompt is kept for prompts that begin the same."""
    keep_prefixes: bool
    """It is kept on disk, too, across restarts."""
    keep_prefixes_disk: int
    """Bytes of disk that it may take, for each instance."""
    speculation: bool
    """Tokens are guessed ahead while that pays."""
    listen: str
    """Where other machines reach this node's bus; beyond loopback only if a person says so."""
    bus_port: int | None
    """0: any free one; None: the usual one, or any free one where another node has that."""
    peers: tuple[str, ...]
    """HOST:PORT of other nodes' buses, to be called beside those that are found."""
    cluster_key: str | None = field(repr=False)
    """The key that all nodes of the cluster have, or the file that holds it; None: the data directory's."""
    mdns: bool
    """Find other nodes on the local network, and be found."""
    serve_nothing: bool
    """Only what somebody asks for is placed."""
    spare: bool
    """While there are other nodes, an engine process is kept ready for the loss of one."""
    auto_place: bool
    """A model that is asked for and placed nowhere is placed."""
    log: Levels
    node: str
    """`watch`: the address of the node to look at."""

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


def read(argv: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from arguments, else from the environment, else the defaults; raises UsageError."""
    given = _Given(_parser().parse_args(list(argv)), environment)
    host = given.one("host", convert.text, "127.0.0.1")
    port = given.one("port", convert.port, DEFAULT_PORT)
    data_dir = given.one("data-dir", convert.path, DEFAULT_DATA_DIR)
    return Settings(
        command=given.command,
        host=host,
        port=port,
        data_dir=data_dir,
        models_dirs=given.many("models-dir", convert.path, os.pathsep) or (data_dir / "models",),
        models=given.many("model", convert.text, ","),
        name=given.one("name", convert.text, None),
        offline=given.switch("offline"),
        page=not given.switch("no-page"),
        pace_s=given.one("pace", convert.positive, DEFAULT_PACE_MS) / 1000,
        timeout_s=given.one("timeout", convert.positive, DEFAULT_TIMEOUT_S),
        context=given.one("context", convert.count, None),
        api_keys=given.one("api-keys", convert.path, None),
        kv_memory=given.one("kv-memory", convert.size, None),
        prefix_cache=not given.switch("no-prefix-cache"),
        keep_prefixes=given.switch("keep-prefixes"),
        keep_prefixes_disk=given.one("keep-prefixes-disk", convert.size, convert.size(DEFAULT_PREFIXES_DISK)),
        speculation=not given.switch("no-speculation"),
        listen=given.one("listen", convert.address, "127.0.0.1"),
        bus_port=given.one("bus-port", convert.port, None),
        peers=given.many("peer", convert.peer, ","),
        cluster_key=given.one("cluster-key", convert.text, None),
        mdns=not given.switch("no-mdns"),
        serve_nothing=given.switch("no-model"),
        spare=not given.switch("no-spare"),
        auto_place=not given.switch("no-auto-place"),
        log=given.one("log", parse_levels, Levels()),
        node=given.one("node", convert.url, convert.node_url(host, port or DEFAULT_PORT)),
    )


def variable(flag: str) -> str:
    """The environment variable of a flag: EXO_MODELS_DIR of `models-dir`."""
    return "EXO_" + flag.upper().replace("-", "_")


class _Given:
    """What was given on the command line and, where nothing was, in the environment."""

    def __init__(self, arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self._arguments: dict[str, object] = vars(arguments)
        self._environment = environment
        self.command = _converted("the command", str(self._arguments["command"]), _command)

    def one(self, flag: str, as_type: Callable[[str], T], default: T) -> T:
        source, texts = self._texts(flag, separator=None)
        return _converted(source, texts[-1], as_type) if texts else default

    def many(self, flag: str, as_type: Callable[[str], T], separator: str) -> tuple[T, ...]:
        source, texts = self._texts(flag, separator)
        return tuple(_converted(source, text, as_type) for text in texts)

    def switch(self, flag: str) -> bool:
        source, texts = self._texts(flag, separator=None)
        return bool(texts) and _converted(source, texts[-1], convert.truth)

    def _texts(self, flag: str, separator: str | None) -> tuple[str, list[str]]:
        """Where it was given, and each of its values; none: not given."""
        given = self._arguments.get(flag.replace("-", "_"))
        if isinstance(given, list):
            return f"--{flag}", [str(text) for text in given]
        value = self._environment.get(variable(flag), "")
        parts = [value] if separator is None else value.split(separator)
        return variable(flag), [part.strip() for part in parts if part.strip()]


def _command(word: str) -> Command:
    if word not in list(Command):
        raise ValueError(f"{word!r} is none of {', '.join(Command)}")
    return Command(word)


def _converted(source: str, text: str, as_type: Callable[[str], T]) -> T:
    try:
        return as_type(text)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error


class _Parser(argparse.ArgumentParser):
    """argparse that leaves it to its caller to say what is wrong."""

    def error(self, message: str) -> Never:
        raise UsageError(f"{message} (see --help)")


ABOUT = """Make this machine a node, or look at one:

  run     the default: serve models until Ctrl-C; the address is the first line on standard output
  doctor  check this machine and say what to do
  watch   print what passes on the bus of a running node
"""

NOTES = f"""Each flag has an environment variable, EXO_ and its name: EXO_PORT, EXO_DATA_DIR, EXO_MODELS_DIR
(folders separated by {os.pathsep!r}), EXO_MODEL and EXO_PEER (separated by commas), EXO_OFFLINE=1, ... A flag
replaces its variable. EXO_BLAS=off keeps MLX on the BLAS that it brings; EXO_BLAS=/path/to/library.so takes
that one.

Exit codes: 0 stopped as asked, 2 wrong usage, 1 anything else.
"""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="exo_actors",
        description=ABOUT,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="run", help=" | ".join(Command))
    for flag, metavar, text in VALUES:
        parser.add_argument(f"--{flag}", metavar=metavar, action="append", help=text)
    for flag, text in SWITCHES:
        parser.add_argument(f"--{flag}", action="append_const", const="1", help=text)
    parser.add_argument("--version", action="version", version=f"exo_actors {__version__}")
    return parser


VALUES = (
    ("host", "ADDRESS", "address to listen on (127.0.0.1: this machine only)"),
    ("port", "PORT", f"port to listen on; 0: any free one ({DEFAULT_PORT})"),
    ("data-dir", "DIR", "the node's id, its logs and, unless told otherwise, its models (~/.exo_actors)"),
    ("models-dir", "DIR", "folder with models, may be read-only; repeatable (models in the data dir)"),
    ("model", "NAME_OR_PATH", "model to serve from the start; repeatable (the built-in one)"),
    ("name", "NAME", "what people call this node (the host's name)"),
    ("listen", "ADDRESS", "where other machines reach this node (127.0.0.1: nodes of this machine only)"),
    ("bus-port", "PORT", f"port for other nodes; 0: any free one ({DEFAULT_BUS_PORT}, or any free one)"),
    ("peer", "HOST:PORT", "another node's --listen and --bus-port; repeatable (found on the local network)"),
    ("cluster-key", "KEY_OR_FILE", "what nodes of one cluster share (cluster.key in the data dir)"),
    ("log", "SPEC", "what the terminal shows: debug, or engine=debug,bus=warning (info)"),
    ("pace", "MS", f"longest gap that others' prompts may cause in a running stream ({DEFAULT_PACE_MS:g})"),
    ("timeout", "S", f"deadline of a whole request, in seconds ({DEFAULT_TIMEOUT_S:g})"),
    ("context", "N", "longest prompt and answer together, in tokens (what each model was made for)"),
    ("api-keys", "FILE", "who may use the API, and how much: a JSON file (everybody, as they like)"),
    ("kv-memory", "SIZE", "KV cache on this node at most, such as 4GB (what its memory allows)"),
    ("keep-prefixes-disk", "SIZE", f"what --keep-prefixes may take, per instance ({DEFAULT_PREFIXES_DISK})"),
    ("node", "URL", "watch: the node to look at (http://HOST:PORT)"),
)
SWITCHES = (
    ("offline", "ask nothing of the internet"),
    ("no-page", "serve the API without the page"),
    ("no-mdns", "neither find nodes on the local network nor be found there"),
    ("no-model", "serve nothing from the start, not even the built-in model"),
    (
        "no-spare",
        "keep no engine process ready for the loss of another (saves its memory)",
    ),
    ("no-prefix-cache", "compute every prompt anew: keep nothing for prompts that begin the same"),
    ("keep-prefixes", "keep that on disk as well, in the data dir, across restarts"),
    ("no-speculation", "compute one token at a time: never guess ahead"),
    ("no-auto-place", "refuse what asks for a model that is not placed, rather than place it"),
)
