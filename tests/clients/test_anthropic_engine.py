"""The `anthropic` package against `snugly serve` and the real engine."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.clients.conftest import CHAT, ENCODER, Server

package = pytest.importorskip("anthropic")
ASK: list[Any] = [{"role": "user", "content": "What is 2+2? Answer with a number."}]
GREEDY = {"temperature": 0.0}  # the package names it no more since 2.0; its server takes it
WEATHER = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with package.Anthropic(
        base_url=server.url, api_key=server.token, max_retries=0, timeout=120
    ) as made:
        yield made


def ask(client: Any, messages: list[Any], **more: Any) -> Any:
    options = {"model": CHAT, "max_tokens": 24} | more
    return client.messages.create(messages=messages, extra_body=GREEDY, **options)


def test_messages_whole_and_streamed_are_the_same(client: Any) -> None:
    whole = ask(client, ASK, system="Be brief.")
    assert whole.type == "message"
    assert whole.stop_reason in ("end_turn", "max_tokens")
    with client.messages.stream(
        model=CHAT, max_tokens=24, messages=ASK, system="Be brief.", extra_body=GREEDY
    ) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_tokens_are_counted_as_they_are_read(client: Any) -> None:
    counted = client.messages.count_tokens(model=CHAT, messages=ASK, system="Be brief.")
    usage = ask(client, ASK, system="Be brief.").usage
    cached = usage.cache_read_input_tokens or 0
    assert counted.input_tokens == usage.input_tokens + cached


def test_stop_sequences_are_told(client: Any) -> None:
    counting: list[Any] = [{"role": "user", "content": "Count from 1 to 20."}]
    answer = ask(client, counting, stop_sequences=["5"], max_tokens=60)
    assert answer.stop_reason == "stop_sequence"
    assert answer.stop_sequence == "5"
    assert "5" not in answer.content[0].text


def test_tools_are_called_and_answered(client: Any, coder: str) -> None:
    weather: list[Any] = [
        {"role": "user", "content": "What is the weather in Paris? Use the tool."}
    ]
    options: dict[str, Any] = {"model": coder, "tools": [WEATHER], "max_tokens": 60}
    first = ask(client, weather, **options)
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use"
    assert "Paris" in call.input["city"]
    with client.messages.stream(messages=weather, extra_body=GREEDY, **options) as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_message()
    assert "input_json" in kinds
    assert next(b for b in streamed.content if b.type == "tool_use").input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}
    again = [
        *weather,
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": [result]},
    ]
    assert ask(client, again, **options).usage.output_tokens > 0


def test_models_in_anthropics_shape(client: Any) -> None:
    found = {model.id: model for model in client.models.list()}
    assert found[CHAT].type == "model"
    assert client.models.retrieve(CHAT).id == CHAT


def test_refusals_have_their_kind(client: Any, server: Server) -> None:
    with pytest.raises(package.NotFoundError) as unknown:
        ask(client, ASK, model="no-such-model")
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(package.BadRequestError) as bad:
        ask(client, [{"role": "user", "content": "word " * 20_000}])
    assert bad.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(package.UnprocessableEntityError):
        ask(client, ASK, model=ENCODER)
