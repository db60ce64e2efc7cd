"""A worker that speaks the protocol of `snugly.engine.worker` and misbehaves on request.

    python tests/fake_engine.py [switches] PARENT_PID

    --ignore-term       SIGTERM does nothing
    --hang              accept the request, then never say a word
    --never-ready       never listen
    --crash-after N     abort after N pieces (0: while loading)
    --die-loading TEXT  print TEXT on stderr and exit with 1 while loading
    --nan               say the kind of thing that a model full of NaNs says, for ever
    --split-utf8        cut the stream's bytes inside characters and between surrogates
    --separators        put U+2028, U+0085 and CR LF into the answer
    --no-done           close the stream politely without finishing it
    --pieces N          length of the answer (default 8)
    --delay SECONDS     pause before each piece
    --words TEXT        what the answer consists of
    --echo              the answer is the last message, word by word
    --show-pictures     the answer names each picture's kind and the characters of its base64
    --load-seconds X    take so long to load
    --slots             save and restore slots: a file of --slots-bytes each (1 MiB)
    --most-context N    run out of memory while loading a longer one; half counts in q8_0
    --mark FILE         write a line into FILE for each start, end of an answer, and cancellation

The context is the plan's; a prompt of more words than that is refused as llama-server does.
"""

import argparse
import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

options = argparse.ArgumentParser()
options.add_argument("--ignore-term", action="store_true")
options.add_argument("--hang", action="store_true")
options.add_argument("--never-ready", action="store_true")
options.add_argument("--crash-after", type=int)
options.add_argument("--die-loading", default="")
options.add_argument("--nan", action="store_true")
options.add_argument("--split-utf8", action="store_true")
options.add_argument("--separators", action="store_true")
options.add_argument("--no-done", action="store_true")
options.add_argument("--pieces", type=int, default=8)
options.add_argument("--delay", type=float, default=0.0)
options.add_argument("--words", default="word ")
options.add_argument("--echo", action="store_true")
options.add_argument("--show-pictures", action="store_true")
options.add_argument("--load-seconds", type=float, default=0.0)
options.add_argument("--most-context", type=int, default=1 << 62)
options.add_argument("--slots", action="store_true")
options.add_argument("--slots-bytes", type=int, default=1 << 20)
options.add_argument("--mark", default="")
options.add_argument("parent", type=int)
switch = options.parse_args()


def crash() -> None:
    print("0.00.001.000 E ggml: GGML_ASSERT(fake != nullptr) failed", file=sys.stderr, flush=True)
    os.abort()


def mark(what: str) -> None:
    if switch.mark:
        with open(switch.mark, "a") as file:
            file.write(f"{what} {time.time()}\n")


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def pictures_of(messages: list[dict[str, Any]]) -> list[str]:
    parts = [p for m in messages if isinstance(m["content"], list) for p in m["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    heads = [url.removeprefix("data:").split(";base64,") for url in urls]
    return [f"{kind} {len(data)}" for kind, data in heads]


class Handler(BaseHTTPRequestHandler):
    context = 0
    slot_folder = ""
    held = 0  # tokens in the slot that was asked last

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "socket"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/apply-template":
            self.answer({"prompt": " ".join(text_of(m) for m in body["messages"])})
        elif self.path == "/tokenize":
            self.answer({"tokens": list(range(len(body["content"].split())))})
        elif self.path == "/v1/embeddings":
            data = [{"index": i, "embedding": [0.6, 0.8]} for i, _ in enumerate(body["input"])]
            self.answer({"data": data, "usage": {"prompt_tokens": len(data)}})
        elif self.path == "/v1/rerank":
            found = [{"index": i, "relevance_score": 0.5} for i, _ in enumerate(body["documents"])]
            self.answer({"results": found, "usage": {"prompt_tokens": len(found)}})
        elif self.path.startswith("/slots/") and switch.slots:
            if self.path.endswith("action=save"):
                with open(os.path.join(Handler.slot_folder, body["filename"]), "wb") as file:
                    file.write(bytes(switch.slots_bytes))
            self.answer({"n_saved": Handler.held, "n_restored": Handler.held})
        elif self.path == "/detokenize":
            self.answer({"content": " ".join("word" for _ in body["tokens"])})
        else:
            try:
                (self.complete if self.path == "/completion" else self.chat)(body)
                mark("end")
            except (BrokenPipeError, ConnectionResetError):
                mark("cancelled")

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def chat(self, body: dict[str, Any]) -> None:
        n_prompt = sum(len(text_of(message).split()) for message in body["messages"])
        if n_prompt >= self.context:
            error = {
                "code": 400,
                "message": "request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": n_prompt,
                "n_ctx": self.context,
            }
            return self.answer({"error": error}, 400)
        if switch.hang:
            time.sleep(3600)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        words, count = self.words(), switch.pieces
        if switch.echo:
            said = text_of(body["messages"][-1]).split(" ")
            words, count = (lambda index: said[index] + " "), len(said)
        if switch.show_pictures:
            said = pictures_of(body["messages"])
            words, count = (lambda index: said[index] + " "), len(said)
        for index in range(10**9 if switch.nan else count):
            if switch.crash_after is not None and index >= switch.crash_after:
                crash()
            time.sleep(switch.delay)
            self.event({"choices": [{"delta": {"content": words(index)}, "finish_reason": None}]})
        if switch.no_done:
            return None
        Handler.held = n_prompt + count
        self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self.event(
            {
                "choices": [],
                "usage": {"prompt_tokens": n_prompt, "completion_tokens": count},
                "timings": {
                    "cache_n": 0,
                    "prompt_ms": 10.0,
                    "predicted_ms": 100.0,
                    "prompt_per_second": 100.0 * n_prompt,
                    "predicted_per_second": 10.0 * switch.pieces,
                },
            }
        )
        self.wfile.write(b"data: [DONE]\n\n")
        return None

    def complete(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(switch.pieces):
            time.sleep(switch.delay)
            self.event({"content": switch.words, "stop": False, "tokens": [7]})
        timings = {"cache_n": 0, "prompt_ms": 1.0, "predicted_ms": 1.0}
        last = {"content": "", "stop": True, "stop_type": "eos", "timings": timings}
        self.event(last | {"tokens_evaluated": 1, "tokens_predicted": switch.pieces})

    def words(self) -> Any:
        if switch.nan:
            return lambda _: "@@@@"
        if switch.split_utf8:
            halves = ["\ud83d", "\ude00", "é", "\u4e2d", "\ud83d", "\udc4d", "\U0001f600", "!"]
            return lambda index: halves[index % len(halves)]
        if switch.separators:
            return lambda index: ["a\u2028b", "c\u0085d", "e\r\nf", "g\x1bh"][index % 4]
        return lambda _: switch.words

    def event(self, value: Any) -> None:
        # Lone surrogates can only be sent as escapes, everything else goes out raw.
        text = json.dumps(value, ensure_ascii=False)
        text = "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
        data = b"data: " + text.encode() + b"\n\n"
        pieces = [data[i : i + 1] for i in range(len(data))] if switch.split_utf8 else [data]
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()


class SocketServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 256


class PortServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def watch_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    if switch.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=watch_parent, daemon=True).start()
    if switch.crash_after == 0:
        crash()
    if switch.die_loading:
        print(switch.die_loading, file=sys.stderr, flush=True)
        sys.exit(1)
    time.sleep(switch.load_seconds)
    share = 1.0 if config.get("kv_type", "F16") == "F16" else 0.5
    if config["context"] * share > switch.most_context:
        print("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate", file=sys.stderr)
        sys.exit(1)
    mark("start")
    if switch.never_ready:
        time.sleep(3600)
    Handler.context, Handler.slot_folder = config["context"], config.get("slot_folder", "")
    server = (
        SocketServer(config["socket"], Handler)
        if config["socket"]
        else PortServer(("127.0.0.1", config["port"]), Handler)
    )
    print(json.dumps({"event": "listening"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
