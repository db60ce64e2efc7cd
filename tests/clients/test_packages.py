"""Real client packages read our answers. Runs where they are installed, skips where not.

pip install openai anthropic ollama && pytest tests/clients
"""

import base64
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from tests.scripted_server import Handler

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
SAID = "Hello wörld\u2028😀!"  # what the script says
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def openai(url: str) -> Any:
    package = pytest.importorskip("openai")
    with package.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic(url: str) -> Any:
    package = pytest.importorskip("anthropic")
    with package.Anthropic(base_url=url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama(url: str) -> Any:
    package = pytest.importorskip("ollama")
    client = package.Client(url)
    yield client
    client._client.close()


# ---- openai


def test_openai_chat(openai: Any) -> None:
    answer = openai.chat.completions.create(
        model="snug", messages=HI, logprobs=True, top_logprobs=2, n=2, max_completion_tokens=9
    )
    assert [choice.message.content for choice in answer.choices] == [SAID, SAID]
    assert answer.choices[0].logprobs.content[0].top_logprobs[1].token == "other"
    assert answer.usage.prompt_tokens_details.cached_tokens == 8
    assert [model.id for model in openai.models.list()] == ["snug"]


def test_openai_tools_streamed_and_their_results(openai: Any) -> None:
    tools = [{"type": "function", "function": {"name": n, "parameters": CITY}} for n in "ab"]
    with openai.chat.completions.stream(
        model="snug", messages=HI, tools=tools, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
        usage = stream.get_final_completion().usage
    assert "tool_calls.function.arguments.delta" in kinds
    assert [c.function.arguments for c in message.tool_calls] == ['{"city": "ls"}'] * 2
    assert usage.total_tokens == 25
    results = [{"role": "tool", "tool_call_id": c.id, "content": "1"} for c in message.tool_calls]
    chunks = openai.chat.completions.create(
        model="snug", messages=[*HI, message.to_dict(), *results], tools=tools, stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == SAID


def test_openai_schemas_and_errors(openai: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    package = pytest.importorskip("openai")
    shape = pydantic.create_model("Shape", city=(str, ...))
    parsed = openai.chat.completions.parse(model="snug", messages=HI, response_format=shape)
    assert parsed.choices[0].message.parsed.city == "ls"
    assert openai.responses.parse(model="snug", input="x", text_format=shape).output_parsed
    with pytest.raises(package.BadRequestError) as refused:
        openai.chat.completions.create(model="snug", messages=HI, temperature=-1)
    assert refused.value.param == "temperature"


def test_openai_older_completions_and_vectors(openai: Any) -> None:
    answer = openai.completions.create(
        model="snug", prompt=[[1, 2], [3]], echo=True, logprobs=1, max_tokens=1
    )
    assert len(answer.choices) == 2
    assert answer.choices[1].logprobs.text_offset == [0, 5, 11, 12]
    chunks = openai.completions.create(model="snug", prompt="a", suffix="b", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == SAID
    vectors = openai.embeddings.create(model="snug", input=["a", "b"]).data  # asks for base64
    assert vectors[1].embedding == pytest.approx([0.6, 0.8, 1.0])


def test_openai_responses_streamed_with_both_kinds_of_tools(openai: Any) -> None:
    tools = [
        {"type": "function", "name": "weather", "parameters": CITY, "strict": True},
        {"type": "custom", "name": "patch"},
    ]
    with openai.responses.stream(model="snug", input=HI, tools=tools) as stream:
        events = [event.type for event in stream]
        output = stream.get_final_response().output
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"
    assert [item.type for item in output] == ["reasoning", "function_call", "custom_tool_call"]
    assert output[1].arguments == '{"city": "ls"}'
    assert output[2].input == "ls"
    results = [
        {"type": "function_call_output", "call_id": output[1].call_id, "output": "1"},
        {"type": "custom_tool_call_output", "call_id": output[2].call_id, "output": "2"},
    ]
    told = [*HI, *[item.to_dict() for item in output], *results]
    answer = openai.responses.create(model="snug", input=told, tools=tools)
    assert answer.output_text == SAID
    assert answer.usage.input_tokens_details.cached_tokens == 8


# ---- anthropic


def test_anthropic_messages(anthropic: Any) -> None:
    answer = anthropic.messages.create(model="snug", max_tokens=9, messages=HI, system="Be.")
    assert answer.content[0].text == SAID
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (12, 8)
    assert anthropic.messages.count_tokens(model="snug", messages=HI).input_tokens == 20


def test_anthropic_tools_and_thinking_streamed(anthropic: Any) -> None:
    tools = [{"name": "weather", "input_schema": CITY}]
    picture = {"type": "base64", "media_type": "image/png", "data": PNG}
    content = [{"type": "image", "source": picture}, {"type": "text", "text": "?"}]
    with anthropic.messages.stream(
        model="snug", max_tokens=2000, tools=tools, messages=[{"role": "user", "content": content}],
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:  # fmt: skip
        kinds = {event.type for event in stream}
        answer = stream.get_final_message()
    assert {"thinking", "input_json", "message_stop"} <= kinds
    assert answer.stop_reason == "tool_use"
    assert answer.content[1].input == {"city": "ls"}
    result = {"type": "tool_result", "tool_use_id": answer.content[1].id, "content": "1"}
    again = [
        *HI,
        {"role": "assistant", "content": [block.to_dict() for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    last = anthropic.messages.create(model="snug", max_tokens=9, tools=tools, messages=again)
    assert last.content[0].text == SAID


# ---- ollama


def test_ollama_chat(ollama: Any) -> None:
    picture = {"role": "user", "content": "hi", "images": [base64.b64decode(PNG)]}
    answer = ollama.chat("snug", [picture], think=True, options={"num_ctx": 9000}, keep_alive="5m")
    assert answer.message.content == SAID
    assert (answer.prompt_eval_count, answer.eval_count) == (20, 5)
    pieces = list(ollama.chat("snug", HI, stream=True))
    assert "".join(piece.message.content for piece in pieces) == SAID
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_ollama_tools_without_ids(ollama: Any) -> None:
    def weather(city: str) -> str:
        """Tells the weather."""
        return city

    message = ollama.chat("snug", HI, tools=[weather]).message
    assert message.tool_calls[0].function.arguments == {"city": "ls"}
    result = {"role": "tool", "tool_name": "weather", "content": "1"}
    answer = ollama.chat("snug", [*HI, message, result], tools=[weather], format=CITY)
    assert answer.message.content == '{"city": "ls"}'


def test_ollama_the_rest(ollama: Any) -> None:
    package = pytest.importorskip("ollama")
    assert ollama.generate("snug", "a", suffix="b").response == SAID
    assert ollama.generate("snug", keep_alive=0).done_reason == "unload"
    assert ollama.embed("snug", ["a", "b"]).embeddings[1] == [0.6, 0.8, 1.0]
    assert ollama.embeddings("snug", "a").embedding == [0.6, 0.8, 0.0]
    assert ollama.list().models[0].details.family == "llama"
    assert ollama.ps().models[0].expires_at.year == 2026
    assert ollama.show("snug").modelinfo["llama.context_length"] == 131072
    with pytest.raises(package.ResponseError) as refused:
        ollama.chat("snug", [{"role": "bad", "content": "x"}])
    assert refused.value.status_code == 400
