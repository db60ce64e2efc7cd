"""Calls that a model writes as plain JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.answer import Answer, gather
from snugly.chat.types import (
    ChatRequest,
    Delta,
    Message,
    TokenLogprob,
    Tool,
    ToolCallPiece,
    ToolChoice,
)
from snugly.engine.loose_calls import LooseCalls, names_to_watch

NAMES = ("get_weather", "get_time")
BARE = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
TWO = '\n{\n  "name": "get_time",\n  "arguments": {}\n}\n'


def heard(text: str, size: int = 3, reason: str = "stop") -> tuple[Answer, list[Delta]]:
    """The answer out of `text` in pieces of `size`, and what was told before its end."""
    calls = LooseCalls(NAMES)
    early: list[Delta] = []
    for place in range(0, len(text), size):
        early += calls.feed(Delta(text[place : place + size]))
    return gather([*early, *calls.feed(Delta(finish_reason=reason))])[0], early


# As qwen2.5-coder 0.5B and 1.5B wrote them.
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (BARE, ["get_weather"]),
        (f"```json\n{BARE}\n```", ["get_weather"]),
        (f"```json\n{BARE}\n```\n\n```json{TWO}```\n", ["get_weather", "get_time"]),
        (f"```json\n{BARE}{TWO}```\n\n\n", ["get_weather", "get_time"]),
        (f"[{BARE}, {TWO}]", ["get_weather", "get_time"]),
        (f"<tool_call>{BARE}</tool_call>", ["get_weather"]),
        ('{"type": "function", "name": "get_time", "parameters": {"z": 1}}', ["get_time"]),
        ('{"type":"function","function":{"name":"get_time","arguments":"{}"}}', ["get_time"]),
    ],
)
def test_whole_json_of_an_offered_tool_is_a_call(text: str, names: list[str]) -> None:
    answer, early = heard(text)
    assert [call.name for call in answer.tool_calls] == names
    assert all(isinstance(json.loads(call.arguments), dict) for call in answer.tool_calls)
    assert len({call.id for call in answer.tool_calls}) == len(names)
    assert (answer.text, answer.finish_reason, early) == ("", "tool_calls", [])


@pytest.mark.parametrize(
    "text",
    [
        "Hello", "", '{"name": "other", "arguments": {}}', '{"city": "Paris"}', "```python\nx\n```",
        BARE + " That is what I would call.", BARE[:-1], f"```json\n{BARE}\nand more\n```",
        '{"name": "get_weather", "arguments": 3}',
    ],
)  # fmt: skip
def test_anything_else_stays_words(text: str) -> None:
    answer, _ = heard(text)
    assert (answer.text, answer.tool_calls, answer.finish_reason) == (text, (), "stop")


def test_words_are_told_at_once_when_they_cannot_become_a_call() -> None:
    _, early = heard("```python\nprint(1)\n```")
    assert "".join(delta.text for delta in early).startswith("```python")
    _, early = heard('{"name": "Ada", "age": 36}', size=1)
    assert "".join(delta.text for delta in early) == '{"name": "Ada", "age": 36}'


def test_a_call_that_was_cut_off_is_words() -> None:
    answer, _ = heard(BARE[:-1], reason="length")
    assert (answer.text, answer.tool_calls, answer.finish_reason) == (BARE[:-1], (), "length")


def test_blank_lines_up_to_the_limit_after_whole_calls_change_nothing() -> None:
    """What qwen2.5-coder 1.5B does where a call is required."""
    answer, _ = heard(f"```json\n{BARE}\n```" + "\n" * 60, reason="length")
    assert (len(answer.tool_calls), answer.finish_reason) == (1, "tool_calls")


def test_thoughts_go_before_and_calls_of_the_engine_go_through() -> None:
    calls = LooseCalls(NAMES)
    assert calls.feed(Delta(reasoning="Hm"))[0].reasoning == "Hm"
    own = Delta(tool_calls=(ToolCallPiece(0, "1", "get_time", "{}"),))
    assert calls.feed(own) == [own]
    last = Delta(finish_reason="tool_calls")
    assert calls.feed(last) == [last]


def test_where_json_was_asked_for_or_tools_were_not_nothing_is_watched() -> None:
    tools = tuple(Tool(name) for name in NAMES)

    def watched(**fields: Any) -> tuple[str, ...]:
        return names_to_watch(ChatRequest((Message("user", "x"),), tools=tools, **fields))

    assert watched() == NAMES
    assert watched(schema={}) == watched(grammar="g") == ()
    assert watched(tool_choice=ToolChoice("none")) == ()
    assert watched(tool_choice=ToolChoice("required", ("get_time",))) == ("get_time",)


@given(st.text('{}[]":,` \nabgetnmw_Parsjo', max_size=60), st.integers(1, 5))
def test_no_words_are_lost(text: str, size: int) -> None:
    answer, _ = heard(text, size)
    assert answer.tool_calls or answer.text == text


def test_log_probabilities_stay_with_their_words() -> None:
    calls = LooseCalls(NAMES)
    piece = Delta("{", logprobs=(TokenLogprob("{", -0.5),))
    assert calls.feed(piece) == []
    assert calls.feed(Delta("x"))[0] == piece
