"""What is asked of llama-server and what it answers, beyond plain words."""

import json
from typing import Any

import pytest

from snugly.chat.answer import gather
from snugly.chat.requests import (
    CompletionRequest,
    EmbedRequest,
    InfillRequest,
    RerankRequest,
    TokenizeRequest,
)
from snugly.chat.types import (
    ChatRequest,
    Delta,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from snugly.engine.pieces import Pieces
from snugly.engine.wire import body_of, delta_of, refusal
from snugly.engine.wire_raw import (
    completion_body,
    completion_delta,
    embed_body,
    embeddings_of,
    ranking_of,
    rerank_body,
    shortened,
    tokenize_body,
    tokens_of,
)
from snugly.errors import EngineError, UserError

HELLO = (Message("user", "hello"),)
WEATHER = Tool("weather", "Of a city", {"type": "object"})


def test_tools_calls_and_results_as_llama_server_reads_them() -> None:
    call = ToolCall("c1", "weather", '{"city": "Paris"}')
    messages = (
        *HELLO,
        Message("assistant", "", "Hm.", (call,)),
        Message("tool", "12", tool_call_id="c1"),
    )
    body = body_of(ChatRequest(messages, tools=(WEATHER,), parallel_tools=False))
    said, result = body["messages"][1:]
    assert said == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            }
        ],
        "reasoning_content": "Hm.",
    }
    assert result == {"role": "tool", "content": "12", "tool_call_id": "c1"}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)


def test_a_named_tool_is_the_only_one_offered_because_the_server_knows_no_names() -> None:
    chosen = ToolChoice("required", ("b",))
    body = body_of(ChatRequest(HELLO, tools=(WEATHER, Tool("b")), tool_choice=chosen))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["b"]
    assert body["tool_choice"] == "required"


def test_sampling_thinking_and_pictures() -> None:
    request = ChatRequest(
        (Message("user", (Text("?"), Image(b"abc", "image/png"))),),
        seed=2**40 + 7,
        top_k=5,
        logit_bias=((5, float("-inf")), (6, 1.5)),
        logprobs=0,
        reasoning=Reasoning(False, "low", 100),
        stop=("a",),
        wants_stop_word=True,
    )
    body = body_of(request)
    assert body["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,YWJj"
    assert body["seed"] == (2**40 + 7) % 0xFFFFFFFF
    assert body["logit_bias"] == [[5, False], [6, 1.5]]
    assert body["top_logprobs"] == 1
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "reasoning_effort": "low"}
    assert body["thinking_budget_tokens"] == 100
    assert body["verbose"] is True
    assert "seed" not in body_of(ChatRequest(HELLO, seed=-1))


def event(**delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def call(**function: Any) -> dict[str, Any]:
    return {"index": 0, "function": function} | ({"id": "c1"} if "name" in function else {})


def test_a_call_arrives_in_pieces_and_half_a_character_waits_for_its_other_half() -> None:
    pieces = Pieces()
    deltas = [
        pieces.read(event(role="assistant", content=None)),
        pieces.read(event(reasoning_content="Hm")),
        pieces.read(event(tool_calls=[call(name="weather", arguments='{"city"')])),
        pieces.read(event(tool_calls=[call(arguments=': "\ud83d')])),
        pieces.read(event(tool_calls=[call(arguments='\ude00"}')])),
    ]
    answer = gather(deltas)[0]
    assert answer.reasoning == "Hm"
    assert answer.tool_calls == (ToolCall("c1", "weather", '{"city": "\U0001f600"}'),)


# As b-10.11549 of the wheel sent it, shortened.
LOGPROB = {
    "id": 9707, "token": "Hello", "bytes": [72, 101, 108, 108, 111], "logprob": -0.237,
    "top_logprobs": [
        {"id": 9707, "token": "Hello", "bytes": [72, 101, 108, 108, 111], "logprob": -0.237},
        {"id": 13048, "token": "Hi", "bytes": [72, 105], "logprob": -1.995},
    ],
}  # fmt: skip
LAST = {
    "index": 0, "content": "", "tokens": [], "id_slot": 0, "stop": True, "model": "m",
    "tokens_predicted": 13, "tokens_evaluated": 36, "truncated": False, "stop_type": "word",
    "stopping_word": "5", "tokens_cached": 48,
    "timings": {"cache_n": 18, "prompt_ms": 32.0, "predicted_ms": 83.0,
                "prompt_per_second": 562.5, "predicted_per_second": 156.6},
}  # fmt: skip


def test_log_probabilities_with_as_many_alternatives_as_were_asked_for() -> None:
    choice = {"delta": {"content": "Hello"}, "logprobs": {"content": [LOGPROB]}}
    data = json.dumps({"choices": [choice]})
    token = delta_of(data).logprobs[0]
    assert (token.id, token.raw, [t.token for t in token.top]) == (9707, b"Hello", ["Hello", "Hi"])
    assert Pieces(top=0).read(data).logprobs[0].top == ()


def test_a_completion_tells_its_stop_word_and_its_counts() -> None:
    first = {"content": "4, ", "tokens": [19, 11], "completion_probabilities": [LOGPROB]}
    deltas = [completion_delta(json.dumps(first)), completion_delta(json.dumps(LAST))]
    answer = gather(deltas)[0]
    assert (answer.text, answer.tokens, answer.stop_word) == ("4, ", (19, 11), "5")
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens) == (36, 18)
    assert answer.logprobs[0].token == "Hello"
    cut = completion_delta(json.dumps(LAST | {"stop_type": "limit", "stopping_word": ""}))
    assert cut.finish_reason == "length"


def test_of_no_tokens_none_is_told_though_the_server_writes_one() -> None:
    pieces = Pieces(completion_delta, silent=True)
    assert pieces.read(json.dumps({"content": " Paris", "tokens": [1], "stop": False})) == Delta()
    usage = pieces.read(json.dumps(LAST)).usage
    assert usage is not None
    assert usage.completion_tokens == 0


@pytest.mark.parametrize("data", ['{"tokens": 3}', "[1]", '{"tokens": ["x"]}', "x"])
def test_other_shapes_are_an_error(data: str) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        completion_delta(data)
    odd = '{"choices": [3]}', '{"choices": [{"delta": {"tool_calls": [1]}}]}', '{"choices": 5}'
    for text in odd:
        with pytest.raises(EngineError):
            delta_of(text)


def test_bodies_of_completions_and_of_filling_in() -> None:
    request = CompletionRequest(("x",), max_tokens=0, logprobs=3, schema={}, grammar="g")
    body = completion_body(request, (1, 2))
    assert (body["prompt"], body["n_predict"], body["n_probs"]) == ([1, 2], 0, 3)
    assert body["json_schema"] == {}
    assert "grammar" not in body
    infill = InfillRequest("a", "b", predict_ms=100, slot=1, grammar="g")
    body = completion_body(infill, "<P>a<S>b<M>")
    assert (body["t_max_predict_ms"], body["id_slot"], body["grammar"]) == (100, 1, "g")


def test_vectors_ranks_and_tokens() -> None:
    request = EmbedRequest("m", ("a", (1, 2)), dimensions=2)
    assert embed_body(request)["input"] == ["a", [1, 2]]
    data = [{"index": 1, "embedding": [0, 0, 1]}, {"index": 0, "embedding": [3, 4, 5]}]
    answer = {"data": data, "usage": {"prompt_tokens": 3}}
    assert embeddings_of(answer, request).vectors == ((0.6, 0.8), (0.0, 0.0))
    assert shortened((0.6, 0.8), None) == (0.6, 0.8)
    with pytest.raises(EngineError):
        embeddings_of({"data": data[:1], "usage": {"prompt_tokens": 3}}, request)
    ranks = {"results": [{"index": 0, "relevance_score": -3.5}], "usage": {"prompt_tokens": 7}}
    assert ranking_of(ranks).items[0].score == -3.5
    body = rerank_body(RerankRequest("m", "q", ("a",), top_n=1))
    assert body == {"query": "q", "documents": ["a"]}
    assert tokenize_body(TokenizeRequest("m", "x"))["parse_special"] is True
    assert tokens_of({"tokens": [1, 2]}) == (1, 2)
    broken: Any
    for broken in ({}, {"tokens": 3}, []):
        with pytest.raises(EngineError):
            tokens_of(broken)


def test_who_is_at_fault() -> None:
    def told(kind: str, message: str) -> Exception:
        return refusal({"error": {"type": kind, "message": message}}, 500)

    assert isinstance(told("invalid_request_error", "failed to parse grammar"), UserError)
    assert isinstance(told("not_supported_error", "no embeddings"), UserError)
    assert isinstance(told("server_error", "image input is not supported - hint: ..."), UserError)
    assert isinstance(told("server_error", "out of luck"), EngineError)
