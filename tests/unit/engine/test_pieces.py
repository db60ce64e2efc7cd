"""Events as pieces: the short way that most take says what the long one does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.types import Delta
from snugly.engine.pieces import Frame, Pieces, WholeCharacters
from snugly.engine.wire import delta_of
from snugly.errors import EngineError

NAMES = st.sampled_from(["SmolLM2", 'a "content":"b" model', "\\"])
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from([" word", '"', "\\", "\n", "\ud83d", "\ude00", '"content":']),
)


def event(delta: dict[str, Any], model: str, created: int, **more: Any) -> dict[str, Any]:
    """As llama-server writes one."""
    choice = {"finish_reason": None, "index": 0, "delta": delta} | more
    return {"choices": [choice], "created": created, "model": model, "object": "chunk"}


@st.composite
def answers(draw: st.DrawFn) -> list[str]:
    """Events of one answer: mostly words, in one order of the fields or another."""
    model, spaces = draw(NAMES), draw(st.booleans())
    events = []
    for _ in range(draw(st.integers(1, 12))):
        words: dict[str, Any] = {"content": draw(TEXTS)}
        told = draw(
            st.sampled_from(
                [words] * 5
                + [
                    {"reasoning_content": "hm"},
                    {"reasoning_content": "hm"} | words,
                    {"content": None},
                ]
                + [{"role": "assistant"} | words, {}, {"tool_calls": [{"index": 0, "id": "x"}]}]
            )
        )
        more = draw(
            st.sampled_from(
                [{}] * 6
                + [{"finish_reason": "stop"}]
                + [{"logprobs": {"content": [{"token": "a", "logprob": -1.0}]}}]
            )
        )
        one = event(told, model, draw(st.sampled_from([7, 7, 7, 8])), **more)
        if draw(st.integers(0, 5)) == 0:
            one |= {"usage": {"prompt_tokens": 1}, "timings": {"cache_n": 1}}
        comma = (", ", ": ") if spaces else (",", ":")
        events.append(json.dumps(one, separators=comma, ensure_ascii=draw(st.booleans())))
    return events


@given(answers())
def test_the_frame_changes_no_piece(events: list[str]) -> None:
    frame = Frame()
    for data in events:
        delta, short = delta_of(data), frame.words(data)
        assert short is None or delta == Delta(text=short)
        if short is None:
            frame.learn(data, delta)


@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_words_are_whole_characters_either_way(texts: list[str]) -> None:
    pieces, whole = Pieces(), WholeCharacters()
    for text in texts:
        data = json.dumps(event({"content": text}, "m", 7))
        assert pieces.read(data).text == whole.feed(text)


def test_a_frame_that_never_fits_is_not_looked_for_for_ever() -> None:
    frame, parsed = Frame(), 0
    for created in range(50):
        data = json.dumps(event({"content": "word"}, "m", created))
        assert frame.words(data) is None
        before = frame._tail
        frame.learn(data, delta_of(data))
        parsed += frame._tail != before
    assert parsed == 8


@pytest.mark.parametrize("broken", ['"a', "[" * 100_000, "1}", '"a"}'])
def test_what_is_no_event_is_refused_in_a_frame_too(broken: str) -> None:
    pieces = Pieces()
    data = json.dumps(event({"content": "word"}, "m", 7))
    for _ in range(3):
        assert pieces.read(data).text == "word"
    head, _, tail = data.partition('"word"')
    with pytest.raises(EngineError):
        pieces.read(head + broken + tail)
