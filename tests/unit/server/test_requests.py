"""Bodies of real clients, and bodies of nobody: what is read and what is refused."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.requests import CompletionRequest, InfillRequest, LoadRequest
from snugly.chat.types import ChatRequest, Image, Reasoning, ToolChoice
from snugly.engine.wire import body_of
from snugly.engine.wire_raw import completion_body
from snugly.server.dialects import (
    anthropic,
    fim,
    llamacpp,
    ollama,
    ollama_models,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    rerank,
)
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.reading import parse
from snugly.server.dialects.sending import dump

GOLDEN = Path(__file__).parents[2] / "golden/clients/requests.json"
RECORDED: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "/v1/chat/completions": openai_chat.read,
    "/v1/completions": openai_completions.read,
    "/v1/responses": lambda body: openai_responses.read(body).request,
    "/v1/embeddings": openai_embeddings.read,
    "/v1/rerank": rerank.read,
    "/v1/messages": anthropic.read,
    "/v1/messages/count_tokens": anthropic.read,
    "/v1/fim/completions": fim.read,
    "/api/chat": ollama.read_chat,
    "/api/generate": ollama.read_generate,
    "/api/embed": ollama.read_embed,
    "/api/embeddings": ollama.read_embed,
    "/api/show": ollama_models.read_name,
    "/api/pull": ollama_models.read_pull,
    "/api/copy": ollama_models.read_copy,
    "/completion": llamacpp.read_completion,
    "/infill": llamacpp.read_infill,
    "/tokenize": llamacpp.read_tokenize,
    "/detokenize": llamacpp.read_detokenize,
    "/embedding": llamacpp.read_embedding,
}
PIXEL = "iVBORw0KGgowMDAw"  # how a PNG begins


def user(text: str = "hi") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# ---- real clients


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=lambda r: f"{r['client']} {r['path']}".replace("/", "|")
)
def test_what_real_clients_send_is_read_and_can_be_asked_of_the_engine(
    recorded: dict[str, Any],
) -> None:
    request = READERS[recorded["path"]](recorded["body"])
    if isinstance(request, ChatRequest):
        assert dump(body_of(request))
        roles = [m.role for m in request.messages]
        assert "system" not in roles[1:]
        assert all(a != b or a == "tool" for a, b in zip(roles, roles[1:], strict=False))
        # What a client counts on must not be among what nobody uses.
        assert not {"tools", "messages", "stream", "input", "system"} & set(request.ignored)


def test_the_same_session_of_claude_code_begins_alike_every_time() -> None:
    """Its first block changes with every request; the prompt must not."""
    bodies = [r["body"] for r in RECORDED if "claude-code" in r["client"]]
    headers = {body["system"][0]["text"] for body in bodies}
    assert len(headers) > 1
    for body in bodies:
        assert body["system"][0]["text"].startswith("x-anthropic-billing-header:")
        assert "billing" not in anthropic.read(body).messages[0].text


def test_codex_gets_tools_of_a_namespace_under_one_name_and_web_search_is_left_out() -> None:
    body = next(r["body"] for r in RECORDED if "codex" in r["client"])
    asked = openai_responses.read(body)
    names = [tool.name for tool in asked.request.tools]
    assert "exec_command" in names
    assert "multi_agent_v1__spawn_agent" in names
    known = asked.called_as["multi_agent_v1__spawn_agent"]
    assert (known.namespace, known.name) == ("multi_agent_v1", "spawn_agent")
    assert any("web_search" in name for name in asked.request.ignored)
    assert not asked.store
    assert sorted(known.name for known in asked.called_as.values())[0] == "close_agent"


# From the sources of clients that are not packages (see the readers' docstrings).
TABBY = {
    "seed": 2**63 + 5, "prompt": "<PRE> a <SUF>b <MID>", "n_predict": 64, "temperature": 0.1,
    "stream": True, "penalty_last_n": 0, "presence_penalty": 0.0,
}  # fmt: skip
LLAMA_VIM = {
    "input_prefix": "def f():\n", "input_suffix": "\n", "prompt": "    ret", "n_predict": 128,
    "input_extra": [{"text": "x = 1", "time": [1, 2], "filename": "a.py"}], "n_indent": 4,
    "top_k": 40, "top_p": 0.99, "stream": False, "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 1000,
    "response_fields": ["content", "timings/prompt_n", "truncated", "tokens_cached"],
}  # fmt: skip
LM_EVAL = {
    "model": "m", "prompt": [[1, 2, 3], [4, 5]], "temperature": 0, "max_tokens": 1,
    "logprobs": 1, "seed": 1234, "echo": True,
}  # fmt: skip
AIDER = {"num_ctx": 8192 + 1280.0}  # tokens * 1.25 + 8192, another each turn


def test_tabby_sends_seeds_of_64_bits() -> None:
    request = llamacpp.read_completion(TABBY)
    assert (request.max_tokens, request.repeat_last_n, request.stream) == (64, 0, True)
    assert 0 <= completion_body(request, "x")["seed"] < 2**32


def test_llama_vim_fills_in_before_the_cursor_with_pieces_of_other_files() -> None:
    request = llamacpp.read_infill(LLAMA_VIM)
    assert (request.prefix, request.suffix) == ("def f():\n    ret", "\n")
    assert request.extra[0].name == "a.py"
    assert (request.predict_ms, request.prompt_ms, request.indent) == (1000, 500, 4)
    assert llamacpp.response_fields(LLAMA_VIM)[1] == "timings/prompt_n"
    assert request.ignored == ()
    body = completion_body(request, "prompt")
    assert body["samplers"] == ["top_k", "top_p", "infill"]
    assert body["t_max_predict_ms"] == 1000


def test_the_harness_wants_log_probabilities_of_prompts_of_tokens() -> None:
    request = openai_completions.read(LM_EVAL)
    assert isinstance(request, CompletionRequest)
    assert request.prompts == ((1, 2, 3), (4, 5))
    assert (request.echo, request.logprobs, request.max_tokens) == (True, 1, 1)
    assert llamacpp.read_tokenize({"prompt": "x", "add_special_tokens": False}).text == "x"


def test_a_context_that_a_client_asks_for_is_a_whole_number_of_tokens_at_least() -> None:
    request = ollama.read_chat({"model": "m", "messages": user(), "options": AIDER})
    assert request.context == 9472


# ---- meaning


def test_ollama_without_a_prompt_loads_and_with_keep_alive_0_unloads() -> None:
    loads = ollama.read_generate({"model": "m", "keep_alive": "1h30m"})
    assert loads == LoadRequest("m", 5400.0)
    assert ollama.read_chat({"model": "m", "keep_alive": 0}) == LoadRequest("m", 0.0)
    assert ollama.read_chat({"model": "m", "keep_alive": -1}) == LoadRequest("m", -1.0)
    assert ollama.read_chat({"model": "m", "keep_alive": "-5m"}) == LoadRequest("m", -1.0)


def test_ollama_streams_unless_told_otherwise_and_thinks_at_three_levels() -> None:
    body = {"model": "m", "messages": user(), "think": "high"}
    request = ollama.read_chat(body)
    assert isinstance(request, ChatRequest)
    assert request.stream
    assert request.reasoning == Reasoning(True, "high")
    off = ollama.read_chat(body | {"think": False})
    assert isinstance(off, ChatRequest)
    assert off.reasoning == Reasoning(False)


def test_results_of_tools_find_their_calls_where_ollama_sends_no_ids() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"x": 1}}}

    turns = [
        *user(),
        {"role": "assistant", "content": "", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "content": "2", "tool_name": "b"},
        {"role": "tool", "content": "1", "tool_name": "a"},
    ]
    request = ollama.read_chat({"model": "m", "messages": turns})
    assert isinstance(request, ChatRequest)
    calls = {c.name: c.id for c in request.messages[1].tool_calls}
    assert [m.tool_call_id for m in request.messages[2:]] == [calls["b"], calls["a"]]
    assert json.loads(request.messages[1].tool_calls[0].arguments) == {"x": 1}


def test_a_suffix_makes_it_fill_in_the_middle_in_four_dialects() -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "a", "suffix": "b"}),
        ("/v1/fim/completions", {"prompt": "a", "suffix": "b"}),
        ("/api/generate", {"model": "m", "prompt": "a", "suffix": "b"}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ]
    for path, body in bodies:
        request = READERS[path](body)
        assert isinstance(request, InfillRequest)
        assert (request.prefix, request.suffix) == ("a", "b")


def test_anthropic_blocks_become_turns_with_results_of_tools_first() -> None:
    request = anthropic.read(
        {
            "max_tokens": 9,
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_v=1; cch=a5145;You"},
                {"type": "text", "text": "Rule.\n<total_tokens>149 tokens left</total_tokens>"},
            ],
            "messages": [
                *user("Go"),
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "redacted_thinking", "data": "?"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}},
                ]},
                {"role": "user", "content": [
                    {"type": "text", "text": "Well?"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
                ]},
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            "stop_sequences": ["END"],
        }
    )  # fmt: skip
    system, first, said, result, then = request.messages
    assert (system.role, system.text) == ("system", "You\n\nRule.")
    assert (said.reasoning, said.tool_calls[0].arguments) == ("Hm.", '{"a": [1]}')
    assert (result.role, result.tool_call_id, result.text) == ("tool", "t1", "42")
    assert (first.text, then.role, then.text) == ("Go", "user", "Well?")
    assert request.tool_choice == ToolChoice("required", ("f",))
    assert request.parallel_tools is False
    assert request.stop == ("END",)
    assert body_of(request)["verbose"] is True


def test_pictures_come_with_the_request_and_nothing_is_fetched() -> None:
    url = f"data:image/png;base64,{PIXEL}"
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    request = openai_chat.read({"messages": [{"role": "user", "content": parts}]})
    assert [type(image) for image in request.messages[0].images] == [Image]
    assert url in dump(body_of(request)).decode()
    for address in ("https://e.org/a.png", "file:///etc/passwd", "http:x", "data:text/html,x"):
        parts[1] = {"type": "image_url", "image_url": {"url": address}}
        with pytest.raises(BadRequest) as refused:
            openai_chat.read({"messages": [{"role": "user", "content": parts}]})
        assert refused.value.field == "messages[0].content[1].image_url.url"


def test_a_response_builds_on_the_turns_of_an_earlier_one_but_not_on_its_instructions() -> None:
    first = openai_responses.read({"input": "One", "instructions": "Be brief."})
    before = (*first.turns, first.turns[0])
    second = openai_responses.read(
        {"input": "Two", "instructions": "Be long.", "previous_response_id": "resp_1"}, before
    )
    assert [m.text for m in first.request.messages] == ["Be brief.", "One"]
    assert second.request.messages[0].text == "Be long."
    assert [m.text for m in second.turns] == ["One", "One", "Two"]
    assert openai_responses.previous_id({"previous_response_id": "resp_1"}) == "resp_1"


def test_thoughts_words_and_calls_of_a_response_are_one_turn() -> None:
    items = [
        *user(),
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "T"}]},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "W", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "ok"},
    ]  # fmt: skip
    _, said, one, two = openai_responses.read({"input": items}).turns
    assert (said.reasoning, said.text) == ("T", "W")
    assert [c.arguments for c in said.tool_calls] == ["{}", '{"input":"*** Begin"}']
    assert [one.tool_call_id, two.tool_call_id] == ["c1", "c2"]


# ---- refusals

CHAT: dict[str, Any] = {"messages": user()}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {}, "messages"),
    ("/v1/chat/completions", {"messages": "hi"}, "messages"),
    ("/v1/chat/completions", {"messages": ["hi"]}, "messages[0]"),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("/v1/chat/completions", CHAT | {"temperature": -0.1}, "temperature"),
    ("/v1/chat/completions", CHAT | {"temperature": "hot"}, "temperature"),
    ("/v1/chat/completions", CHAT | {"temperature": math.nan}, "temperature"),
    ("/v1/chat/completions", CHAT | {"max_tokens": 0}, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"max_tokens": 10**400}, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"max_tokens": True}, "max_tokens"),
    ("/v1/chat/completions", CHAT | {"n": 1000}, "n"),
    ("/v1/chat/completions", CHAT | {"stream": "yes"}, "stream"),
    ("/v1/chat/completions", CHAT | {"top_logprobs": 3}, "top_logprobs"),
    ("/v1/chat/completions", CHAT | {"stop": ["x"] * 65}, "stop"),
    ("/v1/chat/completions", CHAT | {"tools": [{"type": "custom"}]}, "tools[0].type"),
    ("/v1/chat/completions", CHAT | {"tool_choice": "required"}, "tool_choice"),
    ("/v1/chat/completions", CHAT | {"functions": []}, "functions"),
    (
        "/v1/chat/completions",
        CHAT | {"tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice.function.name",
    ),
    (
        "/v1/chat/completions",
        CHAT | {"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}},
        "response_format.json_schema.schema",
    ),
    ("/v1/completions", {"prompt": [1, "a"]}, "prompt[0]"),
    ("/v1/completions", {"prompt": "a", "suffix": "b", "echo": True}, "echo"),
    ("/v1/completions", {"prompt": [-1]}, "prompt[0]"),
    ("/v1/embeddings", {"model": "m"}, "input"),
    ("/v1/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ("/v1/responses", {"input": "x", "background": True}, "background"),
    ("/v1/messages", {"max_tokens": 5, "messages": []}, "messages"),
    ("/v1/messages", CHAT | {"thinking": {"type": "maybe"}}, "thinking.type"),
    ("/v1/rerank", {"query": "q", "documents": [3]}, "documents[0]"),
    ("/api/chat", CHAT, "model"),
    ("/api/chat", CHAT | {"model": "m", "keep_alive": "soon"}, "keep_alive"),
    ("/api/chat", CHAT | {"model": "m", "options": {"num_ctx": -5}}, "options.num_ctx"),
    ("/api/chat", CHAT | {"model": "m", "format": "xml"}, "format"),
    ("/api/pull", {"model": "m", "insecure": True}, "insecure"),
    ("/infill", {"samplers": ["mystery"]}, "samplers"),
    ("/completion", {"prompt": "x", "n_predict": -7}, "n_predict"),
    ("/detokenize", {"tokens": ["a"]}, "tokens"),
]


@pytest.mark.parametrize(("path", "body", "field"), REFUSED, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_named_by_its_path(path: str, body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        READERS[path](body)
    assert refused.value.field == field
    assert field in refused.value.problem


def schema(value: Any) -> dict[str, Any]:
    return CHAT | {"response_format": {"type": "json_schema", "json_schema": {"schema": value}}}


def test_schemas_have_bounds_and_point_nowhere_else() -> None:
    deep: Any = {"type": "object"}
    for _ in range(60):
        deep = {"properties": {"a": deep}}
    wide = {"enum": list(range(30_000))}
    away = {"$ref": "https://example.org/s.json"}
    long = {"type": "array", "minItems": 10**6}
    for value in (deep, wide, away, long):
        with pytest.raises(BadRequest):
            openai_chat.read(schema(value))
    local = {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}
    assert openai_chat.read(schema(local)).schema == local


def test_unknown_fields_are_passed_to_nobody_and_named() -> None:
    body = CHAT | {"chat_template": "{{ evil }}", "lora": [{"id": 0}], "service_tier": "auto"}
    request = openai_chat.read(body)
    assert request.ignored == ("chat_template", "lora", "service_tier")
    assert b"evil" not in dump(body_of(request))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"3", b"{", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 200_000,
     b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(data)


# ---- anything at all

NAMES = sorted(
    {name for r in RECORDED for name in r["body"]}
    | {"suffix", "echo", "logit_bias", "keep_alive", "grammar", "json_schema", "documents", "query"}
    | {"texts", "tokens", "content", "input_extra", "samplers", "think", "images", "raw", "format"}
    | {"type", "role", "text", "name", "function", "image_url", "tool_calls", "arguments", "id"}
    | {"source", "call_id", "output", "summary", "$ref", "schema", "url", "data", "tool_call_id"}
)
WORDS = st.sampled_from(
    ["user", "assistant", "tool", "system", "function", "text", "image_url", "message", "auto",
     "json_schema", "function_call", "function_call_output", "tool_use", "tool_result", "image",
     "allowed_tools", "custom", "namespace", "enabled", "base64", "5m", "\ud83d", "", "x"]
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8)


def sent(request: Any) -> None:
    """What was read must be such that it can be sent on."""
    if isinstance(request, ChatRequest):
        dump(body_of(request)).decode()
        json.dumps(body_of(request), ensure_ascii=False, allow_nan=False).encode()
    elif isinstance(request, InfillRequest):
        json.dumps(completion_body(request, "x"), ensure_ascii=False, allow_nan=False).encode()


@given(st.sampled_from(sorted(READERS)), BODIES)
def test_any_json_is_read_or_refused_and_nothing_else(path: str, body: dict[str, Any]) -> None:
    with suppress(BadRequest):
        sent(READERS[path](body))


@given(st.sampled_from(RECORDED), st.data())
def test_a_real_body_with_one_thing_wrong_is_read_or_refused(
    recorded: dict[str, Any], data: st.DataObject
) -> None:
    body = json.loads(json.dumps(recorded["body"]))
    place: Any = body
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    with suppress(BadRequest):
        sent(READERS[recorded["path"]](body))
