"""Requests from the first byte to the last, over a real socket."""

import asyncio
import json
from typing import Any

import pytest

from snugly.history import requests
from snugly.history.opening import opened
from snugly.settings import settings
from tests.making import LLAMA_PAIRS, gguf_bytes, u32_pair
from tests.server.making import events, eventually, said, served, stock


async def test_a_chat_whole() -> None:
    async with served() as it:
        answer = await it.chat()
        assert answer.status_code == 200
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == "word " * 8
        assert body["usage"]["prompt_tokens"] == 2
        assert body["model"] == "tiny"


async def test_a_chat_in_pieces_ends_with_done() -> None:
    async with served() as it, it.asking() as answer:
        text = (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert said(text) == "word " * 8
        assert events(text)[-1] == "[DONE]"


async def test_every_dialect_answers() -> None:
    turn = [{"role": "user", "content": "hi"}]
    asks: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
        ("/v1/chat/completions", {"messages": turn}, ("choices", 0, "message", "content")),
        ("/v1/messages", {"messages": turn, "max_tokens": 9}, ("content", 0, "text")),
        ("/v1/responses", {"input": "hi"}, ("output", 0, "content", 0, "text")),
        ("/api/chat", {"messages": turn, "stream": False}, ("message", "content")),
        ("/api/generate", {"prompt": "hi", "stream": False}, ("response",)),
    ]
    async with served() as it:
        for path, body, where in asks:
            answer = await it.client.post(path, json={"model": "tiny", **body}, timeout=20)
            assert answer.status_code == 200, (path, answer.text)
            value = answer.json()
            for step in where:
                value = value[step]
            assert value == "word " * 8, path


async def test_the_lists_of_models_name_it() -> None:
    async with served() as it:
        for path in ("/v1/models", "/models", "/api/tags", "/api/v0/models", "/api/v1/models"):
            assert "tiny" in (await it.client.get(path)).text, path
        await it.chat()
        running = (await it.client.get("/api/ps")).json()["models"]
        assert [model["name"] for model in running] == ["test/tiny:latest"]


async def test_embeddings_beside_chat() -> None:
    async with served() as it:
        await it.chat()
        answer = await it.client.post("/v1/embeddings", json={"model": "tiny", "input": ["a", "b"]})
        assert [d["embedding"] for d in answer.json()["data"]] == [[0.6, 0.8]] * 2
        assert len(it.service.pool.residents()) == 2


async def test_a_response_can_be_gone_on_from() -> None:
    async with served("--echo") as it:
        first = await it.client.post("/v1/responses", json={"model": "tiny", "input": "one"})
        number = first.json()["id"]
        body = {"model": "tiny", "input": "two words", "previous_response_id": number}
        second = await it.client.post("/v1/responses", json=body)
        assert second.json()["usage"]["input_tokens"] == 4  # "one", its echo, and two words
        assert (await it.client.get(f"/v1/responses/{number}")).json()["id"] == number
        assert (await it.client.delete(f"/v1/responses/{number}")).json()["deleted"]
        assert (await it.client.post("/v1/responses", json=body)).status_code == 404


async def test_an_unknown_model_is_a_404_in_each_dialect() -> None:
    turn = [{"role": "user", "content": "hi"}]
    async with served() as it:
        body = {"model": "gpt-4o", "messages": turn, "max_tokens": 3}
        openai = await it.client.post("/v1/chat/completions", json=body)
        assert (openai.status_code, openai.json()["error"]["code"]) == (404, "model_not_found")
        anthropic = await it.client.post("/v1/messages", json=body)
        assert anthropic.json()["error"]["type"] == "not_found_error"
        ollama = await it.client.post("/api/chat", json=body)
        assert ollama.status_code == 404
        assert isinstance(ollama.json()["error"], str)


async def test_a_file_cannot_be_named_from_outside() -> None:
    async with served() as it:
        for name in ("/etc/passwd", "./x.gguf", "~/x.gguf", "../../x.gguf", "x/../../y.gguf"):
            answer = await it.client.post(
                "/v1/chat/completions",
                json={"model": name, "messages": [{"role": "user", "content": "hi"}]},
            )
            assert answer.status_code in (400, 404), name


async def test_a_prompt_that_is_too_long_is_refused_with_both_counts() -> None:
    async with served() as it:
        await it.chat()
        context = it.service.pool.residents()[0].plan.context
        answer = await it.chat("word " * (context + 1))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert f"{context + 1:,}" in answer.text
        assert f"{context:,}" in answer.text


async def test_on_request_the_oldest_turns_are_left_out_and_that_is_said() -> None:
    async with served("--echo") as it:
        await it.chat()
        context = it.service.pool.residents()[0].plan.context
        turns = [{"role": "system", "content": "rule"}]
        for _ in range(3):
            turns += [
                {"role": "user", "content": "old " * (context // 2)},
                {"role": "assistant", "content": "yes"},
            ]
        turns.append({"role": "user", "content": "the question"})
        body = {"model": "tiny", "messages": turns, "truncation": "auto"}
        answer = await it.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "the question "
        assert answer.headers["x-snugly-left-out"].startswith("messages=4; tokens=")


async def test_every_request_is_in_the_history_without_its_words() -> None:
    async with served() as it:
        await it.chat("a secret word")
        await it.chat(model="nobody")
        path = it.service.config.history
    with opened(path) as db:
        refused, done = requests.recent(db)
    assert (done.outcome, done.status, done.dialect) == ("done", 200, "openai")
    assert (done.prompt_tokens, done.completion_tokens) == (3, 8)
    assert done.model == "test/tiny/tiny.gguf"
    assert done.ttft_ms is not None
    assert done.peak_bytes is not None
    assert (refused.outcome, refused.status) == ("refused", 404)
    assert b"secret" not in path.read_bytes()


async def test_words_are_kept_where_that_is_wanted() -> None:
    async with served(keep_prompts=True) as it:
        await it.chat("a secret word")
        path = it.service.config.history
    with opened(path) as db:
        (row,) = requests.recent(db)
    assert "a secret word" in str(row.prompt)
    assert row.answer == "word " * 8


async def test_health_metrics_and_the_document() -> None:
    async with served() as it:
        await it.chat()
        assert (await it.client.get("/health")).json() == {"status": "ok"}
        metrics = (await it.client.get("/metrics")).text
        assert 'snugly_requests_total{route="/v1/chat/completions",status="200"} 1' in metrics
        assert "snugly_models_loaded 1" in metrics
        document = (await it.client.get("/openapi.json")).json()
        assert "/v1/chat/completions" in document["paths"]


async def test_what_a_client_leaves_is_cancelled() -> None:
    async with served("--pieces", "1000", "--delay", "0.02") as it:
        async with it.asking() as answer:
            async for _ in answer.aiter_raw():
                break
        await eventually(lambda: it.service.admission.running == 0, 2.0)
        assert it.service.metrics.cancelled == 1


async def test_the_queue_is_bounded_and_says_when_to_come_again() -> None:
    async with served("--pieces", "5", "--delay", "0.05", serve_queue=2) as it:
        await it.chat()
        answers = await asyncio.gather(*(it.chat() for _ in range(8)))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(503) >= 5
        assert statuses.count(200) == 8 - statuses.count(503)
        full = next(answer for answer in answers if answer.status_code == 503)
        assert int(full.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/api/pull", "/api/delete", "/snugly/stop", "/models/load"])
async def test_what_changes_models_needs_the_token(path: str) -> None:
    async with served() as it:
        method = "DELETE" if path.endswith("delete") else "POST"
        body = json.dumps({"model": "tiny"})
        headers = {"content-type": "application/json"}
        answer = await it.client.request(method, path, content=body, headers=headers)
        assert answer.status_code == 401


async def test_load_and_stop_with_the_token() -> None:
    async with served() as it:
        key = {"authorization": f"Bearer {'t' * 43}"}
        await it.client.post("/snugly/load", json={"model": "tiny", "pin": True}, headers=key)
        loaded = (await it.client.get("/snugly/loaded", headers=key)).json()["models"]
        assert [(model["name"], model["pinned"]) for model in loaded] == [
            ("test/tiny/tiny.gguf", True)
        ]
        stopped = await it.client.post("/snugly/stop", json={}, headers=key)
        assert stopped.json() == {"stopped": ["test/tiny/tiny.gguf"]}
        assert it.service.pool.residents() == ()


async def test_a_model_made_for_vectors_writes_nothing() -> None:
    pooled = gguf_bytes((*LLAMA_PAIRS, u32_pair("llama.pooling_type", 3)))
    stock(settings().store, "vectors", data=pooled)
    async with served() as it:
        answer = await it.chat("hi", model="vectors")
        assert answer.status_code == 422
        assert "turns text into vectors" in answer.text
        assert it.service.pool.residents() == ()


async def test_a_model_without_a_scoring_head_ranks_nothing() -> None:
    async with served() as it:
        body = {"model": "tiny", "query": "a", "documents": ["b", "c"]}
        answer = await it.client.post("/v1/rerank", json=body)
        assert answer.status_code == 422
        assert "no scoring head" in answer.text
        assert it.service.pool.residents() == ()


async def test_an_endless_answer_ends_with_its_share_where_another_client_needs_room() -> None:
    async with served("--pieces", "1000000", serve_slots=2) as it:
        async with it.asking(stream_options={"include_usage": True}) as endless:
            text, other = "", None
            async for chunk in endless.aiter_text():
                text += chunk
                room = it.service.pool.residents()[0].plan.context
                if other is None and text.count("word ") > 0.6 * room:
                    other = asyncio.create_task(it.chat("me too", max_tokens=room // 8))
        assert other is not None
        found = [event for event in events(text) if event != "[DONE]"]
        ends = [c["finish_reason"] for e in found for c in e["choices"] if c["finish_reason"]]
        assert ends == ["length"]
        written = found[-1]["usage"]["completion_tokens"]
        assert found[-1]["usage"]["prompt_tokens"] == 2
        assert written == text.count("word ") <= room - room // 8
        assert (await other).status_code == 200
