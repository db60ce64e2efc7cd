"""Rows of logits, batches and lines of scored prompts: pure."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.types import Delta
from snugly.engine.prompt_logprobs import ScoreReader
from snugly.engine.prompt_logprobs_model import LEAST_AT_ONCE, MOST_AT_ONCE, at_once, place_of
from snugly.errors import EngineError

ROWS = st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=40)


@given(ROWS, st.data())
def test_a_row_is_a_distribution_and_its_best_come_first(
    row: list[float], data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, len(row) - 1))
    top = data.draw(st.integers(0, 50))
    place = place_of(np.array(row, np.float32), token, top)
    exact = row[token] - max(row) - math.log(sum(math.exp(x - max(row)) for x in row))
    assert place.logprob == pytest.approx(exact, abs=1e-4)
    assert len(place.top) == min(top, len(row))
    assert [p for _, p in place.top] == sorted((p for _, p in place.top), reverse=True)
    if top:
        assert row[place.top[0][0]] == max(row)
        assert place.logprob is not None
        assert place.logprob <= place.top[0][1]
    if top >= len(row):
        assert sum(math.exp(p) for _, p in place.top) == pytest.approx(1.0, abs=1e-4)


def test_two_to_one() -> None:
    place = place_of(np.log(np.array([1, 2, 1], np.float32)), 0, 1)
    assert place.logprob == pytest.approx(math.log(0.25))
    ((token, logprob),) = place.top
    assert token == 1
    assert logprob == pytest.approx(math.log(0.5))
    assert place_of(np.array([0, 5, 1], np.float32), None, 0).token == 1


@given(st.integers(0, 1 << 32), st.sampled_from((64, 128, 512)), st.integers(1000, 300_000))
def test_places_take_what_was_planned(compute: int, ubatch: int, words: int) -> None:
    places = at_once(compute, ubatch, words)
    assert LEAST_AT_ONCE <= places <= MOST_AT_ONCE
    taken = 8 * words * places + compute * places // ubatch
    assert taken <= compute or places == LEAST_AT_ONCE


def read(*lines: object) -> list[Delta]:
    reader = ScoreReader()
    return [reader.read(json.dumps(line)) for line in lines]


def test_a_character_cut_in_two_is_whole_again() -> None:
    raw = "é".encode().decode("latin-1")
    first = {"places": [[1, raw[0], None, []]]}
    second = {"places": [[2, raw[1], -0.5, [[2, raw[1], -0.5]]]]}
    last = {"next": [3, "!", -1.0, []], "ends": False, "tokens": 2, "cached": 1}
    deltas = read(first, second, last)
    assert [delta.text for delta in deltas] == ["", "é", "!"]
    assert deltas[1].logprobs[0].raw == b"\xa9"
    assert deltas[2].usage is not None
    assert (deltas[2].usage.prompt_tokens, deltas[2].usage.cached_tokens) == (2, 1)


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"places": [[1]]}', '{"next": 1}', "null"])
def test_what_is_no_line_is_an_error(line: str) -> None:
    with pytest.raises(EngineError):
        ScoreReader().read(line)


def test_an_error_in_the_stream_is_one() -> None:
    with pytest.raises(EngineError, match="llama_decode"):
        read({"error": {"message": "llama_decode answered -3."}})
