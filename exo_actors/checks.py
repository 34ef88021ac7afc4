"""What the doctor looks at, in the order in which things can go wrong."""

import errno
import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from api.keys import KeysError, read_keys
from bus.messages.facts import Memory, Pressure
from exo_actors import packages
from exo_actors.cluster_key import KEY_FILE, KeyFileError, cluster_key
from exo_actors.findings import Check, Finding, Verdict
from exo_actors.settings import DEFAULT_BUS_PORT, Settings, UsageError
from host import accelerator, memory, probe
from host.blas import BlasState
from models import store

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL

SMALL_BYTES = 1_000_000_000
"""Less available memory than this leaves no room for a model of any use."""


def check_packages(_: Settings) -> Iterator[Finding]:
    needed = packages.needed()
    misfits = packages.misfits(needed)
    for misfit in misfits:
        advice = "start with scripts/run, which installs the locked versions"
        yield Finding(WARN if misfit.found else FAIL, f"packages: {misfit}", advice)
    if not misfits:
        yield Finding(OK, f"packages: {len(needed)} within their bounds")


def check_mlx(_: Settings) -> Iterator[Finding]:
    trial = probe.try_mlx(os.environ)
    if isinstance(trial, str):
        yield Finding(FAIL, f"MLX: {trial}", "remove .venv and start with scripts/run")
        return
    speed = f"{trial.gigaflops:.3g} GFLOP/s in f32"
    note = accelerator.read().note if trial.backend == "cpu" else ""
    advice = note if note == accelerator.USE_CUDA else ""
    words = f"MLX {trial.version} on {trial.backend} ({trial.device}), {speed}"
    yield Finding(WARN if advice else OK, words, advice)
    yield from judge_blas(trial, _without_blas(trial))


def _without_blas(trial: probe.Trial) -> float | None:
    """The speed without the system's BLAS, where it is in use."""
    if trial.blas != BlasState.PRELOADED:
        return None
    bare = probe.try_mlx({**os.environ, "EXO_BLAS": "off"})
    return bare.gigaflops if isinstance(bare, probe.Trial) else None


def judge_blas(trial: probe.Trial, bare_gigaflops: float | None) -> Iterator[Finding]:
    """What MLX's matrix products on the CPU run on, and what that is worth here."""
    match BlasState(trial.blas):
        case BlasState.PRELOADED:
            gain = (
                f", {trial.gigaflops / bare_gigaflops:.3g} times as fast as without" if bare_gigaflops else ""
            )
            yield Finding(OK, f"BLAS: {trial.blas_build}, {trial.threads} threads{gain}")
        case BlasState.NOT_NEEDED:
            yield Finding(OK, "BLAS: MLX brings a fast one")
        case BlasState.ABSENT | BlasState.OFF | BlasState.LATE:
            yield Finding(WARN, "BLAS: MLX computes with its slow reference BLAS", trial.blas_note)


def check_memory(_: Settings) -> Iterator[Finding]:
    yield judge_memory(memory.read())


def judge_memory(now: Memory) -> Finding:
    """Whether a model has a chance here."""
    words = f"memory: {now.available_bytes / 1e9:.1f} of {now.total_bytes / 1e9:.1f} GB available"
    words += f", pressure {now.pressure.value}" + (f" ({now.reason})" if now.reason else "")
    if now.pressure in (Pressure.WARNING, Pressure.CRITICAL) or now.available_bytes < SMALL_BYTES:
        return Finding(WARN, words, "close other programs before loading large models")
    return Finding(OK, words)


def check_port(settings: Settings) -> Iterator[Finding]:
    where = f"{settings.host}:{settings.port}"
    if settings.port == 0:
        yield Finding(OK, f"port: any free one on {settings.host}")
        return
    try:
        _try_listening(settings.host, settings.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "if that is not a node of yours, stop it or give another --port"
            yield Finding(WARN, f"port: {where} is in use", advice)
        else:
            yield Finding(FAIL, f"port: {where}: {error.strerror}", "give another --host or --port")
    else:
        yield Finding(OK, f"port: {where} is free")


def check_listen(settings: Settings) -> Iterator[Finding]:
    """Whether other nodes can reach this one where it says."""
    port = DEFAULT_BUS_PORT if settings.bus_port is None else settings.bus_port
    where = f"listen: {settings.listen}:{port or 'any free port'}"
    try:
        _try_listening(settings.listen, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            mine = ", ".join(_own_addresses()) or "there is none"
            yield Finding(FAIL, f"{where}: {error.strerror}", f"--listen takes one of this machine's: {mine}")
        elif settings.bus_port is None:
            yield Finding(OK, f"{where} is another node's: this one takes any free port")
        else:
            advice = "if that is not a node of yours, stop it or give another --bus-port"
            yield Finding(WARN, f"{where} is in use", advice)
    else:
        alone = ipaddress.ip_address(settings.listen).is_loopback
        mine = next(iter(_own_addresses()), "ADDRESS")
        advice = f"for nodes on other machines, give --listen {mine}" if alone else ""
        yield Finding(OK, f"{where} is free", advice)


def _own_addresses() -> list[str]:
    """This machine's IPv4 addresses, without those that mean itself on each."""
    found = (each for interface in psutil.net_if_addrs().values() for each in interface)
    addresses = (each.address for each in found if each.family is socket.AF_INET)
    return [address for address in addresses if not ipaddress.ip_address(address).is_loopback]


def check_key(settings: Settings) -> Iterator[Finding]:
    """Whether the cluster's key can be had, and is kept from others; none is made for that."""
    path = settings.data_dir / KEY_FILE
    if settings.cluster_key is None and not path.exists():
        yield Finding(OK, "key: made at the first start", "to join a cluster, give its --cluster-key")
        return
    try:
        cluster_key(settings.cluster_key, settings.data_dir)
    except (UsageError, KeyFileError) as error:
        yield Finding(FAIL, f"key: {error}", "a node does not start with that")
    else:
        yield Finding(OK, "key: the one that was given" if settings.cluster_key else f"key: {path}")


def check_api_keys(settings: Settings) -> Iterator[Finding]:
    """Whether the API's keys can be read, where requests have to show one."""
    path = settings.api_keys
    if path is None:
        return
    try:
        keys = read_keys(path)
    except KeysError as error:
        yield Finding(FAIL, f"API keys: {error}", "a node does not start with that")
    else:
        others = "others are let in, too" if keys.others else "nobody else is let in"
        yield Finding(OK, f"API keys: {len(keys.grants)} in {path}", others)


def _try_listening(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)


def check_data_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "make it writable or give another --data-dir"
        yield Finding(FAIL, f"data: {folder}: {error.strerror}", advice)
    else:
        yield Finding(OK, f"data: {folder} is writable")


def check_models(settings: Settings) -> Iterator[Finding]:
    for folder in settings.models_dirs:
        yield _models_dir(folder)
    for model in store.scan(settings.models_dirs):
        verdict = WARN if model.problem else OK
        words = f"model: {model.id}, {model.size_bytes / 1e6:.0f} MB"
        yield Finding(verdict, words, f"{model.folder}: {model.problem}" if model.problem else "")


def _models_dir(folder: Path) -> Finding:
    what = f"models: {folder}"
    if not folder.exists():
        return Finding(OK, f"{what} is not there yet", "make it and copy model folders into it")
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return Finding(
            WARN, f"{what} can't be read", "make it a readable folder or give another --models-dir"
        )
    return Finding(OK, what if os.access(folder, os.W_OK) else f"{what} (read-only)")


CHECKS: tuple[Check, ...] = (
    check_packages,
    check_mlx,
    check_memory,
    check_port,
    check_listen,
    check_data_dir,
    check_key,
    check_api_keys,
    check_models,
)
