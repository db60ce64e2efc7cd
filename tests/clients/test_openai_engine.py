"""The `openai` package against `snugly serve` and the real engine: every call it makes.

pip install openai && pytest tests/clients
"""

import base64
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from tests.clients.conftest import CHAT, ENCODER, Server

package = pytest.importorskip("openai")
ASK: list[Any] = [{"role": "user", "content": "What is 2+2? Answer with a number."}]
COUNT: list[Any] = [{"role": "user", "content": "Count from 1 to 20."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
YES = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with package.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.token, max_retries=0, timeout=120
    ) as made:
        yield made


def chat(client: Any, messages: list[Any], **more: Any) -> Any:
    options = {"model": CHAT, "temperature": 0.0, "max_completion_tokens": 24} | more
    return client.chat.completions.create(messages=messages, **options)


def test_a_chat_whole_and_streamed_are_the_same(client: Any) -> None:
    whole = chat(client, ASK)
    assert "4" in whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(chat(client, ASK, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0


def test_a_seed_repeats_and_another_differs(client: Any) -> None:
    story: list[Any] = [{"role": "user", "content": "Invent a name for a cat."}]
    first, again, other = (
        chat(client, story, temperature=1.5, seed=seed).choices[0].message.content
        for seed in (7, 7, 8)
    )
    assert first == again != other


def test_stops_and_limits_are_kept(client: Any) -> None:
    stopped = chat(client, COUNT, stop=["5"], max_completion_tokens=60)
    assert "5" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"
    short = chat(client, COUNT, max_tokens=3, max_completion_tokens=package.NOT_GIVEN)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 3


def test_several_answers_at_once(client: Any) -> None:
    answer = chat(client, COUNT, n=3, temperature=1.0, seed=1, max_completion_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 36


def test_logprobs_are_of_the_tokens_told(client: Any) -> None:
    answer = chat(client, ASK, logprobs=True, top_logprobs=4).choices[0]
    told = answer.logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in told).decode() == answer.message.content
    for entry in told:
        assert [t.logprob for t in entry.top_logprobs] == sorted(
            (t.logprob for t in entry.top_logprobs), reverse=True
        )
        assert entry.logprob == entry.top_logprobs[0].logprob  # temperature 0
        assert sum(math.exp(t.logprob) for t in entry.top_logprobs) <= 1.0001


def test_json_is_what_its_schema_says(client: Any) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": CITY}}
    said = chat(client, ASK, response_format=shape, max_completion_tokens=80)
    value = json.loads(said.choices[0].message.content)
    assert set(value) == {"city", "people"}
    assert isinstance(value["people"], int)
    loose = chat(
        client, ASK, response_format={"type": "json_object"}, max_completion_tokens=200,
        stop=["}"],
    )  # fmt: skip
    assert loose.choices[0].message.content.lstrip().startswith("{")


def test_tools_whole_streamed_and_answered(client: Any, coder: str) -> None:
    ask: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    options: dict[str, Any] = {"model": coder, "tools": [WEATHER], "max_completion_tokens": 60}
    whole = chat(client, ask, **options)
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    assert "Paris" in json.loads(call.function.arguments)["city"]
    with client.chat.completions.stream(messages=ask, **options, temperature=0.0) as stream:
        events = {event.type for event in stream}
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.delta" in events
    assert json.loads(streamed.function.arguments) == json.loads(call.function.arguments)
    told = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees and sunny"}
    last = chat(client, [*ask, whole.choices[0].message.to_dict(), told], **options)
    assert last.choices[0].finish_reason in ("stop", "length", "tool_calls")
    assert last.usage.prompt_tokens > whole.usage.prompt_tokens  # the result was read


# ---- the older completions


def test_completions_of_texts_and_of_tokens(client: Any) -> None:
    options: dict[str, Any] = {"model": CHAT, "temperature": 0.0, "max_tokens": 5}
    alone = client.completions.create(prompt="One, two, three,", **options)
    assert "four" in alone.choices[0].text
    assert alone.choices[0].finish_reason == "length"
    both = client.completions.create(prompt=["One, two, three,", "A, B, C,"], **options)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == alone.choices[0].text
    chunks = client.completions.create(prompt="One, two, three,", stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in chunks) == alone.choices[0].text
    assert client.completions.create(prompt=[[504, 28]], **options).usage.prompt_tokens == 2


def test_a_suffix_is_filled_in_before(client: Any, coder: str) -> None:
    options: dict[str, Any] = {"model": coder, "temperature": 0.0, "max_tokens": 16}
    before, after = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"
    whole = client.completions.create(prompt=before, suffix=after, **options)
    assert whole.choices[0].text.startswith("a + b")
    chunks = client.completions.create(prompt=before, suffix=after, stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_a_suffix_is_refused_by_a_model_that_never_learnt_it(client: Any) -> None:
    with pytest.raises(package.UnprocessableEntityError, match="fill in the middle"):
        client.completions.create(model=CHAT, prompt="a", suffix="b")


# ---- responses


def test_responses_are_stored_and_gone_on_from(client: Any) -> None:
    options: dict[str, Any] = {"model": CHAT, "temperature": 0.0, "max_output_tokens": 24}
    first = client.responses.create(input="My name is Ada. Say hello to me.", **options)
    assert first.status in ("completed", "incomplete")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = client.responses.create(
        input="What is my name?", previous_response_id=first.id, **options
    )
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    client.responses.delete(first.id)
    with pytest.raises(package.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(package.NotFoundError):
        client.responses.create(input="?", previous_response_id=first.id, **options)


def test_responses_in_pieces(client: Any) -> None:
    shape = {"type": "json_schema", "name": "yes", "strict": True, "schema": YES}
    with client.responses.stream(
        model=CHAT, input=ASK, temperature=0.0, instructions="Be brief.", text={"format": shape}
    ) as stream:
        events = [event.type for event in stream]
        answer = stream.get_final_response()
    assert events[:2] == ["response.created", "response.in_progress"]
    assert events[-1] == "response.completed"
    assert set(json.loads(answer.output_text)) == {"yes"}
    assert client.responses.retrieve(answer.id).output_text == answer.output_text


def test_a_response_that_is_not_stored(client: Any) -> None:
    answer = client.responses.create(model=CHAT, input="Hi", store=False, max_output_tokens=4)
    with pytest.raises(package.NotFoundError):
        client.responses.retrieve(answer.id)


def test_responses_call_tools(client: Any, coder: str) -> None:
    tool = {"type": "function", **WEATHER["function"]}  # type: ignore[dict-item]
    ask: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    options: dict[str, Any] = {"model": coder, "tools": [tool], "temperature": 0.0}
    first = client.responses.create(input=ask, max_output_tokens=60, **options)
    call = next(item for item in first.output if item.type == "function_call")
    assert "Paris" in json.loads(call.arguments)["city"]
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    second = client.responses.create(
        input=[told], previous_response_id=first.id, max_output_tokens=60, **options
    )
    assert second.usage.input_tokens > first.usage.input_tokens


# ---- vectors and lists


def test_vectors_in_base64_and_in_decimals(client: Any, server: Server) -> None:
    texts = ["good day", "good night", "good day"]
    found = client.embeddings.create(model=ENCODER, input=texts)  # base64, decoded by the package
    first, second, third = (item.embedding for item in found.data)
    assert math.hypot(*first) == pytest.approx(1.0, abs=1e-5)
    assert first == pytest.approx(third, abs=1e-6)
    assert first != second
    plain = client.embeddings.create(model=ENCODER, input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)
    raw = client.embeddings.with_raw_response.create(
        model=ENCODER, input=texts[0], encoding_format="base64"
    )
    encoded = json.loads(raw.text)["data"][0]["embedding"]
    numbers = struct.unpack(f"<{len(first)}f", base64.b64decode(encoded))
    assert list(numbers) == pytest.approx(first, abs=1e-6)
    short = client.embeddings.create(model=ENCODER, input=texts[0], dimensions=16)
    assert len(short.data[0].embedding) == 16
    assert found.usage.prompt_tokens > 0


def test_models_are_listed_and_found(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert {CHAT, ENCODER} <= set(names)
    assert client.models.retrieve(CHAT).id == CHAT
    assert client.models.retrieve(ENCODER).owned_by


# ---- refusals: the package retries by the status, so it must be exact


def refused(error: type[Exception], call: Any) -> Any:
    with pytest.raises(error) as caught:
        call()
    return caught.value


def test_refusals_have_their_status(client: Any, server: Server) -> None:
    unknown = refused(package.NotFoundError, lambda: chat(client, ASK, model="no-such-model"))
    assert unknown.code == "model_not_found"
    bad = refused(package.BadRequestError, lambda: chat(client, ASK, temperature="hot"))
    assert bad.param == "temperature"
    long: list[Any] = [{"role": "user", "content": "word " * 20_000}]
    too_long = refused(package.BadRequestError, lambda: chat(client, long))
    assert too_long.code == "context_length_exceeded"
    encoder = refused(package.UnprocessableEntityError, lambda: chat(client, ASK, model=ENCODER))
    assert "cannot write text" in encoder.message
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    remote = [{"role": "user", "content": [picture]}]
    assert refused(package.BadRequestError, lambda: chat(client, remote)).status_code == 400
    with package.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as stranger:
        answer = refused(
            package.APIStatusError, lambda: stranger.post("../api/pull", cast_to=object, body={})
        )
    assert answer.status_code == 401
