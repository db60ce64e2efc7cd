"""The process that scores prompts: `python -m snugly.engine.prompt_logprobs_worker PARENT_PID`.

The protocol is that of `snugly.engine.worker`: a line of configuration on stdin, a line on
stdout when it listens, and the end of stdin means that the parent is gone. One route, POST
/score, one request at a time; the answer is a line of JSON per batch, so that the caller
sees that it lives, and its end is the connection's.
"""

import hmac
import json
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from snugly.engine.prompt_logprobs_model import Place, PromptModel
from snugly.engine.worker import die_with_parent, watch_parent
from snugly.errors import SnuglyError, UserError

ROUTE = "/score"


def main() -> None:
    """Load one model and score prompts until told to stop or until the parent is gone."""
    die_with_parent(int(sys.argv[1]))
    config = json.loads(sys.stdin.buffer.readline())
    answer = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=watch_parent, args=(config["socket"],), daemon=True).start()
    try:
        Handler.model = PromptModel(config)
    except SnuglyError as error:
        print(f"{error.problem} {error.because}", file=sys.stderr, flush=True)
        os._exit(1)
    Handler.key = config["key"]
    server: socketserver.BaseServer
    if config["socket"]:
        server = socketserver.UnixStreamServer(config["socket"], Handler)
    else:
        server = socketserver.TCPServer(("127.0.0.1", config["port"]), Handler)
    os.write(answer, b'{"event": "listening"}\n')
    os.close(answer)
    server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    """One request: {"prompt": text or ids, "special": whether marks count, "top": a number}."""

    model: ClassVar[PromptModel]
    key: ClassVar[str] = ""
    timeout = 60  # for a request to arrive

    def do_POST(self) -> None:
        """Score a prompt."""
        try:
            given = self.headers.get("Authorization", "")
            if self.key and not hmac.compare_digest(given, f"Bearer {self.key}"):
                return self.refuse(401, "authentication_error", "The key is wrong.")
            if self.path != ROUTE:
                return self.refuse(404, "not_found_error", "There is only /score.")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.score(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has left
        return None

    def score(self, body: dict[str, Any]) -> None:
        """Answer line by line; what fails after the first line is a line of its own."""
        model, prompt = self.model, body["prompt"]
        try:
            if isinstance(prompt, str):
                prompt = model.tokens(prompt, body["special"])
            model.check(prompt)
        except UserError as error:
            return self.refuse(400, "invalid_request_error", f"{error.problem} {error.because}")
        if len(prompt) > model.context:
            return self.refuse(
                400, "exceed_context_size_error", "The prompt is too long.",
                n_prompt_tokens=len(prompt), n_ctx=model.context,
            )  # fmt: skip
        if not prompt:
            return self.refuse(400, "invalid_request_error", "The prompt has no tokens.")
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        try:
            last: list[Place] = []
            for places in model.places(prompt, body["top"]):
                self.line({"places": [self.entry(place) for place in last + places[:-1]]})
                last = places[-1:]
        except SnuglyError as error:
            return self.line({"error": {"message": f"{error.problem} {error.because}"}})
        (following,) = last
        return self.line(
            {
                "next": self.entry(following),
                "ends": model.ends(following.token),
                "tokens": len(prompt),
                "cached": model.cached,
            }
        )

    def entry(self, place: Place) -> list[Any]:
        """[id, bytes as Latin-1, log probability, the same of the alternatives]."""
        top = [[token, self.text(token), logprob] for token, logprob in place.top]
        return [place.token, self.text(place.token), place.logprob, top]

    def text(self, token: int) -> str:
        """A token's bytes, each as one character."""
        return self.model.piece(token).decode("latin-1")

    def line(self, value: Any) -> None:
        """Send one line."""
        self.wfile.write(json.dumps(value).encode() + b"\n")

    def refuse(self, status: int, kind: str, message: str, **more: int) -> None:
        """Answer as llama-server refuses."""
        body = {"error": {"code": status, "type": kind, "message": message, **more}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: prompts are nobody's business."""


if __name__ == "__main__":
    main()
