"""Text out of tokens: whole characters, and nothing of a stop string."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from snugly.engine.openvino_text import Stops, Words


def bytes_decoder(tokens: Sequence[int]) -> str:
    """Every token is a byte, as in byte-level tokenizers at their worst."""
    return bytes(tokens).decode("utf-8", "replace")


@given(st.text(max_size=80), st.integers(1, 7))
def test_any_text_in_any_pieces_comes_out_whole(text: str, size: int) -> None:
    data = list(text.encode())
    words = Words(bytes_decoder)
    pieces = [words.feed(data[i : i + size]) for i in range(0, len(data), size)]
    assert "".join(pieces) + words.rest() == text
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_half_a_character_waits_for_its_other_half() -> None:
    words = Words(bytes_decoder)
    first, second = "é".encode()
    assert words.feed([first]) == ""
    assert words.feed([second]) == "é"


def test_what_is_left_at_the_end_is_told_even_when_it_is_no_character() -> None:
    words = Words(bytes_decoder)
    assert words.feed([0xC3]) == ""
    assert words.rest() == "\ufffd"


@given(
    st.lists(st.text("ab", max_size=5), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_the_text_ends_before_the_first_stop_string(pieces: list[str], words: list[str]) -> None:
    stops = Stops(words)
    said = "".join(stops.feed(piece) for piece in pieces)
    said += "" if stops.found else stops.rest()
    whole = "".join(pieces)
    # As soon as a stop string is complete the answer ends: what comes later does not count.
    ends = [whole.find(word) + len(word) for word in words if word in whole]
    if not ends:
        assert said == whole
        assert stops.found == ""
    else:
        assert stops.found in words
        assert said + stops.found == whole[: len(said) + len(stops.found)]
        assert not any(word in said for word in words)


def test_a_beginning_of_a_stop_string_is_held_back() -> None:
    stops = Stops(["END"])
    assert stops.feed("one E") == "one "
    assert stops.feed("N") == ""
    assert stops.feed("d") == "ENd"
    assert stops.feed(" EN") == " "
    assert stops.feed("D two") == ""
    assert stops.found == "END"
