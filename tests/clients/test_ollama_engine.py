"""The `ollama` package against `snugly serve` and the real engine."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.clients.conftest import CHAT, ENCODER, Server

package = pytest.importorskip("ollama")
ASK: list[Any] = [{"role": "user", "content": "What is 2+2? Answer with a number."}]
SHORT = {"temperature": 0.0, "num_predict": 24}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    made = package.Client(server.url, timeout=120)
    yield made
    made._client.close()


@pytest.fixture
def owner(server: Server) -> Iterator[Any]:
    """A client that may change models."""
    made = package.Client(server.url, headers={"Authorization": f"Bearer {server.token}"})
    yield made
    made._client.close()


def test_chat_whole_and_streamed_are_the_same(client: Any) -> None:
    whole = client.chat(CHAT, ASK, options=SHORT)
    assert whole.done
    assert whole.done_reason in ("stop", "length")
    assert whole.eval_count > 0
    assert whole.eval_duration > 0
    pieces = list(client.chat(CHAT, ASK, options=SHORT, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_generate_raw_with_a_system_and_with_a_shape(client: Any) -> None:
    raw = client.generate(CHAT, "One, two, three,", raw=True, options=SHORT)
    assert "four" in raw.response
    told = client.generate(CHAT, "Hi", system="Be brief.", options=SHORT)
    assert told.prompt_eval_count > 0
    shaped = client.generate(CHAT, "A city?", format=CITY, options=SHORT | {"num_predict": 60})
    assert set(json.loads(shaped.response)) == {"city"}
    stopped = client.generate(
        CHAT, "Count from 1 to 20.", options=SHORT | {"stop": ["5"], "num_predict": 60}
    )
    assert "5" not in stopped.response


def test_a_suffix_is_filled_in_before(client: Any, coder: str) -> None:
    answer = client.generate(coder, "def add(a, b):\n    return ", suffix="\n", options=SHORT)
    assert answer.response.startswith("a + b")


def test_tools_are_called(client: Any, coder: str) -> None:
    def weather(city: str) -> str:
        """Tells the weather of a city.

        Args:
            city: The name of the city.
        """
        return f"18 degrees in {city}"

    question: list[Any] = [
        {"role": "user", "content": "What is the weather in Paris? Use the tool."}
    ]
    options = {"temperature": 0.0, "num_predict": 60}
    message = client.chat(coder, question, tools=[weather], options=options).message
    call = message.tool_calls[0].function
    assert call.name == "weather"
    result = {"role": "tool", "tool_name": call.name, "content": weather(**call.arguments)}
    again = client.chat(coder, [*question, message, result], tools=[weather], options=options)
    assert again.done


def test_vectors(client: Any) -> None:
    both = client.embed(ENCODER, ["good day", "good night"])
    assert math.hypot(*both.embeddings[0]) == pytest.approx(1.0, abs=1e-5)
    assert client.embed(ENCODER, "good day").embeddings[0] == pytest.approx(both.embeddings[0])
    assert list(client.embeddings(ENCODER, "good day").embedding) == pytest.approx(
        both.embeddings[0]
    )


def test_lists_and_details(client: Any) -> None:
    client.generate(CHAT, "hi", options={"num_predict": 1})
    found = {model.model: model for model in client.list().models}
    name = f"{CHAT}:latest"  # a name always has a tag
    assert found[name].size > 90_000_000
    assert found[name].details.format == "gguf"
    assert found[name].details.parameter_size == "135M"
    assert found[name].digest
    loaded = {model.model: model for model in client.ps().models}
    assert loaded[name].expires_at is not None
    assert loaded[name].context_length > 0
    shown = client.show(CHAT)
    assert shown.modelinfo["llama.context_length"] == 8192
    assert "completion" in shown.capabilities
    assert shown.template


def test_keep_alive_unloads_and_num_ctx_is_a_minimum(client: Any, coder: str) -> None:
    def context_of(model: str) -> int | None:
        return next(
            (m.context_length for m in client.ps().models if m.model.startswith(model)), None
        )

    client.generate(coder, "hi", options={"num_predict": 1, "num_ctx": 5000})
    held = context_of(coder)
    assert held is not None
    assert held >= 5000
    client.generate(coder, "hi", options={"num_predict": 1, "num_ctx": 1000})
    assert context_of(coder) == held  # a shorter one reloads nothing
    assert client.generate(coder, keep_alive=0).done_reason == "unload"
    deadline = time.monotonic() + 10
    while context_of(coder) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert context_of(coder) is None
    assert client.generate(coder).done_reason == "load"


def test_what_is_refused(client: Any, owner: Any) -> None:
    def status(call: Any) -> int:
        with pytest.raises(package.ResponseError) as caught:
            call()
        return int(caught.value.status_code)

    assert status(lambda: client.chat("no-such-model", ASK)) == 404
    assert status(lambda: client.show("no-such-model")) == 404
    assert status(lambda: client.pull("smollm2")) == 401  # without the token
    assert status(lambda: client.chat(ENCODER, ASK)) == 422
    assert status(lambda: owner.push(CHAT)) == 403
    assert status(lambda: owner.copy(CHAT, "another")) == 403
    assert status(lambda: owner.create("another", from_=CHAT)) == 403
