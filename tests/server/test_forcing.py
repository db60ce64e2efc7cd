"""Calls for certain: told in words, bound by a schema, read back as calls."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from snugly.chat.types import (
    ChatRequest,
    Delta,
    Message,
    Tool,
    ToolCallPiece,
    ToolChoice,
    Usage,
)
from snugly.history import requests
from snugly.history.opening import opened
from snugly.server.forcing import forced, knows_tools, must_call, or_else
from tests.server.making import TOKEN, served

WEATHER = Tool("weather", "Of a city", {"type": "object", "properties": {"city": {}}})
CLOCK = Tool("clock", "", {"type": "object", "$defs": {"zone": {"type": "string"}}})
ASKED = ChatRequest(
    (Message("system", "Be kind."), Message("user", "hi")),
    tools=(WEATHER, CLOCK),
    tool_choice=ToolChoice("required"),
)


def test_only_what_must_be_a_call_is_forced() -> None:
    assert must_call(ASKED)
    assert not must_call(ChatRequest(ASKED.messages, tools=(WEATHER,)))
    assert knows_tools("{% if tools %}...")
    assert not knows_tools("{{ messages }}")


USAGE = Usage(9, 5, 0, 1.0, 1.0, 1.0, 1.0)
CALL = Delta(tool_calls=(ToolCallPiece(0, "1", "clock", "{}"),))


async def told(*deltas: Delta) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta


async def test_words_before_a_call_come_with_it_and_nothing_is_asked_again() -> None:
    end = Delta(finish_reason="tool_calls", usage=USAGE)
    found = [d async for d in or_else(told(Delta("so"), CALL, end), told(Delta("never")))]
    assert found == [Delta("so"), CALL, end]


async def test_an_answer_without_a_call_gives_way_to_a_forced_one() -> None:
    words = told(Delta("I cannot"), Delta(finish_reason="stop", usage=USAGE))
    end = Delta(finish_reason="tool_calls", usage=USAGE)
    found = [d async for d in or_else(words, told(CALL, end))]
    assert found[0] == CALL
    assert found[1].usage is not None
    assert found[1].usage.completion_tokens == 10
    assert "cannot" not in "".join(delta.text for delta in found)


def test_the_tools_are_told_in_words_and_the_schema_leaves_nothing_but_a_call() -> None:
    found = forced(ASKED)
    assert found.tools == ()
    assert found.messages[0].text.startswith("Be kind.\n\nYou answer with the call")
    assert '"name": "weather"' in found.messages[0].text
    assert found.schema is not None
    names = [call["properties"]["name"] for call in found.schema["anyOf"]]
    assert names == [{"const": "weather"}, {"const": "clock"}]
    assert found.schema["$defs"] == {"zone": {"type": "string"}}


def test_a_named_tool_is_the_only_one() -> None:
    asked = ChatRequest(
        ASKED.messages, tools=ASKED.tools, tool_choice=ToolChoice("required", ("clock",))
    )
    schema: Any = forced(asked).schema
    assert schema["properties"]["name"] == {"const": "clock"}
    assert "weather" not in forced(asked).messages[0].text


async def test_the_answer_is_a_call_whole_and_streamed() -> None:
    said = '{"name": "weather", "arguments": {"city": "Bonn"}}'
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    async with served("--pieces", "1", "--words", said) as it:
        more: dict[str, Any] = {"tools": tools, "tool_choice": "required"}
        choice = (await it.chat(**more)).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        function = choice["message"]["tool_calls"][0]["function"]
        assert (function["name"], json.loads(function["arguments"])) == (
            "weather",
            {"city": "Bonn"},
        )
        streamed = (await it.chat(stream=True, **more)).text
        assert '"tool_calls"' in streamed
        assert '"content":"{' not in streamed


async def test_every_prompt_of_a_request_is_counted_once() -> None:
    async with served() as it:
        body = {"model": "tiny", "prompt": ["one", "two", "three"], "n": 2}
        answer = await it.client.post("/v1/completions", json=body)
        assert answer.json()["usage"]["prompt_tokens"] == 3
        path = it.service.config.history
    with opened(path) as db:
        (row,) = requests.recent(db)
    assert (row.prompt_tokens, row.completion_tokens) == (3, 48)


async def test_one_right_token_is_enough_where_two_are_sent() -> None:
    async with served(serve_keyless=False) as it:
        for headers in (
            {"authorization": "Bearer other", "x-api-key": TOKEN},
            {"authorization": f"Bearer {TOKEN}", "x-api-key": "other"},
        ):
            assert (await it.client.get("/v1/models", headers=headers)).status_code == 200
        wrong = {"authorization": "Bearer other", "x-api-key": "other"}
        assert (await it.client.get("/v1/models", headers=wrong)).status_code == 401
