import json

import pytest

from snugly.chat.types import ChatRequest, Message
from snugly.engine.pieces import WholeCharacters
from snugly.engine.wire import body_of, delta_of, refusal
from snugly.errors import EngineError, PromptTooLong

HELLO = (Message("user", "hello"),)


def test_only_what_was_chosen_is_sent() -> None:
    assert body_of(ChatRequest(HELLO)) == {
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
    }
    body = body_of(
        ChatRequest(
            HELLO,
            max_tokens=5,
            temperature=0.0,
            seed=7,
            schema={"type": "object"},
            stop=("END",),
        )
    )
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (5, 0.0, 7)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["stop"] == ["END"]
    assert body_of(ChatRequest(HELLO, repeat_penalty=1.1))["repeat_penalty"] == 1.1
    assert body_of(ChatRequest(HELLO, schema={}))["response_format"] == {"type": "json_object"}


def test_a_real_last_event_of_llama_server() -> None:
    event = (
        '{"choices":[],"created":1795154210,"id":"chatcmpl-Y","model":"m",'
        '"object":"chat.completion.chunk","usage":{"completion_tokens":45,"prompt_tokens":37,'
        '"total_tokens":82,"prompt_tokens_details":{"cached_tokens":0}},"timings":{"cache_n":0,'
        '"prompt_n":37,"prompt_ms":80.022,"prompt_per_second":462.37,"predicted_n":45,'
        '"predicted_ms":236.233,"predicted_per_second":186.26}}'
    )
    usage = delta_of(event).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.decode_tps) == (37, 45, 186.26)


def test_a_prompt_that_is_too_long_gives_both_counts() -> None:
    body = {
        "error": {
            "code": 400,
            "message": "request (9031 tokens) exceeds the available context size (2048 tokens)",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9031,
            "n_ctx": 2048,
        }
    }
    error = refusal(body, 400)
    assert isinstance(error, PromptTooLong)
    assert "9,031" in error.problem
    assert "2,048" in error.problem


@pytest.mark.parametrize("data", ["", "nonsense", "[]", "3", '{"error": {"message": "bad"}}'])
def test_anything_else_is_an_error(data: str) -> None:
    with pytest.raises(EngineError):
        delta_of(data)


@pytest.mark.parametrize("body", [None, [], {}, {"error": "text"}, {"error": {"message": 3}}])
def test_refusals_of_any_shape_are_clear(body: object) -> None:
    assert isinstance(refusal(body, 500), EngineError)


def test_an_emoji_in_two_halves_is_whole_again() -> None:
    whole = WholeCharacters()
    halves = [json.loads(half) for half in ('"a\\ud83d"', '"\\ude00b"')]
    assert [whole.feed(half) for half in halves] == ["a", "\U0001f600b"]


def test_a_half_that_never_gets_its_other_half_can_still_be_printed() -> None:
    whole = WholeCharacters()
    assert whole.feed("\udc4dx").encode()
    assert whole.feed("\ud83d") == ""
    assert whole.feed("y").encode()
