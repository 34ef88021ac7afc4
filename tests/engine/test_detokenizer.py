"""From tokens to text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.detokenizer import (
    SPACE,
    Detokenizer,
    Spelling,
    Vocabulary,
    WindowDetokenizer,
    byte_alphabet,
    token_bytes,
)


def texts(detokenizer: Detokenizer, tokens: list[int]) -> list[str]:
    return [*(detokenizer.add(token) for token in tokens), detokenizer.finish()]


def byte_vocabulary() -> Vocabulary:
    """One token per byte."""
    return Vocabulary([bytes((byte,)) for byte in range(256)])


def test_byte_level_pieces_stand_for_bytes_and_added_ones_for_themselves() -> None:
    pieces = ["Ġthe", "Ã©", "Ċ", "<é日>", "Ġ"]
    added = {"<é日>": 3, "Ġ": 4}
    assert token_bytes(pieces, added, Spelling.BYTE_LEVEL) == [
        b" the",
        "é".encode(),
        b"\n",
        "<é日>".encode(),
        "Ġ".encode(),
    ]


def test_sentencepiece_has_a_sign_for_spaces_and_byte_pieces() -> None:
    pieces = [f"{SPACE}the", "<0xC3>", "<0xa9>", "</s>"]
    assert token_bytes(pieces, {"</s>": 3}, Spelling.SENTENCEPIECE) == [b" the", b"\xc3", b"\xa9", b"</s>"]


def test_the_byte_alphabet_has_a_character_for_every_byte() -> None:
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert all(character.isprintable() and not character.isspace() for character in alphabet)


def test_a_character_is_shown_when_its_last_byte_is_there() -> None:
    detokenizer = byte_vocabulary().detokenizer(continues=True)
    assert texts(detokenizer, list("é€😀".encode())) == ["", "é", "", "", "€", "", "", "", "😀", ""]


def test_a_character_that_never_becomes_whole_is_marked_at_the_end() -> None:
    detokenizer = byte_vocabulary().detokenizer(continues=True)
    assert texts(detokenizer, [0x61, 0xE2, 0x82]) == ["a", "", "", "\ufffd"]


@given(st.binary(max_size=40))
def test_any_bytes_become_the_text_that_python_makes_of_them(data: bytes) -> None:
    detokenizer = byte_vocabulary().detokenizer(continues=True)
    assert "".join(texts(detokenizer, list(data))) == data.decode(errors="replace")


@pytest.mark.parametrize(("continues", "shown"), [(False, "the end"), (True, " the end")])
def test_an_answers_first_space_is_the_tokenizers_unless_it_goes_on_in_a_text(
    continues: bool, shown: str
) -> None:
    vocabulary = Vocabulary([b" the", b" end"], trims=True)
    assert "".join(texts(vocabulary.detokenizer(continues), [0, 1])) == shown


def test_ids_beyond_the_tokenizers_add_nothing() -> None:
    assert Vocabulary([b"a"]).bytes_of(7) == b""


@given(st.text(max_size=20))
def test_a_tokenizer_that_only_decodes_lists_gives_whole_characters_too(text: str) -> None:
    detokenizer = WindowDetokenizer(lambda tokens: bytes(tokens).decode(errors="replace"))
    shown = texts(detokenizer, list(text.encode()))
    assert "".join(shown) == text
    assert not any("\ufffd" in part for part in shown if "\ufffd" not in text)
