"""A loopback server that speaks every dialect with made-up answers, and writes down requests.

    python tests/scripted_server.py PORT [RECORD.jsonl]

No model runs: words come out as they are written here, a tool is called when one is offered
and no result stands in the conversation yet. This is how the bodies in tests/golden/clients
were recorded, and how answers are shown to real clients without an engine.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from snugly.chat.answer import gather
from snugly.chat.requests import (
    CompletionRequest,
    Embeddings,
    InfillRequest,
    LoadRequest,
    Ranked,
    Ranking,
)
from snugly.chat.types import ChatRequest, Delta, Generation, TokenLogprob, ToolCallPiece, Usage
from snugly.errors import SnuglyError
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
    HttpFault,
    anthropic_error,
    headers_of,
    ollama_error,
    openai_error,
    status_of,
)
from snugly.server.dialects.reading import parse
from snugly.server.dialects.sending import dump
from snugly.server.dialects.types import Loaded, ModelCard, Reply, Writer

USAGE = Usage(20, 5, 8, 12.5, 40.0, 960.0, 125.0)
REPLY = Reply("a1b2c3", "snug", 1795154210.25, load_ms=3.0)
CARD = ModelCard(
    "snug", "snugly", 4_900_000_000, 1795154210.0, "ab" * 32, "llama", 8_030_261_248, "Q4_K_M",
    131072, 4096, ("completion", "tools", "insert", "thinking"), "{{ messages }}", "mit",
    {"llama.block_count": 32}, {"bos": "<s>", "eos": "</s>"},
    Loaded(8192, 6_000_000_000, 0, 1795154510.0),
)  # fmt: skip
Answered = tuple[Any, Writer | None, Iterator[Delta]]


def value_for(schema: Mapping[str, Any]) -> Any:
    """A value of a schema's type: what a model might write as an argument."""
    if "enum" in schema:
        return schema["enum"][0]
    plain: dict[str, Any] = {
        "string": "ls", "number": 1, "integer": 1, "boolean": True, "array": [], "null": None,
    }  # fmt: skip
    if schema.get("type") == "object" or "properties" in schema:
        needed = schema.get("required") or []
        return {name: value_for(schema["properties"].get(name, {})) for name in needed}
    kind = schema.get("type", "string")
    return plain.get(kind if isinstance(kind, str) else kind[0], "ls")


def deltas(request: Generation, prompt: str = "") -> Iterator[Delta]:
    """Made-up pieces of an answer."""
    for choice in range(request.n):
        if isinstance(request, ChatRequest):
            wanted = [t for t in request.tools if "skip" not in t.name]
            fresh = all(m.role != "tool" for m in request.messages)
            if wanted and fresh and request.tool_choice.mode != "none" and not request.schema:
                yield Delta(reasoning="A tool will help.", choice=choice)
                for index, tool in enumerate(wanted[:2]):
                    name, text = tool.name, json.dumps(value_for(tool.parameters))
                    yield Delta(
                        tool_calls=(ToolCallPiece(index, f"call{index}", name, text[:3]),),
                        choice=choice,
                    )
                    yield Delta(
                        tool_calls=(ToolCallPiece(index, arguments=text[3:]),), choice=choice
                    )
                yield Delta(finish_reason="tool_calls", choice=choice)
                yield Delta(usage=USAGE, choice=choice)
                continue
        words = ["Hello", " wörld", "\u2028", "😀!"]
        if request.schema is not None:
            words = [json.dumps(value_for(request.schema))]
        for word in words:
            token = TokenLogprob(word, -0.25, word.encode(), 7)
            other = TokenLogprob("other", -1.5, b"other", 8)
            told = (
                TokenLogprob(word, -0.25, word.encode(), 7, (token, other)[: request.logprobs]),
            )
            yield Delta(
                text=word, choice=choice, logprobs=told if request.logprobs is not None else ()
            )
        yield Delta(finish_reason="stop", choice=choice)
        yield Delta(usage=USAGE, choice=choice)


def chat(body: Mapping[str, Any]) -> Answered:
    request = openai_chat.read(body)
    if request.stream:
        return (
            None,
            openai_chat.ChatWriter(REPLY, request.n, request.include_usage),
            deltas(request),
        )
    return openai_chat.write(REPLY, gather(deltas(request))), None, iter(())


def completions(body: Mapping[str, Any]) -> Answered:
    request = openai_completions.read(body)
    count = len(request.prompts) * request.n if isinstance(request, CompletionRequest) else 1
    if request.stream:
        writer = openai_completions.CompletionWriter(REPLY, count, request.n, request.include_usage)
        return None, writer, deltas(request)
    answers = gather(deltas(request)) * (count // request.n)
    return openai_completions.write(REPLY, answers, request.n), None, iter(())


def responses(body: Mapping[str, Any]) -> Answered:
    asked = openai_responses.read(body)
    if asked.request.stream:
        return None, openai_responses.ResponseWriter(REPLY, asked), deltas(asked.request)
    answer = gather(deltas(asked.request))[0]
    return openai_responses.write(REPLY, asked, answer), None, iter(())


def messages(body: Mapping[str, Any]) -> Answered:
    request = anthropic.read(body)
    if request.stream:
        return None, anthropic.MessageWriter(REPLY, 20), deltas(request)
    return anthropic.write(REPLY, gather(deltas(request))[0]), None, iter(())


def count(body: Mapping[str, Any]) -> Answered:
    anthropic.read(body)
    return anthropic.write_count(20), None, iter(())


def ollama_chat(body: Mapping[str, Any]) -> Answered:
    request = ollama.read_chat(body)
    if isinstance(request, LoadRequest):
        return ollama.write_loaded(REPLY, True, request.keep_alive == 0), None, iter(())
    if request.stream:
        return None, ollama.ChatWriter(REPLY), deltas(request)
    return ollama.write_chat(REPLY, gather(deltas(request))[0]), None, iter(())


def generate(body: Mapping[str, Any]) -> Answered:
    request = ollama.read_generate(body)
    if isinstance(request, LoadRequest):
        return ollama.write_loaded(REPLY, False, request.keep_alive == 0), None, iter(())
    if request.stream:
        return None, ollama.GenerateWriter(REPLY), deltas(request)
    return ollama.write_generate(REPLY, gather(deltas(request))[0]), None, iter(())


def raw(request: CompletionRequest | InfillRequest, wanted: tuple[str, ...]) -> Answered:
    if request.stream:
        return None, llamacpp.RawWriter(REPLY, wanted), deltas(request)
    return llamacpp.write(REPLY, gather(deltas(request))[0], wanted), None, iter(())


def fill(body: Mapping[str, Any]) -> Answered:
    request = fim.read(body)
    if request.stream:
        return None, fim.FimWriter(REPLY), deltas(request)
    return fim.write(REPLY, gather(deltas(request))), None, iter(())


def vectors(n: int) -> Embeddings:
    return Embeddings(tuple((0.6, 0.8, float(index)) for index in range(n)), 5 * n)


def embeddings(body: Mapping[str, Any]) -> Answered:
    request = openai_embeddings.read(body)
    found = vectors(len(request.inputs))
    return openai_embeddings.write(REPLY, found, request.base64), None, iter(())


def ranked(body: Mapping[str, Any]) -> Answered:
    request = rerank.read(body)
    items = tuple(Ranked(i, float(i)) for i in range(len(request.documents)))
    return rerank.write(REPLY, request, Ranking(items, 9)), None, iter(())


POST: dict[str, Callable[[Mapping[str, Any]], Answered]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/messages": messages,
    "/v1/messages/count_tokens": count,
    "/v1/embeddings": embeddings,
    "/v1/rerank": ranked,
    "/v1/fim/completions": fill,
    "/api/chat": ollama_chat,
    "/api/generate": generate,
    "/api/embed": lambda body: (
        ollama.write_embed(REPLY, vectors(len(ollama.read_embed(body).inputs))), None, iter(()),
    ),
    "/api/embeddings": lambda body: (
        ollama.write_embeddings(vectors(len(ollama.read_embed(body).inputs))), None, iter(()),
    ),
    "/api/show": lambda body: (
        ollama_models.read_name(body) and models.ollama_show(CARD), None, iter(()),
    ),
    "/completion": lambda body: raw(
        llamacpp.read_completion(body), llamacpp.response_fields(body)
    ),
    "/infill": lambda body: raw(llamacpp.read_infill(body), llamacpp.response_fields(body)),
    "/tokenize": lambda body: (
        llamacpp.write_tokenize([ord(c) for c in llamacpp.read_tokenize(body).text]),
        None,
        iter(()),
    ),
    "/detokenize": lambda body: (
        llamacpp.write_detokenize("".join(map(chr, llamacpp.read_detokenize(body).tokens))),
        None,
        iter(()),
    ),
}  # fmt: skip
GET: dict[str, Callable[[], Any]] = {
    "/v1/models": lambda: models.openai_models([CARD]),
    "/api/tags": lambda: models.ollama_tags([CARD]),
    "/api/ps": lambda: models.ollama_ps([CARD]),
    "/api/version": ollama_models.write_version,
    "/api/v0/models": lambda: models.lmstudio_v0([CARD]),
    "/api/v1/models": lambda: models.lmstudio_v1([CARD]),
    "/tokenizer_info": lambda: llamacpp.write_tokenizer_info(CARD),
    "/props": lambda: llamacpp.write_props(CARD),
}


class Handler(BaseHTTPRequestHandler):
    record = ""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.note(path, None)
        if path in GET:
            return self.send(200, dump(GET[path]()))
        return self.send(404, dump({"error": "not here"}))

    def do_HEAD(self) -> None:
        self.send(200, b"")

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = parse(data)
            self.note(path, body)
            if path not in POST:
                raise HttpFault(404, f"`{path}` is not here.")
            whole, writer, pieces = POST[path](body)
        except SnuglyError as error:
            print("refused:", path, error, file=sys.stderr, flush=True)
            return self.send(status_of(error), dump(self.error(path, error)), headers_of(error))
        if writer is None:
            return self.send(200, dump(whole))
        self.send_response(200)
        self.send_header("Content-Type", writer.media_type)
        self.end_headers()
        for chunk in writer.start():
            self.wfile.write(chunk)
        for piece in pieces:
            for chunk in writer.feed(piece):
                self.wfile.write(chunk)
        self.wfile.write(writer.ping())
        for chunk in writer.end():
            self.wfile.write(chunk)
        return None

    def error(self, path: str, error: SnuglyError) -> Any:
        if path.startswith("/v1/messages"):
            return anthropic_error(error)
        return ollama_error(error) if path.startswith("/api/") else openai_error(error)

    def send(self, status: int, data: bytes, headers: Mapping[str, str] = {}) -> None:  # noqa: B006
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def note(self, path: str, body: Any) -> None:
        if self.record:
            agent = self.headers.get("User-Agent", "")
            entry = {"path": path, "agent": agent, "body": body}
            with open(self.record, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    Handler.record = sys.argv[2] if len(sys.argv) > 2 else ""
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
