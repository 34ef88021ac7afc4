"""Each key has its own limits and priority, is told honestly when to come back, and is never shown."""

import hashlib
import json
import logging
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from api.admission import Admission
from api.errors import ApiError, Fault, response
from api.keys import EVERYBODY, Grant, Keys, KeysError, read_keys
from api.limits import KeyLimits
from api.server import Server
from api.settings import ApiSettings
from tests.api.raw import ask
from tests.api.scripted import ScriptedGateway

SECRET = "sk-of-alice-and-nobody-else"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class Gate:
    """Some limits and their clock."""

    def __init__(self, *grants: Grant, others: Grant | None = None) -> None:
        """The key of a grant is its name."""
        self.now = 1000.0
        keys = Keys(tuple((digest(grant.name), grant) for grant in grants), others)
        self.limits: Admission = KeyLimits(keys, lambda: self.now)

    def enter(self, key: str) -> AbstractContextManager[int]:
        return self.limits.enter(key)

    def refused(self, key: str) -> Fault:
        with pytest.raises(ApiError) as refused, self.enter(key):
            pass
        return refused.value.fault


def file_of(folder: Path, content: object) -> Path:
    path = folder / "keys.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_body_may_step_back_behind_its_key_and_not_ahead_of_it() -> None:
    limits = KeyLimits(Keys(others=Grant(name="others", priority=3)))
    with limits.enter("any", -2) as back, limits.enter("any", 50) as ahead:
        assert (back, ahead) == (1, 3)


def test_a_key_has_its_priority_and_others_have_theirs() -> None:
    gate = Gate(Grant("alice", priority=5), Grant("bob"), others=Grant("others", priority=-1))
    for key, priority in (("alice", 5), ("bob", 0), ("carol", -1), ("", -1), ("\ud800", -1)):
        with gate.enter(key) as given:
            assert given == priority


def test_without_a_file_everybody_is_let_in() -> None:
    with KeyLimits(Keys()).enter("whatever") as priority:
        assert priority == EVERYBODY.priority


def test_who_is_not_known_is_told_so_where_keys_are_wanted() -> None:
    gate = Gate(Grant("alice"))
    for key, words in (("mallory", "not known"), ("", "wants an API key")):
        fault = gate.refused(key)
        assert (fault.status, fault.code) == (401, "invalid_api_key")
        assert words in fault.message


def test_a_key_has_only_so_many_requests_at_once() -> None:
    gate = Gate(Grant("alice", running=2), Grant("bob", running=1))
    with ExitStack() as stack:
        stack.enter_context(gate.enter("alice"))
        with gate.enter("alice"):
            assert gate.refused("alice").status == 429
            stack.enter_context(gate.enter("bob"))
        stack.enter_context(gate.enter("alice"))
        assert "2 requests are under way for this key, of 2 at most" in gate.refused("alice").message


def test_others_share_one_limit_whatever_keys_they_make_up() -> None:
    gate = Gate(others=Grant("others", running=1))
    with gate.enter("one"):
        assert gate.refused("two").status == 429
    with gate.enter("two"):
        pass


def test_the_time_to_come_back_is_that_which_requests_took_of_late() -> None:
    gate = Gate(Grant("alice", running=1))
    for _ in range(9):
        with gate.enter("alice"):
            gate.now += 10.0
    with gate.enter("alice"):
        fault = gate.refused("alice")
        assert fault.retry_after_s == 90.0 / 10
        assert response(fault).headers["Retry-After"] == "9"


def test_a_key_has_only_so_many_requests_in_a_minute() -> None:
    gate = Gate(Grant("alice", requests_per_minute=2))
    for _ in range(2):
        with gate.enter("alice"):
            gate.now += 20.0
    fault = gate.refused("alice")
    assert (fault.status, fault.retry_after_s) == (429, 20.0)
    gate.now += 20.0
    with gate.enter("alice"):
        pass
    assert gate.refused("alice").retry_after_s == 20.0


def test_a_request_that_is_refused_counts_for_nothing() -> None:
    gate = Gate(Grant("alice", running=1, requests_per_minute=2))
    with gate.enter("alice"):
        for _ in range(5):
            gate.refused("alice")
    with gate.enter("alice"):
        pass
    assert "2 requests a minute" in gate.refused("alice").message


def test_a_request_that_fails_gives_its_place_up() -> None:
    gate = Gate(Grant("alice", running=1))
    with pytest.raises(ZeroDivisionError), gate.enter("alice"):
        raise ZeroDivisionError
    with gate.enter("alice"):
        pass


def test_keys_are_read_as_they_are_or_as_digests(tmp_path: Path) -> None:
    listed = [
        {"key": SECRET, "name": "alice", "priority": 2, "running": 4, "requests_per_minute": 60},
        {"sha256": digest("other").hex()},
    ]
    keys = read_keys(file_of(tmp_path, {"keys": listed, "others": {"running": 8}}))
    assert keys.grant(SECRET) == Grant("alice", 2, 4, 60)
    assert keys.grant("other") == Grant("key 2")
    assert keys.grant("nobody") == keys.grant("") == Grant("others", running=8)
    assert read_keys(file_of(tmp_path, {"keys": listed, "others": None})).grant("nobody") is None
    assert read_keys(file_of(tmp_path, {"keys": listed})).grant("nobody") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no file of API keys"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "no file of API keys"),
        ({"keys": [{"key": SECRET, "prio": 1}]}, "unknown field `prio`"),
        ({"keys": [{"key": SECRET, "running": 0}]}, "$.keys[0].running"),
        ({"keys": [{"name": "alice"}]}, "key 1 (alice) needs either `key` or `sha256`"),
        ({"keys": [{"key": SECRET, "sha256": "00"}]}, "key 1 needs either `key` or `sha256`"),
        ({"keys": [{"sha256": SECRET}]}, "64 hexadecimal digits"),
        ({"keys": [{"key": f"{SECRET} "}]}, "spaces around it"),
        ({"keys": [{"key": SECRET}, {"sha256": digest(SECRET).hex()}]}, "key 2 and key 1 are the same"),
        ({"keys": [{"key": SECRET, "name": "a"}, {"key": "b", "name": "a"}]}, "two keys are called 'a'"),
        ({"keys": [{"key": SECRET, "name": "others"}]}, "two keys are called 'others'"),
    ],
)
def test_a_file_that_can_not_be_used_says_why_and_shows_no_key(
    tmp_path: Path, content: object, words: str
) -> None:
    with pytest.raises(KeysError) as error:
        read_keys(file_of(tmp_path, content))
    assert words in str(error.value)
    assert "keys.json" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"can't be read from .*none\.json: No such file"):
        read_keys(tmp_path / "none.json")


def test_a_key_is_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = read_keys(file_of(tmp_path, {"keys": [{"key": SECRET, "running": 1}]}))
    gate = KeyLimits(keys)
    with gate.enter(SECRET), pytest.raises(ApiError) as refused, gate.enter(SECRET):
        pass
    shown = " ".join([repr(keys), repr(gate), str(refused.value), caplog.text])
    assert SECRET not in shown
    assert digest(SECRET).hex() not in shown
    assert repr(digest(SECRET)) not in shown


async def test_a_client_meets_the_limits_of_its_key_over_http(gateway: ScriptedGateway) -> None:
    keys = Keys(((digest("alice"), Grant("alice", priority=3, requests_per_minute=1)),), others=None)
    server = Server(gateway, ApiSettings(port=0), KeyLimits(keys))
    url = await server.start()
    body = {"model": "m", "prompt": "a"}
    answers = [
        await ask(url, "POST", "/v1/completions", body, f"Authorization: Bearer {key}\r\n")
        for key in ("alice", "alice", "mallory")
    ]
    await server.stop()
    assert [answer.status for answer in answers] == [200, 429, 401]
    assert gateway.order.priority == 3
    assert 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert answers[2].error["code"] == "invalid_api_key"
    assert answers[2].headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/instances"),
        ("DELETE", "/v1/instances/i1"),
        ("POST", "/v1/cancel/chatcmpl-1"),
    ],
)
async def test_who_has_no_key_changes_nothing_and_is_told_so_before_its_body_is_looked_at(
    gateway: ScriptedGateway, method: str, path: str
) -> None:
    server = Server(gateway, ApiSettings(port=0), KeyLimits(Keys(((digest("alice"), Grant("alice")),), None)))
    url = await server.start()
    strange = await ask(url, method, path, b"no JSON at all")
    known = await ask(url, method, path, b"no JSON at all", "x-api-key: alice\r\n")
    looked = await ask(url, "GET", "/v1/models")
    await server.stop()
    assert (strange.status, strange.error["code"]) == (401, "invalid_api_key")
    assert known.status != 401
    assert looked.status == 200
