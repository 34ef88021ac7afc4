"""The benchmark's judgement: what a client saw, when an engine was idle, whether a promise is kept."""

import json
import math
import os
import sys
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.border import Network
from scripts.benchmark import machine, sse
from scripts.benchmark.__main__ import is_kept, main, peers
from scripts.benchmark.answers import read_stream, read_whole
from scripts.benchmark.cpu import Sample, cpu_time, idle_from
from scripts.benchmark.measures import Aim, Measure, Section, Target
from scripts.benchmark.models import Shape, make
from scripts.benchmark.process import Process, usable_cores
from scripts.benchmark.scenarios.cancel import step_of
from scripts.benchmark.scenarios.stall import observe
from scripts.benchmark.scenarios.throughput import output_rate
from scripts.benchmark.stats import gaps_within, median, quantile, ratios
from scripts.benchmark.table import lines, number, render
from scripts.benchmark.traffic import Seen

# -- statistics ----------------------------------------------------------------------------------


def test_a_quantile_lies_between_its_neighbours() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([0, 10], 0.25) == 2.5
    assert quantile([7], 0.99) == 7
    assert math.isnan(median([]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_within_its_values(values: list[float], share: float) -> None:
    assert min(values) <= quantile(values, share) <= max(values)


def test_a_gap_that_reaches_into_the_time_counts_whole() -> None:
    assert gaps_within([0.0, 1.0, 4.0, 5.0, 9.0], start=1.5, end=4.5) == [3.0, 1.0]
    assert gaps_within([0.0, 1.0], start=1.0, end=2.0) == []


def test_only_rounds_that_both_have_are_compared() -> None:
    assert ratios([2.0, 3.0, 4.0], [1.0, 0.0]) == [2.0]


# -- server-sent events --------------------------------------------------------------------------

STREAM = ": computing 1/2\n\ndata: ünë\r\n\r\ndata: a\ndata: b\n\nid: 7\n\ndata:[DONE]\n\n".encode()


def test_an_event_is_complete_with_its_blank_line() -> None:
    events = sse.parse([(1.0, b"data: one\n"), (2.0, b"\ndata: t"), (3.0, b"wo\n\ndata: never")])

    assert events == [sse.Event(2.0, data="one"), sse.Event(3.0, data="two")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(STREAM)]
    pieces = [(0.0, STREAM[start:end]) for start, end in pairwise(borders)]

    assert [event.comment or event.data for event in sse.parse(pieces)] == [
        "computing 1/2",
        "ünë",
        "a\nb",
        "[DONE]",
    ]


# -- answers -------------------------------------------------------------------------------------


def chunk(text: str = "", finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def test_a_stream_is_read_with_the_moment_of_each_text() -> None:
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
    arrivals = [
        (1.0, b": admitted\n\n"),
        (2.0, chunk("a", usage=None)),
        (3.0, chunk("b")),
        (4.0, chunk(finish="length")),
        (5.0, usage + b"data: [DONE]\n\n"),
    ]

    seen = read_stream(Seen(sent_s=0.5, ended_s=5.0, status=200), arrivals)

    assert (seen.token_s, seen.comment_s, seen.text) == ((2.0, 3.0), (1.0,), "ab")
    assert (seen.finish_reason, seen.prompt_tokens, seen.completion_tokens) == ("length", 5, 2)
    assert seen.first_token_s == 1.5
    assert seen.error == ""


def test_an_error_within_a_stream_is_seen() -> None:
    seen = read_stream(Seen(sent_s=0, ended_s=1, status=200), [(1.0, b'data: {"error": {"code": 5}}\n\n')])

    assert seen.error == '{"code": 5}'


def test_an_answer_in_one_piece_is_read() -> None:
    body = {"choices": [{"text": "ab", "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}
    whole = json.dumps(body).encode()

    seen = read_whole(Seen(sent_s=0, ended_s=1, status=200), [(0.5, whole[:9]), (1.0, whole[9:])])

    assert (seen.text, seen.finish_reason, seen.completion_tokens, seen.error) == ("ab", "stop", 2, "")


def test_an_answer_that_is_no_json_is_an_error() -> None:
    assert read_whole(Seen(sent_s=0, ended_s=1, status=502), [(1.0, b"<html>")]).error == "<html>"


# -- idleness ------------------------------------------------------------------------------------


def trace(*busy: float) -> list[Sample]:
    """Samples every 10 ms, with these shares of a core in between."""
    samples = [Sample(0.0, 5.0)]
    for share in busy:
        last = samples[-1]
        samples.append(Sample(last.at_s + 0.01, last.cpu_s + 0.01 * share))
    return samples


QUIET = [0.0] * 40


def test_an_engine_is_idle_from_where_its_work_ends_inside_a_slice() -> None:
    assert idle_from(trace(1, 1, 1, 0.4, *QUIET), after_s=0.01) == pytest.approx(0.034)


def test_two_busy_cores_do_not_make_a_slice_longer() -> None:
    assert idle_from(trace(2, 2, *QUIET), after_s=0.005) == pytest.approx(0.02)


def test_heartbeats_are_not_work() -> None:
    assert idle_from(trace(1, 0.1, *QUIET, 0.1, *QUIET), after_s=0.005) == pytest.approx(0.01)


def test_an_engine_that_paused_and_went_on_was_not_idle() -> None:
    assert idle_from(trace(1, *[0] * 20, 1, *QUIET), after_s=0.005) == pytest.approx(0.22)


def test_work_before_the_client_left_does_not_count() -> None:
    assert idle_from(trace(1, 1, 0, 0, *QUIET), after_s=0.03) == 0.03


def test_an_engine_that_was_busy_to_the_end_was_never_idle() -> None:
    assert idle_from(trace(*[1] * 40), after_s=0.01) is None
    assert idle_from([], after_s=0.0) is None


def test_processor_time_of_a_process_only_grows() -> None:
    before = cpu_time(os.getpid())
    sum(range(100_000))
    assert cpu_time(os.getpid()) > before > 0


# -- models and processes ------------------------------------------------------------------------


def test_a_model_can_be_made_with_eight_bits_per_weight(tmp_path: Path) -> None:
    folder = make(Shape("tiny", layers=2, hidden=64, intermediate=128, context=64, bits=8), tmp_path)

    config = json.loads((folder / "config.json").read_text())
    assert config["quantization"]["bits"] == 8
    network = Network(folder)
    assert network.forward(mx.array([[5, 6]]), network.make_caches()).shape[:2] == (1, 2)


@pytest.mark.skipif(not usable_cores(), reason="processes can't be held to cores here")
def test_a_process_keeps_to_its_core_and_can_be_paused(tmp_path: Path) -> None:
    core = usable_cores()[:1]
    process = Process(
        [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path, tmp_path / "log", core
    )
    try:
        assert os.sched_getaffinity(process.pid) == set(core)
        process.pause()
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.go_on()
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    finally:
        process.stop()


# -- scenarios -----------------------------------------------------------------------------------


def test_a_stall_is_the_worst_gap_until_the_long_prompts_first_token() -> None:
    running = [1.0, 1.2, 1.5, 1.6, 1.7, 1.8, 2.3, 2.4, 5.0]
    stall = observe(
        Seen(sent_s=0.9, ended_s=6.0, token_s=tuple(running)), Seen(sent_s=1.75, ended_s=3.0, token_s=(2.35,))
    )

    assert stall.alone == pytest.approx([0.1, 0.1])
    assert stall.worst == pytest.approx(0.5)
    assert stall.long_ttft == pytest.approx(0.6)
    assert stall.allowed == pytest.approx(0.2)


def test_a_gap_is_never_too_long_below_the_floor() -> None:
    even = tuple(n / 1000 for n in range(1000))
    stall = observe(Seen(sent_s=0, ended_s=2, token_s=even), Seen(sent_s=0.9, ended_s=1, token_s=(0.95,)))

    assert stall.allowed == 0.1


def test_the_rate_counts_from_the_first_request_to_the_last_end() -> None:
    seen = (
        Seen(sent_s=1.0, ended_s=2.0, completion_tokens=10),
        Seen(sent_s=1.5, ended_s=3.0, completion_tokens=20),
    )
    assert output_rate(seen) == 15


def test_a_step_is_seen_between_tokens_and_before_them_between_comments() -> None:
    decoding = Seen(sent_s=0, ended_s=9, token_s=(1.0, 1.1, 1.2, 2.0), comment_s=(0.1, 0.9))
    prefilling = Seen(sent_s=0, ended_s=9, comment_s=(0.1, 0.2, 0.6))

    assert step_of(decoding) == pytest.approx(0.1)
    assert step_of(prefilling) == pytest.approx(0.4)
    assert step_of(Seen(sent_s=0, ended_s=9)) == 0.0


# -- promises and tables -------------------------------------------------------------------------


def measure(target: Target | None, ours: list[float], peer: list[float]) -> Measure:
    return Measure("speed", "tokens/s", {"ours": ours, "peer": peer}, target)


@pytest.mark.parametrize(
    ("target", "ours", "peer", "met"),
    [
        (Target(Aim.RATIO_AT_LEAST, 1.0), [10, 30, 12], [10, 20, 20], True),
        (Target(Aim.RATIO_AT_LEAST, 1.0), [9], [10], False),
        (Target(Aim.RATIO_AT_MOST, 1.5), [15], [10], True),
        (Target(Aim.RATIO_AT_MOST, 1.5), [16], [10], False),
        (Target(Aim.AT_MOST, 50), [40, 50, 900], [1], True),
        (Target(Aim.AT_MOST, 50), [51], [], False),
        (Target(Aim.RATIO_AT_MOST, 1.5), [16], [], None),
        (Target(Aim.AT_MOST, 50), [], [10], None),
        (None, [1], [1], None),
    ],
)
def test_a_promise_is_judged_by_medians(
    target: Target | None, ours: list[float], peer: list[float], met: bool | None
) -> None:
    found = measure(target, ours, peer)

    assert found.is_met("ours", "peer") is met
    assert is_kept(Section("t", "ours", ("peer",), (found,))) is (met is not False)


def test_a_section_becomes_a_table() -> None:
    found = measure(Target(Aim.RATIO_AT_LEAST, 1.0), [200, 100, 30], [100, 100, 10])

    text = render(Section("Title", "ours", ("peer", "other"), (found,), ("A remark.",)))

    title, _, head, rule, row, *_, remark, end = text.split("\n")
    assert title == "### Title"
    assert [cell.strip() for cell in head.split("|")[1:-1]][2:6] == ["ours", "range", "peer", "other"]
    assert set(rule) == {"|", "-", " "}
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "speed",
        "tokens/s",
        "100",
        "30.0 to 200",
        "100",
        "",
        "2.00x",
        "1.00 to 3.00",
        "≥ 1x",
        "yes",
    ]
    assert (remark, end) == ("A remark.", "")


def test_columns_are_even() -> None:
    assert lines([["a", "bb"], ["ccc", "d"]]) == ["| a   | bb |", "| --- | -- |", "| ccc | d  |"]


def test_numbers_show_three_digits() -> None:
    assert [number(value) for value in (1234.5, 99.96, 12.34, 0.5, math.nan)] == [
        "1234",
        "100.0",
        "12.3",
        "0.50",
        "",
    ]


def test_peers_are_compared_with_the_same_blas_first() -> None:
    assert [peer.blas for peer in peers(None, "/lib/blas.so")] == ["/lib/blas.so", ""]
    assert [peer.blas for peer in peers("stock", "/lib/blas.so")] == [""]
    assert peers("none", "/lib/blas.so") == ()
    assert [peer.name for peer in peers(None, "")] == ["mlx_lm.server"]


def test_the_machine_is_described_with_its_versions() -> None:
    found = machine.look()

    text = machine.describe(found)
    assert found.cores >= 1
    assert f"mlx {found.versions['mlx']}" in text
    assert found.processor in text
    assert found.jitter_ms > 0


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["speed"])
    assert "throughput" in capsys.readouterr().err
