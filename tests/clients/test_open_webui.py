"""Open WebUI's calls, replayed against `snugly serve` and the real engine.

The list is read from its source: backend/open_webui/routers/ollama.py and openai.py
(open-webui/open-webui, stored versions 0007ff33 and 004a45f5). It runs no code of Open WebUI,
which is a package of 4 GB.
"""

import json
import re
from datetime import datetime
from typing import Any

from tests.clients.conftest import CHAT, ENCODER, Server
from tests.clients.test_plain_engine import ask, events, raw

NAME = f"{CHAT}:latest"


def lines(server: Server, path: str, body: Any) -> list[Any]:
    status, data = raw(server, path, body)
    assert status == 200, data
    return [json.loads(line) for line in data.splitlines()]


def test_the_ollama_connection(server: Server) -> None:
    version = ask(server, "/api/version")["version"]
    # It compares versions this way, and fails on anything else.
    tuple(map(int, re.sub(r"^v|-.*", "", version).split(".")))
    listed = {model["model"]: model for model in ask(server, "/api/tags")["models"]}
    assert NAME in listed  # it puts `:latest` behind names without a tag
    loaded = ask(server, "/api/ps")["models"]
    for model in loaded:
        assert model["name"] in listed
        datetime.fromisoformat(model["expires_at"]).timestamp()
    shown = ask(server, "/api/show", {"model": NAME, "name": NAME})
    assert shown["details"]["family"] == "llama"


def test_an_ollama_chat_in_pieces_with_a_title_after_it(server: Server) -> None:
    options = {"temperature": 0.0, "num_predict": 12, "num_ctx": 4096, "stop": ["\n\n"]}
    body = {
        "model": NAME,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "options": options,
        "stream": True,
        "keep_alive": "5m",
    }
    pieces = lines(server, "/api/chat", body)
    assert pieces[-1]["done"]
    assert pieces[-1]["eval_count"] > 0
    assert "".join(piece["message"]["content"] for piece in pieces)
    assert pieces[0]["model"] == NAME
    title = ask(server, "/api/generate", {"model": NAME, "prompt": "Hi", "stream": False,
                                          "options": options})  # fmt: skip
    assert title["response"]


def test_ollama_vectors(server: Server) -> None:
    name = f"{ENCODER}:latest"
    found = ask(server, "/api/embed", {"model": name, "input": ["a", "b"], "truncate": True})
    assert len(found["embeddings"]) == 2
    assert ask(server, "/api/embeddings", {"model": name, "prompt": "a"})["embedding"]


def test_a_model_is_unloaded_by_its_button(server: Server) -> None:
    body = {"model": f"{ENCODER}:latest", "keep_alive": 0, "prompt": ""}
    status, data = raw(server, "/api/generate", body)
    assert status == 200, data
    assert json.loads(data.splitlines()[-1])["done"]


def test_the_openai_connection(server: Server) -> None:
    names = [model["id"] for model in ask(server, "/v1/models")["data"]]
    assert CHAT in names
    body = {
        "model": CHAT, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0.0,
    }  # fmt: skip
    found = events(server, "/v1/chat/completions", body)
    assert found[-1]["usage"]["completion_tokens"] > 0
    vectors = ask(server, "/v1/embeddings", {"model": ENCODER, "input": ["a", "b"]})
    assert len(vectors["data"]) == 2


def test_what_changes_models_asks_for_the_token(server: Server) -> None:
    for path in ("/models/load", "/models/unload", "/api/pull", "/api/copy", "/api/create"):
        assert raw(server, path, {"model": CHAT})[0] == 401, path
    assert raw(server, "/api/delete", {"model": CHAT}, "DELETE")[0] == 401
