"""Answers in each dialect, whole and streamed: the stream joined is the whole."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.answer import gather, total_usage
from snugly.chat.requests import Embeddings, Ranked, Ranking
from snugly.chat.sse import EventStream
from snugly.chat.types import Delta, TokenLogprob, ToolCall, ToolCallPiece, Usage
from snugly.errors import DoesNotFit, EngineError, PromptTooLong, SnuglyError, UnknownModel
from snugly.server.dialects import (
    anthropic,
    fim,
    llamacpp,
    models,
    ollama,
    ollama_models,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    rerank,
)
from snugly.server.dialects.faults import (
    BadRequest,
    HttpFault,
    anthropic_error,
    headers_of,
    ollama_error,
    openai_error,
    status_of,
)
from snugly.server.dialects.sending import dump
from snugly.server.dialects.types import Loaded, ModelCard, Reply, Writer

REPLY = Reply("r1", "snug", 1795154210.25, load_ms=3.0, wait_ms=1.0)
USAGE = Usage(20, 5, 8, 12.5, 40.0, 960.0, 125.0)
CARD = ModelCard(
    "pub/model", "pub", 4_900_000_000, 1795154210.0, "ab" * 32, "llama", 8_030_261_248, "Q4_K_M",
    131072, 4096, ("completion", "tools", "insert"), "{{ messages }}", "mit",
    {"llama.block_count": 32}, {"bos": "<s>", "eos": "</s>"},
)  # fmt: skip


def sent(writer: Writer, deltas: Iterable[Delta]) -> bytes:
    """Everything that a writer sends for these pieces."""
    chunks = writer.start()
    for delta in deltas:
        chunks += writer.feed(delta)
    return b"".join([*chunks, *writer.end()])


def events(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each event; none may be left open."""
    found = list(EventStream().feed(data))
    assert data.endswith(b"\n\n")
    return [json.loads(event) for event in found if event != "[DONE]"]


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


# ---- pieces of an answer: thoughts, then words, then calls, as a model writes them

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
LOGPROB = st.floats(-30, 0)


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    """The pieces of one answer, cut anywhere."""
    deltas = [Delta(reasoning=text) for text in draw(st.lists(TEXTS, max_size=3))]
    for text in draw(st.lists(TEXTS, max_size=4)):
        token = TokenLogprob(text, draw(LOGPROB), text.encode(), 7)
        deltas.append(Delta(text, logprobs=(token,) if draw(st.booleans()) else ()))
    calls = draw(st.integers(0, 3))
    for index in range(calls):
        arguments = json.dumps(draw(st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=2)))
        cut = draw(st.integers(0, len(arguments)))
        head = ToolCallPiece(index, f"id{index}", f"tool{index}", arguments[:cut])
        deltas.append(Delta(tool_calls=(head,)))
        deltas.append(Delta(tool_calls=(ToolCallPiece(index, arguments=arguments[cut:]),)))
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    stop_word = draw(st.sampled_from(["", "END"])) if reason == "stop" else ""
    return [*deltas, Delta(finish_reason=reason, stop_word=stop_word), Delta(usage=USAGE)]


@given(answers(), st.booleans())
def test_openai_chat(deltas: list[Delta], include_usage: bool) -> None:
    answer = gather(deltas)[0]
    whole = openai_chat.write(REPLY, [answer])
    data = sent(openai_chat.ChatWriter(REPLY, 1, include_usage), deltas)
    assert data.endswith(b"data: [DONE]\n\n")
    chunks = events(data)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    calls: dict[int, dict[str, Any]] = {}
    logprobs = []
    for choice in choices:
        piece = choice["delta"]
        said["content"] += piece.get("content") or ""
        if "reasoning_content" in piece:
            said["reasoning_content"] = (
                said.get("reasoning_content", "") + piece["reasoning_content"]
            )
        for call in piece.get("tool_calls", []):
            known = calls.setdefault(
                call["index"], {"type": "function", "function": {"name": "", "arguments": ""}}
            )
            known["id"] = call.get("id", known.get("id"))
            for name in ("name", "arguments"):
                known["function"][name] += call["function"].get(name, "")
        logprobs += (choice["logprobs"] or {}).get("content", [])
    if calls:
        said |= {"tool_calls": list(calls.values()), "content": said["content"] or None}
    message = whole["choices"][0]
    assert said == message["message"]
    assert logprobs == ((message["logprobs"] or {}).get("content") or [])
    assert choices[-1]["finish_reason"] == message["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert (chunks[-1]["choices"] == []) == include_usage
    assert all(c["id"] == whole["id"] and c["object"] == "chat.completion.chunk" for c in chunks)


@given(answers())
def test_anthropic(deltas: list[Delta]) -> None:
    whole = anthropic.write(REPLY, gather(deltas)[0])
    found = events(sent(anthropic.MessageWriter(REPLY, 20), deltas))
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
            blocks[-1]["json"] = ""
            is_open = True
        elif event["type"] == "content_block_stop":
            is_open = False
        else:
            delta = event["delta"]
            name = {"thinking_delta": "thinking", "text_delta": "text"}.get(delta["type"])
            if name:
                blocks[-1][name] += delta[name]
            blocks[-1]["json"] += delta.get("partial_json", "")
    assert not is_open
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(text or "{}")
    assert blocks == whole["content"]
    assert [e["type"] for e in found[-2:]] == ["message_delta", "message_stop"]
    assert found[0]["message"]["usage"]["input_tokens"] == 20
    assert found[-2]["delta"] == {k: whole[k] for k in ("stop_reason", "stop_sequence")}
    assert found[-2]["usage"] == whole["usage"]


@given(answers())
def test_ollama(deltas: list[Delta]) -> None:
    whole = ollama.write_chat(REPLY, gather(deltas)[0])
    found = lines(sent(ollama.ChatWriter(REPLY), deltas))
    messages = [line["message"] for line in found]
    for name in ("content", "thinking"):
        assert "".join(m.get(name, "") for m in messages) == whole["message"].get(name, "")
    calls = [call for m in messages for call in m.get("tool_calls", [])]
    assert calls == whole["message"].get("tool_calls", [])
    assert [x for line in found for x in line.get("logprobs", [])] == whole.get("logprobs", [])
    assert [line["done"] for line in found] == [False] * (len(found) - 1) + [True]
    last = {k: v for k, v in found[-1].items() if k != "message"}
    assert last == {k: v for k, v in whole.items() if k not in ("message", "logprobs")}
    generated = ollama.write_generate(REPLY, gather(deltas)[0])
    found = lines(sent(ollama.GenerateWriter(REPLY), deltas))
    assert "".join(line["response"] for line in found) == generated["response"]


@given(answers(), st.booleans())
def test_responses(deltas: list[Delta], free_text: bool) -> None:
    kind = {"type": "custom"} if free_text else {"type": "function", "parameters": {}}
    tools = [{"name": "tool0"} | kind, {"name": "tool1", "type": "function"}]
    asked = openai_responses.read({"input": "hi", "tools": tools, "stream": True})
    whole = openai_responses.write(REPLY, asked, gather(deltas)[0])
    found = events(sent(openai_responses.ResponseWriter(REPLY, asked), deltas))
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    cut = whole["status"] == "incomplete"
    assert found[-1]["type"] == f"response.{'incomplete' if cut else 'completed'}"
    assert found[-1]["response"] == whole
    done = [e["item"] for e in found if e["type"] == "response.output_item.done"]
    added = [e["item"] for e in found if e["type"] == "response.output_item.added"]
    assert done == whole["output"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    # What the deltas of an item add up to is what it holds when it is done.
    for index, item in enumerate(done):
        pieces = [
            e["delta"]
            for e in found
            if e.get("output_index") == index and e["type"].endswith(".delta")
        ]
        kinds = {"message": "content", "reasoning": "content"}
        if item["type"] in kinds:
            assert "".join(pieces) == item["content"][0]["text"]
        else:
            assert "".join(pieces) == item.get("arguments", item.get("input"))


@given(answers())
def test_llama_cpp_and_older_completions(deltas: list[Delta]) -> None:
    answer = gather(deltas)[0]
    found = events(sent(llamacpp.RawWriter(REPLY), deltas))
    whole = llamacpp.write(REPLY, answer)
    assert all("content" in e and "stop" in e for e in found)  # Tabby ends without them
    assert [e["stop"] for e in found] == [False] * (len(found) - 1) + [True]
    assert "".join(e["content"] for e in found) == whole["content"]
    for name in ("timings", "tokens_predicted", "stop_type", "stopping_word"):
        assert found[-1][name] == whole[name]
    old = openai_completions.write(REPLY, [answer])
    chunks = events(sent(openai_completions.CompletionWriter(REPLY), deltas))
    assert "".join(c["choices"][0]["text"] for c in chunks) == old["choices"][0]["text"]
    offsets = [
        offset
        for c in chunks
        for offset in (c["choices"][0]["logprobs"] or {}).get("text_offset", [])
    ]
    assert offsets == (old["choices"][0]["logprobs"] or {}).get("text_offset", [])
    assert chunks[-1]["usage"] == old["usage"]


@given(answers(), answers())
def test_several_answers_to_one_prompt_keep_apart(one: list[Delta], two: list[Delta]) -> None:
    both = [
        Delta(d.text, finish_reason=d.finish_reason, usage=d.usage, choice=choice)
        for pair in zip(one, two, strict=False)
        for choice, d in enumerate(pair)
    ]
    whole = openai_chat.write(REPLY, gather(both))
    chunks = events(sent(openai_chat.ChatWriter(REPLY, 2), both))
    for index, choice in enumerate(whole["choices"]):
        texts = [
            c["choices"][0]["delta"].get("content") or ""
            for c in chunks
            if c["choices"][0]["index"] == index
        ]
        assert "".join(texts) == choice["message"]["content"]


# ---- what clients were seen to insist on


def test_every_chunk_of_fill_in_the_middle_has_text() -> None:
    chunks = events(sent(fim.FimWriter(REPLY), [Delta("a"), Delta(finish_reason="stop")]))
    assert all(isinstance(c["choices"][0]["delta"]["content"], str) for c in chunks)


def test_nothing_that_some_client_takes_for_the_end_of_a_line_is_sent_raw() -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x1cf\r\ng"
    for writer in (ollama.ChatWriter(REPLY), openai_chat.ChatWriter(REPLY)):
        data = writer.feed(Delta(text))[0]
        assert len(data.decode().rstrip().splitlines()) == 1
        body = json.loads(data.removeprefix(b"data: "))
        message = body.get("message") or body["choices"][0]["delta"]
        assert message["content"] == text
    assert dump("\ud83d") == b'"?"'


def test_prompts_of_the_harness_get_the_older_arrays_with_nothing_for_the_first_token() -> None:
    tokens = (
        TokenLogprob("The", None),
        TokenLogprob(" sky", -2.5, top=(TokenLogprob(" end", -0.5),)),
        TokenLogprob(" is", -0.125, top=(TokenLogprob(" is", -0.125),)),
    )
    deltas = [Delta("The sky is", logprobs=tokens), Delta(finish_reason="length", usage=USAGE)]
    logprobs = openai_completions.write(REPLY, gather(deltas))["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"] == [None, -2.5, -0.125]
    assert logprobs["top_logprobs"] == [None, {" end": -0.5, " sky": -2.5}, {" is": -0.125}]
    assert logprobs["text_offset"] == [0, 3, 7]
    # As lm_eval.models.openai_completions.parse_logprobs decides whether a token was greedy:
    both = zip([-2.5, -0.125], logprobs["top_logprobs"][1:], strict=True)
    assert [token == max(top.values()) for token, top in both] == [False, True]


def test_calls_that_were_cut_off_are_told_to_nobody_who_might_run_them() -> None:
    deltas = [
        Delta(tool_calls=(ToolCallPiece(0, "c", "rm", '{"path": "/ho'),)),
        Delta(finish_reason="length", usage=USAGE),
    ]
    answer = gather(deltas)[0]
    assert answer.tool_calls == (ToolCall("c", "rm", '{"path": "/ho'),)
    assert "tool_calls" not in ollama.write_chat(REPLY, answer)["message"]
    assert ollama.write_chat(REPLY, answer)["done_reason"] == "length"
    assert anthropic.write(REPLY, answer)["content"] == []
    assert anthropic.write(REPLY, answer)["stop_reason"] == "max_tokens"


def test_counts() -> None:
    counts = openai_chat.write(REPLY, gather([Delta("a", usage=USAGE)]))["usage"]
    assert (counts["total_tokens"], counts["prompt_tokens_details"]) == (25, {"cached_tokens": 8})
    assert anthropic.usage_of(USAGE)["input_tokens"] == 12  # what was read anew
    tail = ollama.write_chat(REPLY, gather([Delta("a", usage=USAGE)])[0])
    assert tail["total_duration"] == 56_500_000  # 1 + 3 + 12.5 + 40 ms
    assert tail["created_at"] == "2026-11-20T05:56:50.250000Z"
    # Two answers to each of two prompts: each prompt counts once.
    assert total_usage([USAGE] * 4, 2).prompt_tokens == 40
    assert total_usage([USAGE] * 4, 2).completion_tokens == 20


def test_vectors_and_ranks() -> None:
    found = Embeddings(((1.0, -0.5),), 3)
    assert openai_embeddings.write(REPLY, found, True)["data"][0]["embedding"] == "AACAPwAAAL8="
    assert llamacpp.write_embeddings(found) == [{"index": 0, "embedding": [[1.0, -0.5]]}]
    request = rerank.read(
        {"query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2, "return_documents": True}
    )
    ranking = Ranking((Ranked(2, 0.1), Ranked(0, 0.9), Ranked(1, 0.5)), 9)
    results = rerank.write(REPLY, request, ranking)["results"]
    assert [(r["index"], r["document"]["text"]) for r in results] == [(0, "a"), (1, "b")]
    tei = {"query": "q", "texts": ["a", "b"]}
    assert rerank.is_tei(tei)
    ranking = Ranking((Ranked(0, 0.1), Ranked(1, 0.2)), 9)
    assert rerank.write_tei(rerank.read(tei), ranking)[0] == {"index": 1, "score": 0.2}


def test_only_the_wanted_fields_of_a_completion() -> None:
    answer = gather([Delta("a"), Delta(finish_reason="stop", usage=USAGE)])[0]
    wanted = ("content", "timings/prompt_n", "no/such")
    assert llamacpp.write(REPLY, answer, wanted) == {"content": "a", "timings/prompt_n": 12}


# ---- models


def test_lists_of_models_hold_what_clients_look_for() -> None:
    tags = models.ollama_tags([CARD])["models"][0]
    assert tags["modified_at"].endswith("Z")
    details = tags["details"]
    assert (details["parameter_size"], details["quantization_level"]) == ("8.0B", "Q4_K_M")
    show = models.ollama_show(CARD)
    assert ".Suffix" in show["template"]  # Continue's condition for fill-in-the-middle
    assert show["model_info"]["llama.context_length"] == 131072
    assert models.ollama_ps([CARD]) == {"models": []}
    assert models.lmstudio_v0([CARD])["data"][0]["state"] == "not-loaded"
    assert models.openai_models([CARD])["data"][0]["id"] == "pub/model"
    assert llamacpp.write_props(CARD)["is_sleeping"]
    assert llamacpp.write_tokenizer_info(CARD)["eos_token"] == "</s>"


def test_a_loaded_model_says_until_when() -> None:
    card = replace(CARD, loaded=Loaded(8192, 6 * 10**9, 0, None))
    running = models.ollama_ps([card])["models"][0]
    assert running["expires_at"].startswith("2300-")
    assert running["context_length"] == 8192
    assert models.lmstudio_v1([card])["models"][0]["loaded_instances"][0]["id"] == "pub/model"
    assert ollama_models.pull_line("pulling", "ab", 10, 5).endswith(b'"completed":5}\n')


# ---- errors

FAULTS: list[tuple[SnuglyError, int, str, str]] = [
    (BadRequest("No.", "a[0].b"), 400, "invalid_request_error", "invalid_request_error"),
    (PromptTooLong("9 > 5"), 400, "invalid_request_error", "invalid_request_error"),
    (HttpFault(401, "Who?"), 401, "authentication_error", "authentication_error"),
    (HttpFault(403, "No."), 403, "permission_error", "permission_error"),
    (UnknownModel("x"), 404, "not_found_error", "not_found_error"),
    (HttpFault(413, "Big."), 413, "invalid_request_error", "request_too_large"),
    (HttpFault(429, "Slow."), 429, "rate_limit_error", "rate_limit_error"),
    (EngineError("Died."), 500, "server_error", "api_error"),
    (HttpFault(503, "Full.", retry_after=2), 503, "unavailable_error", "overloaded_error"),
    (DoesNotFit("8 > 4"), 507, "server_error", "api_error"),
]


@pytest.mark.parametrize(("error", "status", "openai", "claude"), FAULTS, ids=lambda v: str(v)[:20])
def test_each_error_has_its_status_and_its_name(
    error: SnuglyError, status: int, openai: str, claude: str
) -> None:
    assert status_of(error) == status
    assert openai_error(error)["error"]["type"] == openai
    assert anthropic_error(error)["error"]["type"] == claude
    assert ollama_error(error) == {"error": str(error)}
    assert llamacpp.raw_error(error)["error"]["code"] == status


def test_clients_are_told_whether_to_try_again() -> None:
    assert headers_of(HttpFault(503, "Full.", retry_after=2)) == {"Retry-After": "2"}
    assert headers_of(DoesNotFit("8 > 4")) == {"x-should-retry": "false"}
    assert headers_of(EngineError("Died.")) == {}
    told = openai_error(BadRequest("No.", "a[0].b"))["error"]
    assert told["param"] == "a[0].b"
    assert openai_error(PromptTooLong("x"))["error"]["code"] == "context_length_exceeded"
    assert "prompt is too long" in anthropic_error(PromptTooLong("x"))["error"]["message"]


def test_an_answer_that_broke_off_says_so_in_each_dialect() -> None:
    error = EngineError("Died.")
    asked = openai_responses.read({"input": "x"})
    writers: list[Writer] = [
        openai_chat.ChatWriter(REPLY), openai_completions.CompletionWriter(REPLY),
        openai_responses.ResponseWriter(REPLY, asked), anthropic.MessageWriter(REPLY),
        ollama.ChatWriter(REPLY), llamacpp.RawWriter(REPLY),
    ]  # fmt: skip
    for writer in writers:
        writer.start()
        writer.feed(Delta("a"))
        data = b"".join(writer.fail(error))
        assert b"Died." in data
        assert b"DONE" not in data
        assert writer.ping() == b"" or writer.ping().endswith(b"\n\n")
