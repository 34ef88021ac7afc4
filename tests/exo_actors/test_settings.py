"""Settings come from the command line, else from the environment, else from the defaults."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_actors import convert
from exo_actors.logs import Levels
from exo_actors.settings import SWITCHES, VALUES, Command, UsageError, read, variable


def test_nothing_given_is_a_node_for_this_machine_only() -> None:
    settings = read([], {})
    assert settings.command is Command.RUN
    assert (settings.host, settings.port) == ("127.0.0.1", 52415)
    assert settings.models == ()
    assert settings.data_dir == Path.home() / ".exo_actors"
    assert settings.models_dirs == (settings.data_dir / "models",)
    assert settings.name is None
    assert not settings.offline
    assert settings.page
    assert settings.pace_s == 0.06
    assert settings.timeout_s == 3600
    assert settings.context is None
    assert settings.kv_memory is None
    assert settings.prefix_cache
    assert not settings.keep_prefixes
    assert settings.keep_prefixes_disk == 8 * 2**30
    assert settings.speculation
    assert (settings.listen, settings.bus_port, settings.peers) == ("127.0.0.1", None, ())
    assert settings.cluster_key is None
    assert settings.mdns
    assert settings.auto_place
    assert not settings.serve_nothing
    assert settings.spare
    assert settings.log == Levels()
    assert settings.node == "http://127.0.0.1:52415"


def test_every_flag_is_taken(tmp_path: Path) -> None:
    line = "--host 0.0.0.0 --port 0 --name Anna --offline --no-page --pace 20 --timeout 5 --context 4096"
    models = ["--models-dir", str(tmp_path / "a"), "--models-dir", str(tmp_path / "b"), "--model", "x,y"]
    settings = read([*line.split(), *models, "--log", "debug", "--data-dir", str(tmp_path)], {})
    assert (settings.host, settings.port, settings.name) == ("0.0.0.0", 0, "Anna")
    assert settings.offline
    assert not settings.page
    assert (settings.pace_s, settings.timeout_s, settings.context) == (0.02, 5.0, 4096)
    assert settings.models_dirs == (tmp_path / "a", tmp_path / "b")
    assert settings.models == ("x,y",)
    assert settings.data_dir == tmp_path
    assert settings.log.default == 10


def test_every_flag_of_memory_and_speed_is_taken() -> None:
    line = "--kv-memory 4GB --no-prefix-cache --keep-prefixes --keep-prefixes-disk 1.5TB --no-speculation"
    settings = read(line.split(), {})
    assert settings.kv_memory == 4_000_000_000
    assert not settings.prefix_cache
    assert settings.keep_prefixes
    assert settings.keep_prefixes_disk == 1_500_000_000_000
    assert not settings.speculation


@given(
    st.floats(0.1, 1e5), st.sampled_from(["", " "]), st.sampled_from(["KB", "MB", "GB", "KiB", "MIB", "gib"])
)
def test_a_size_is_read_in_the_usual_units(number: float, gap: str, unit: str) -> None:
    power = {"k": 1, "m": 2, "g": 3}[unit[0].lower()]
    base = 1024 if "i" in unit.lower() else 1000
    assert convert.size(f"{number:.3f}{gap}{unit}") == int(float(f"{number:.3f}") * base**power)


def test_every_flag_of_a_cluster_is_taken() -> None:
    line = "--listen 192.168.1.20 --bus-port 0 --peer attic.local:1 --peer 10.0.0.7:52416 --no-mdns"
    switches = ["--no-auto-place", "--no-model", "--no-spare"]
    settings = read([*line.split(), "--cluster-key", "a key of ours", *switches], {})
    assert (settings.listen, settings.bus_port) == ("192.168.1.20", 0)
    assert settings.peers == ("attic.local:1", "10.0.0.7:52416")
    assert settings.cluster_key == "a key of ours"
    assert not settings.mdns
    assert not settings.auto_place
    assert settings.serve_nothing
    assert not settings.spare


def test_a_key_is_not_told_with_the_settings() -> None:
    assert "secret" not in repr(read(["--cluster-key", "a secret of ours"], {}))


def test_every_flag_has_a_variable(tmp_path: Path) -> None:
    folders = os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")])
    environment = {
        "EXO_HOST": "::1",
        "EXO_PORT": "8080",
        "EXO_DATA_DIR": str(tmp_path),
        "EXO_MODELS_DIR": folders,
        "EXO_MODEL": "guide, org/model",
        "EXO_NAME": "Anna",
        "EXO_OFFLINE": "1",
        "EXO_NO_PAGE": "yes",
        "EXO_LOG": "engine=debug",
        "EXO_PACE": "100",
        "EXO_TIMEOUT": "10",
        "EXO_CONTEXT": "512",
        "EXO_NODE": "127.0.0.1:9",
        "EXO_LISTEN": "10.0.0.1",
        "EXO_BUS_PORT": "7000",
        "EXO_PEER": "10.0.0.2:7000, 10.0.0.3:7000",
        "EXO_CLUSTER_KEY": "/run/secrets/cluster.key",
        "EXO_NO_MDNS": "1",
        "EXO_NO_AUTO_PLACE": "1",
        "EXO_NO_MODEL": "1",
        "EXO_NO_SPARE": "1",
        "EXO_API_KEYS": "/run/secrets/keys.json",
        "EXO_KV_MEMORY": "512 MiB",
        "EXO_NO_PREFIX_CACHE": "1",
        "EXO_KEEP_PREFIXES": "1",
        "EXO_KEEP_PREFIXES_DISK": "2GiB",
        "EXO_NO_SPECULATION": "1",
    }
    assert {variable(flag) for flag, *_ in (*VALUES, *SWITCHES)} == environment.keys()
    settings = read(["watch"], environment)
    assert settings.command is Command.WATCH
    assert (settings.host, settings.port, settings.data_dir) == ("::1", 8080, tmp_path)
    assert settings.models_dirs == (tmp_path / "a", tmp_path / "b")
    assert settings.models == ("guide", "org/model")
    assert settings.offline
    assert not settings.page
    assert settings.log.level("engine.loop") == 10
    assert (settings.pace_s, settings.timeout_s, settings.context) == (0.1, 10.0, 512)
    assert settings.node == "http://127.0.0.1:9"
    assert (settings.listen, settings.bus_port) == ("10.0.0.1", 7000)
    assert settings.peers == ("10.0.0.2:7000", "10.0.0.3:7000")
    assert settings.cluster_key == "/run/secrets/cluster.key"
    assert not settings.mdns
    assert not settings.auto_place
    assert settings.serve_nothing
    assert settings.kv_memory == 512 * 2**20
    assert settings.keep_prefixes_disk == 2 * 2**30
    assert (settings.prefix_cache, settings.keep_prefixes, settings.speculation) == (False, True, False)


def test_a_flag_replaces_its_variable(tmp_path: Path) -> None:
    environment = {"EXO_PORT": "1", "EXO_MODEL": "a,b", "EXO_MODELS_DIR": "/a:/b"}
    settings = read(["--port", "2", "--model", "c", "--models-dir", str(tmp_path)], environment)
    assert settings.port == 2
    assert settings.models == ("c",)
    assert settings.models_dirs == (tmp_path,)


def test_an_empty_variable_is_none() -> None:
    assert read([], {"EXO_PORT": "", "EXO_OFFLINE": "", "EXO_MODEL": " "}) == read([], {})


def test_a_switch_can_be_off_in_the_environment() -> None:
    assert not read([], {"EXO_OFFLINE": "0"}).offline


def test_paths_do_not_depend_on_the_folder_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(["--data-dir", "data"], {}).data_dir == tmp_path / "data"
    assert read(["--data-dir", "~/data"], {}).data_dir == Path.home() / "data"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--port x", "--port: 'x' is not a port"),
        ("--port 65536", "not a port"),
        ("--port -1", "--port"),
        ("--pace 0", "--pace: '0' is not a number above 0"),
        ("--timeout inf", "--timeout"),
        ("--timeout nan", "--timeout"),
        ("--context 1.5", "--context"),
        ("--data-dir ~nobody-of-that-name/x", "--data-dir: '~nobody-of-that-name/x' is in nobody's home"),
        ("--kv-memory much", "--kv-memory: 'much' is not a size in bytes, such as 4GB"),
        ("--kv-memory 0", "--kv-memory"),
        ("--kv-memory 4GBB", "--kv-memory"),
        ("--kv-memory infGB", "--kv-memory"),
        (f"--kv-memory {'9' * 400}", "--kv-memory"),
        ("--kv-memory -1GB", "--kv-memory"),
        ("--kv-memory 99999999TB", "--kv-memory: '99999999TB' is more than any machine has"),
        ("--keep-prefixes-disk some", "--keep-prefixes-disk: 'some' is not a size"),
        ("--log engine=loud", "--log: 'engine=loud'"),
        ("--node ftp://x", "--node"),
        ("--listen attic", "--listen: 'attic' is not an IPv4 address"),
        ("--listen ::1", "--listen"),
        ("--listen 0.0.0.0", "give this machine's own"),
        ("--bus-port 70000", "--bus-port: '70000' is not a port"),
        ("--peer attic", "--peer: 'attic' is no node's HOST:PORT"),
        ("--peer attic:0", "--peer"),
        ("--peer http://attic:52416", "--peer"),
        ("--peer [::1]:52416", "--peer"),
        ("--no-such-flag", "--no-such-flag"),
        ("--hos 1.2.3.4", "--hos"),
        ("--host", "--host"),
        ("--model", "--model"),
        ("dance", "dance"),
        ("doctor watch", "watch"),
    ],
)
def test_wrong_usage_is_said_in_one_line(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line.split(), {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(UsageError, match="EXO_PORT: 'http' is not a port"):
        read([], {"EXO_PORT": "http"})
    with pytest.raises(UsageError, match="EXO_OFFLINE: 'perhaps' is neither 1 nor 0"):
        read([], {"EXO_OFFLINE": "perhaps"})


def test_watch_looks_at_the_node_that_was_set() -> None:
    assert read(["watch", "--port", "8000"], {}).node == "http://127.0.0.1:8000"
    assert read(["watch"], {"EXO_HOST": "0.0.0.0"}).node == "http://127.0.0.1:52415"
    assert convert.node_url("::", 1) == "http://[::1]:1"


@given(st.lists(st.text(), max_size=4))
def test_any_arguments_are_settings_or_wrong_usage(words: list[str]) -> None:
    arguments = [word for word in words if word not in ("-h", "--help", "--version")]
    with contextlib.suppress(UsageError):
        assert read(arguments, {}).port in range(65536)
