"""The soak: what is drawn, how it is judged, and a short one against a real node."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest

from bus.messages.placement import Sharding
from scripts.soaking.asking import Answer, Outcome
from scripts.soaking.errands import CHAT, EMBED, TEXT, Errand, Key, Leaves, Refused, User
from scripts.soaking.findings import Findings, Plan, ending
from scripts.soaking.forms import GRAMMAR, Call, Form, wrong
from scripts.soaking.holding import GROWTH_BYTES, LEAK_BYTES, Held, Instance, Watch, busy, leaks
from scripts.soaking.judging import problems
from scripts.soaking.neighbour import apart
from scripts.soaking.report import render
from scripts.soaking.run import SMALLEST, soak
from scripts.soaking.sameness import Verdict, alone, chosen, judged, parted, sample_of
from scripts.soaking.serving import wish

WORDS = [" one", " two", " three", " four"]


def drawn(seed: int, count: int = 300) -> list[Errand]:
    user = User(seed, 3, WORDS, "m")
    errands = []
    for _ in range(count):
        errands.append(user.next())
        user.heard(errands[-1], " four two")
    return errands


# -- what is drawn ---------------------------------------------------------------------------------


def test_a_user_asks_the_same_whenever_it_is_drawn() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_all_kinds_of_requests_come() -> None:
    errands = drawn(1, 600)

    assert {errand.path for errand in errands} == {CHAT, TEXT, EMBED}
    assert {errand.leaves for errand in errands} == set(Leaves)
    assert {errand.form for errand in errands} == set(Form)
    assert {errand.refused for errand in errands} == set(Refused)
    assert {errand.key for errand in errands} == set(Key)
    assert any(errand.is_greedy for errand in errands)
    assert any(errand.answers > 1 for errand in errands)


def test_who_leaves_asks_for_a_stream() -> None:
    assert all(errand.streams for errand in drawn(1) if errand.leaves in (Leaves.CLOSES, Leaves.CANCELS))


def test_a_chat_grows_until_it_is_long_enough() -> None:
    lengths = [errand.tokens for errand in drawn(1) if errand.kind == "chat"]

    grown = [after > before for before, after in pairwise(lengths)]
    assert 0 < grown.count(False) < grown.count(True)


def test_a_chat_that_got_no_answer_is_begun_anew() -> None:
    user = User(1, 0, WORDS, "m")
    errand = next(errand for errand in iter(user.next, None) if errand.kind == "chat")
    user.heard(errand, "")

    again = next(errand for errand in iter(user.next, None) if errand.kind == "chat")
    messages = again.body["messages"]
    assert isinstance(messages, list)
    assert [message["role"] for message in messages] == ["system", "user"]


def test_what_is_quoted_was_said_before() -> None:
    user, said = User(1, 0, WORDS, "m"), " four two" * 100
    for errand in iter(user.next, None):
        if errand.kind == "quoting":
            break
        user.heard(errand, said)

    assert str(errand.body["prompt"]) in said * 2


def test_two_ranks_are_wished_for_as_two_nodes() -> None:
    assert wish("m", 1, Sharding.PIPELINE) == {"model": "m", "nodes": ("first",)}
    two = {"model": "m", "nodes": ("first", "second"), "sharding": "tensor", "draft": "d"}
    assert wish("m", 2, Sharding.TENSOR, "d") == two


# -- how it is judged ------------------------------------------------------------------------------


def errand(**changes: object) -> Errand:
    body: dict[str, object] = {"model": "m", "stream": True, "temperature": 0}
    whole = {"name": "x", "kind": "chat", "path": CHAT, "body": body, "tokens": 9, "max_tokens": 4, **changes}
    return msgspec.convert(whole, Errand)


def whole(text: str = "a", finish: str = "length") -> Outcome:
    return Outcome(
        status=200,
        answers={0: Answer(text, finishes=[finish])},
        completion_tokens=4,
        prompt_tokens=9,
        done=True,
    )


def test_an_answer_with_one_end_is_as_promised() -> None:
    assert problems(errand(), whole()) == []


def test_an_announced_end_is_as_promised() -> None:
    late = Outcome(status=504, error="too late", code="timeout")
    cancelled = Outcome(status=200, error="cancelled", code="cancelled", cancelled=200)
    full = Outcome(status=429, error="full", code="overloaded", retry_after="3")

    assert problems(errand(leaves=Leaves.TIMES_OUT), late) == []
    assert problems(errand(leaves=Leaves.CANCELS), cancelled) == []
    assert problems(errand(), full) == []
    often = Outcome(status=429, error="1 of 1", code="rate_limit_exceeded", retry_after="1")
    assert problems(errand(key=Key.LIMITED), often) == []
    assert "failed" in problems(errand(), often)[0]
    assert problems(errand(leaves=Leaves.CLOSES), Outcome(status=200, left=True)) == []


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (Outcome(status=504, error="too late", code="timeout"), "failed"),
        (Outcome(status=503, error="gone", code="engine_lost"), "failed"),
        (Outcome(status=429, error="full", code="overloaded"), "failed"),
        (Outcome(overdue=True), "in time"),
        (Outcome(broken="ServerDisconnectedError: "), "Disconnected"),
        (Outcome(status=200), "just ends"),
        (Outcome(status=200, answers={0: Answer(finishes=["stop", "stop"])}, done=True), "ends"),
    ],
)
def test_an_end_that_nobody_announced_is_a_broken_promise(seen: Outcome, what: str) -> None:
    assert what in "\n".join(problems(errand(), seen))


def test_too_few_tokens_are_noticed() -> None:
    seen = whole()
    seen.completion_tokens = 3
    assert "3 tokens of 4" in "\n".join(problems(errand(), seen))


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers() -> None:
    long = errand(refused=Refused.TOO_LONG)
    code = "context_length_exceeded"

    assert problems(long, Outcome(status=400, error="9 of 8 tokens", code=code)) == []
    assert "numbers" in problems(long, Outcome(status=400, error="too long", code=code))[0]
    assert "answered" in problems(long, whole())[0]
    assert problems(errand(refused=Refused.NOT_SERVED), Outcome(status=400, error="no", code="x")) == []
    unknown = errand(refused=Refused.UNKNOWN, key=Key.UNKNOWN)
    assert problems(unknown, Outcome(status=401, error="no", code="invalid_api_key")) == []
    assert "401" in problems(unknown, Outcome(status=400, error="no", code="x"))[0]


@pytest.mark.parametrize(
    ("form", "right", "other"),
    [
        (Form.FREE, "anything", None),
        (Form.PLACE, '{"name": "a", "size": 3, "tags": ["red"]}', '{"name": "a"}'),
        (Form.ROWS, '[{"ok": true, "note": null}, {"ok": false, "note": "b"}]', "[]"),
        (Form.REGEX, "AB-123, CD-456", "AB-12"),
        (Form.GRAMMAR, "take; 12; leave", "take"),
        (Form.CHOICE, "dark red", "dark"),
        (Form.OBJECT, '{"a": []}', "[]"),
    ],
)
def test_forms_tell_right_from_wrong(form: Form, right: str, other: str | None) -> None:
    assert wrong(form, right, []) == ""
    assert other is None or wrong(form, other, [])
    assert other is None or problems(errand(form=form), whole(other, "stop"))


def test_a_form_that_reached_the_limit_is_a_broken_promise() -> None:
    assert "longer" in problems(errand(form=Form.PLACE), whole("{", "length"))[0]
    assert problems(errand(form=Form.OBJECT), whole("{", "length")) == []


def test_an_answer_that_has_to_echo_its_prompt_is_held_to_that() -> None:
    body: dict[str, object] = {"model": "m", "stream": True, "prompt": "one two", "echo": True}

    assert problems(errand(body=body), whole("one two three")) == []
    assert "begin" in problems(errand(body=body), whole("two three"))[0]


def test_a_required_call_is_checked_against_its_tool() -> None:
    right = Call("get_weather", '{"city": "Rome", "days": 2}')

    assert wrong(Form.CALL, "", [right]) == ""
    assert wrong(Form.CALL, "I can't", []) != ""
    assert wrong(Form.CALL, "", [Call("get_weather", '{"city": "Rome", "days": 20}')]) != ""
    assert "start:" in GRAMMAR


# -- the same tokens -------------------------------------------------------------------------------


def test_only_whole_greedy_answers_are_asked_again() -> None:
    assert sample_of(errand(), whole()) is not None
    assert sample_of(errand(body={"temperature": 0.8}), whole()) is None
    assert sample_of(errand(), Outcome(status=200, left=True)) is None


def test_what_was_put_off_is_asked_again_first() -> None:
    samples = [sample_of(errand(), replace(whole(), request=name)) for name in "abcd"]
    found = chosen([sample for sample in samples if sample], {"c", "x"}, 2, Random(1))

    assert len(found) == 2
    assert found[0].request == "c"


def test_what_is_asked_again_has_no_haste() -> None:
    body: dict[str, object] = {"model": "m", "temperature": 0, "stream": True, "timeout": 0.1}
    again = alone(errand(body=body, leaves=Leaves.TIMES_OUT))

    assert again.leaves is Leaves.STAYS
    assert again.body == {"model": "m", "temperature": 0, "logprobs": True, "top_logprobs": 5}


def test_answers_may_part_only_where_tokens_were_as_likely() -> None:
    def told(*margins: float) -> list[Answer]:
        return [Answer("a b c", tokens=["a", " b", " c"], margins=list(margins))]

    assert judged(["\na b c"], told(1, 1, 1))[0] is Verdict.SAME
    assert judged(["\na x"], told(1, 1e-6, 1))[0] is Verdict.TIE
    assert judged(["\na x"], told(1, 1, 1e-6))[0] is Verdict.OTHER
    assert parted("abc", "abd") == 2
    assert parted("abc", "ab") == 2


# -- memory ----------------------------------------------------------------------------------------


def held(rss: int = 0, **instance: int) -> Held:
    return Held(msgspec.convert(instance, Instance), (), 0, {"engine 1": rss})


def test_rest_is_when_only_prefixes_are_kept() -> None:
    assert busy(held(kv_bytes=8, prefix_bytes=8)) == ""
    assert "kept prefixes" in busy(held(kv_bytes=8, prefix_bytes=4))
    assert "wait" in busy(held(waiting=1))


def test_growth_beyond_the_baseline_is_a_leak() -> None:
    before = held(rss=100, kv_bytes=10, active_bytes=20)

    assert leaks(before, held(rss=100, kv_bytes=500, active_bytes=510)) == []
    assert leaks(before, held(kv_bytes=10, active_bytes=21 + LEAK_BYTES))
    assert leaks(before, held(rss=101 + GROWTH_BYTES))
    assert leaks(before, held(restarts=1))


def test_more_cache_than_allowed_is_noticed() -> None:
    watch = Watch()
    watch.take(held(kv_bytes=9, kv_limit_bytes=10, prefix_bytes=4))
    watch.take(held(kv_bytes=11, kv_limit_bytes=10, waiting=3))

    assert (watch.most_kv, watch.most_waiting, len(watch.over)) == (11, 3, 1)


def test_a_budget_that_has_just_become_smaller_is_not_overrun() -> None:
    watch = Watch()
    watch.take(held(kv_bytes=9, kv_limit_bytes=10))
    watch.take(held(kv_bytes=9, kv_limit_bytes=5))
    assert watch.over == []

    watch.take(held(kv_bytes=9, kv_limit_bytes=5))
    assert len(watch.over) == 1
    assert (watch.least_limit, watch.most_limit) == (5, 10)


def test_an_end_has_a_word() -> None:
    assert ending(whole()) == "answered"
    assert ending(Outcome(left=True)) == "left"
    assert ending(Outcome(error="x", code="timeout")) == "timeout"


def test_a_broken_promise_is_told() -> None:
    found = Findings()
    found.take(errand(), Outcome(overdue=True))

    assert "x (chat): nothing ended it in time" in render(Plan(60.0), found)


def test_what_a_soak_did_not_try_is_told() -> None:
    found = Findings(visits=1, cached_tokens=1)
    found.watch.most_waiting = 1
    found.end = held(preempted=2, accepted_tokens=1)
    assert found.untried() == ["no answer that was put off was asked again, alone"]

    found.put_off_again = 1
    assert found.untried() == []
    assert "Not tried: nobody was put off" in render(Plan(60.0), Findings())


def test_embeddings_are_compared_by_their_directions() -> None:
    assert apart((1.0, 1.0), (2.0, 2.0)) == pytest.approx(0)
    assert apart((1.0, 0.0), (0.0, 1.0)) > 1


# -- the real thing --------------------------------------------------------------------------------


@pytest.mark.usefixtures("long")
def test_a_short_soak_breaks_no_promise(tmp_path: Path) -> None:
    plan = Plan(seconds=3.0, seed=3, users=4, again=3, kv_bytes=SMALLEST)

    found = asyncio.run(soak(plan, tmp_path))

    assert found.wrong == []
    assert sum(found.ends.values()) >= plan.users
    assert found.verdicts[Verdict.SAME] > 0
