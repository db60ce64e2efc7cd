"""What editors and programs without a package of their own ask, byte by byte, of the engine.

Tabby, Continue, llama.vim, llama.vscode, LM Studio's clients, Zed. The bodies are those of
their sources (docs/clients.md).
"""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.clients.conftest import CHAT, ENCODER, RANKER, Server

ROUTE = {"Content-Type": "application/json"}


def raw(server: Server, path: str, body: Any = None, method: str = "") -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        server.url + path, data, ROUTE, method=method or ("GET" if body is None else "POST")
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ask(server: Server, path: str, body: Any = None) -> Any:
    status, data = raw(server, path, body)
    assert status == 200, data
    return json.loads(data)


def events(server: Server, path: str, body: Any) -> list[Any]:
    status, data = raw(server, path, body)
    assert status == 200, data
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_llamacpp_completion_as_tabby_and_continue_stream_it(server: Server) -> None:
    body = {
        "model": CHAT, "prompt": "One, two, three,", "n_predict": 6, "temperature": 0.0,
        "seed": 1, "stream": True, "penalty_last_n": 0, "presence_penalty": 0.0,
    }  # fmt: skip
    found = events(server, "/completion", body)
    assert all("content" in event and "stop" in event for event in found)
    assert [event["stop"] for event in found] == [False] * (len(found) - 1) + [True]
    text = "".join(event["content"] for event in found)
    assert "four" in text
    assert ask(server, "/completion", body | {"stream": False})["content"] == text


def test_tokens_there_and_back(server: Server) -> None:
    for field in ("content", "prompt"):  # llama.cpp's and lm-evaluation-harness' names
        tokens = ask(server, "/tokenize", {"model": CHAT, field: "Hello wörld 😀"})["tokens"]
        back = ask(server, "/detokenize", {"model": CHAT, "tokens": tokens})
        assert back["content"] == back["prompt"] == "Hello wörld 😀"
    pieces = ask(server, "/tokenize", {"model": CHAT, "content": "Hi", "with_pieces": True})
    assert [piece["piece"] for piece in pieces["tokens"]] == ["Hi"]
    info = ask(server, f"/tokenizer_info?model={CHAT}")
    assert info["eos_token"] == "<|im_end|>"
    assert "im_start" in info["chat_template"]


def test_prompts_are_scored_as_lm_evaluation_harness_asks(server: Server) -> None:
    text = "The capital of France is Paris"
    whole = ask(server, "/tokenize", {"model": CHAT, "prompt": text})["tokens"]
    body = {
        "model": CHAT, "prompt": [whole, [*whole[:-1], whole[1]]], "temperature": 0,
        "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True,
    }  # fmt: skip
    answer = ask(server, "/v1/completions", body)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    for choice in answer["choices"]:
        told = choice["logprobs"]
        assert told["token_logprobs"][0] is None
        assert told["top_logprobs"][0] is None
        assert {len(part) for part in told.values()} == {len(whole) + 1}  # and the next token
        for logprob, top in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True):
            assert logprob <= max(top.values())
    likely, unlikely = (c["logprobs"]["token_logprobs"][-2] for c in answer["choices"])
    assert likely > unlikely + 5
    assert answer["choices"][0]["text"].startswith(text)
    assert answer["usage"]["completion_tokens"] == 2
    alone = ask(server, "/v1/completions", body | {"prompt": text, "max_tokens": 0})
    assert alone["choices"][0]["text"] == text
    longer = ask(server, "/v1/completions", body | {"prompt": text, "max_tokens": 3})
    assert len(longer["choices"][0]["logprobs"]["tokens"]) == len(whole) + 3
    assert longer["choices"][0]["text"].startswith(text)


def test_infill_as_llama_vim_sends_it(server: Server, coder: str) -> None:
    body = {
        "model": coder, "id_slot": 0, "prompt": "    return ", "n_predict": 12, "top_k": 40,
        "input_prefix": "def add(a, b):\n", "input_suffix": "\n", "n_indent": 4, "top_p": 0.99,
        "input_extra": [{"filename": "x.py", "text": "print(1)\n", "time": 1}], "stream": False,
        "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "temperature": 0.0,
        "t_max_prompt_ms": 5000, "t_max_predict_ms": 5000,
        "response_fields": ["content", "timings/prompt_n", "truncated"],
    }  # fmt: skip
    answer = ask(server, "/infill", body)
    assert set(answer) == {"content", "timings/prompt_n", "truncated"}
    assert answer["content"].strip().startswith("a + b")
    warm = ask(server, "/infill", body | {"n_predict": 0, "response_fields": ["content"]})
    assert warm == {"content": ""}


def test_mistrals_fill_in_the_middle(server: Server, coder: str) -> None:
    body = {"model": coder, "prompt": "def add(a, b):\n    return ", "suffix": "\n"}
    more = {"max_tokens": 8, "temperature": 0.0}
    whole = ask(server, "/v1/fim/completions", body | more)
    said = whole["choices"][0]["message"]["content"]
    assert said.startswith("a + b")
    found = events(server, "/v1/fim/completions", body | more | {"stream": True})
    told = [e["choices"][0]["delta"].get("content") or "" for e in found if e.get("choices")]
    assert "".join(told) == said


def test_rerank_in_two_dialects(server: Server) -> None:
    texts = ["good day", "quite another thing", "good night"]
    body = {"model": RANKER, "query": "good day", "documents": texts}
    ranked = ask(server, "/v1/rerank", body | {"top_n": 2, "return_documents": True})["results"]
    assert len(ranked) == 2
    assert ranked[0]["relevance_score"] >= ranked[1]["relevance_score"]
    assert ranked[0]["document"]["text"] == texts[ranked[0]["index"]]
    tei = ask(server, "/rerank", {"model": RANKER, "query": "good day", "texts": texts})
    assert [entry["index"] for entry in tei][:2] == [entry["index"] for entry in ranked]


def test_vectors_as_llamacpp_tells_them(server: Server) -> None:
    (found,) = ask(server, "/embeddings", {"model": ENCODER, "content": "good day"})
    openai = ask(server, "/v1/embeddings", {"model": ENCODER, "input": "good day"})
    assert found["embedding"][0] == pytest.approx(openai["data"][0]["embedding"])


def test_lm_studios_lists_as_zed_reads_them(server: Server) -> None:
    for path in ("/api/v0/models", "/api/v1/models"):
        listed = ask(server, path)
        models = listed.get("data") or listed["models"]
        names = {model.get("id") or model.get("key") for model in models}
        assert {CHAT, ENCODER} <= names
    first = {m["id"]: m for m in ask(server, "/api/v0/models")["data"]}
    assert first[ENCODER]["type"] == "embeddings"
    assert first[CHAT]["type"] == "llm"
    assert first[CHAT]["state"] in ("loaded", "not-loaded")
    assert {"publisher", "compatibility_type"} <= set(first[CHAT])


def test_what_zed_insists_on_in_ollamas_lists(server: Server) -> None:
    for model in ask(server, "/api/tags")["models"]:
        assert {"name", "modified_at", "size", "digest"} <= set(model)
        assert {"format", "family", "parameter_size", "quantization_level"} <= set(model["details"])
    shown = ask(server, "/api/show", {"name": CHAT})  # by `name`, as older clients do
    assert shown["model_info"]
    version = ask(server, "/api/version")["version"]
    assert all(part.isdigit() for part in version.split("."))


def test_a_coders_template_says_that_it_fills_in(server: Server, coder: str) -> None:
    shown = ask(server, "/api/show", {"model": coder})
    assert ".Suffix" in shown["template"]  # without it Continue offers no completion
    assert "insert" in shown["capabilities"]


def test_slots_and_pushes_are_refused(server: Server) -> None:
    assert raw(server, "/slots")[0] == 403
    assert raw(server, "/api/push", {"model": CHAT})[0] == 401
    assert raw(server, "/no/such/route")[0] == 404
    assert raw(server, "/v1/chat/completions", {"messages": "x", "model": CHAT})[0] == 400
