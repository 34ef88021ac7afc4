"""Stop strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.stop import StopMatcher

TEXTS = st.text(alphabet="abc", max_size=12)


def show(matcher: StopMatcher, *pieces: str) -> tuple[str, str | None]:
    """All that is let through, and the stop string that ended it."""
    shown = ""
    for piece in pieces:
        passage = matcher.feed(piece)
        shown += passage.text
        if passage.stop is not None:
            return shown, passage.stop
    return shown + matcher.flush(), None


def test_text_without_a_stop_string_passes_at_once() -> None:
    assert StopMatcher([]).feed("anything").text == "anything"
    assert StopMatcher(["###"]).feed("anything").text == "anything"


def test_a_stop_string_is_found_across_pieces_and_never_shown() -> None:
    assert show(StopMatcher(["STOP"]), "one S", "T", "OP two") == ("one ", "STOP")


def test_what_may_become_a_stop_string_is_held_back_until_it_cannot() -> None:
    matcher = StopMatcher(["STOP"])
    assert matcher.feed("ST").text == ""
    assert matcher.held == 2
    assert matcher.feed("ART").text == "START"
    assert matcher.held == 0


def test_the_match_that_begins_first_counts() -> None:
    assert show(StopMatcher(["bc", "abc"]), "xabcx") == ("x", "abc")


def test_how_much_of_the_text_nobody_will_see_is_told() -> None:
    matcher = StopMatcher(["END"])
    matcher.feed("textEN")
    assert matcher.feed("D and more").dropped == len("END and more")


def test_empty_stop_strings_are_ignored() -> None:
    assert show(StopMatcher(["", "b"]), "ab") == ("a", "b")


def test_what_was_held_back_is_shown_when_the_text_ends() -> None:
    assert show(StopMatcher(["STOP"]), "the ST") == ("the ST", None)


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS.filter(bool), min_size=1, max_size=3))
def test_cutting_the_text_into_pieces_changes_nothing_of_what_is_shown(
    pieces: list[str], stops: list[str]
) -> None:
    shown, stop = show(StopMatcher(stops), *pieces)
    text = "".join(pieces)
    assert text.startswith(shown)
    if stop is None:
        assert shown == text
        assert not any(each in text for each in stops)
    else:
        assert text[len(shown) :].startswith(stop)
        assert not any(each in shown for each in stops)


@pytest.mark.parametrize("stop", ["é", "日本", "👩‍💻"])
def test_stop_strings_may_be_of_any_script(stop: str) -> None:
    assert show(StopMatcher([stop]), *f"before{stop}after") == ("before", stop)
