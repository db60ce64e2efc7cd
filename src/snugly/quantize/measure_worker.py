"""The process that runs models for measuring: `python -P -m snugly.quantize.measure_worker`.

It reads one line of JSON on stdin, which names a task, and answers in lines of JSON on stdout;
the last has `end` or `failed`. Two models are asked place by place side by side, and only what
was lost at each place leaves the process: no file of logits is ever written. llama.cpp ends a
process on what it does not like, so it lives here. The end of stdin is the end of the process.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from snugly.errors import SnuglyError, UserError
from snugly.quantize.logits import Model, open_model
from snugly.quantize.measure_loss import COLUMNS, Chunk, joined, losses

Say = Callable[[dict[str, Any]], None]


def compare(config: dict[str, Any], say: Say) -> None:
    """Both models on a text, chunk by chunk.

    `base`, `other`: models; `text` or `chunks` (tokens); `context`, `first`, `most`, `threads`.
    """
    context, first = int(config["context"]), int(config["first"])
    base = open_model(config["base"], context, config["threads"])
    chunks = config.get("chunks") or cut(base.tokens(config["text"]), context, config["most"])
    say({"chunks": len(chunks), "bos": base.bos})
    if not chunks:
        return
    other = open_model(config["other"], context, config["threads"])
    if other.tokens(config["text"][:2000]) != base.tokens(config["text"][:2000]):
        raise UserError(
            "The two models cannot be compared: their tokenizers differ.",
            "They cut the same text into different tokens.",
            "Compare quantizations or fine-tunes of one model.",
        )
    for tokens in chunks:
        found = chunk_loss(base, other, tokens, first)
        say({"losses": {name: getattr(found, name).tolist() for name in COLUMNS}})


def chunk_loss(base: Model, other: Model, tokens: Sequence[int], first: int) -> Chunk:
    """One chunk; the last place has no next token and does not count."""
    fed = [base.bos, *tokens[1:]] if base.bos is not None else tokens
    parts, at = [], first
    for mine, theirs in zip(base.logits(fed, first), other.logits(fed, first), strict=True):
        following = tokens[at + 1 : at + 1 + len(mine)]
        if following:
            parts.append(losses(mine, theirs, following))
        at += len(mine)
    return joined(parts)


def cut(tokens: Sequence[int], context: int, most: int) -> list[list[int]]:
    """Whole chunks of `context` tokens; `most` of them, spread over the text (0: all)."""
    count = len(tokens) // context
    picked: Iterator[int] = iter(range(count))
    if most and count > most:
        picked = (round(i * (count - 1) / max(most - 1, 1)) for i in range(most))
    return [list(tokens[i * context : (i + 1) * context]) for i in picked]


TASKS: dict[str, Callable[[dict[str, Any], Say], None]] = {"compare": compare}


def main() -> None:
    """Do the task on stdin."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer

    def say(line: dict[str, Any]) -> None:
        raw = json.dumps(line).encode() + b"\n"
        while raw:
            raw = raw[os.write(answer, raw) :]

    config = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        TASKS[config["task"]](config, say)
        say({"end": True})
    except SnuglyError as error:
        say({"failed": type(error).__name__, "problem": error.problem,
             "because": error.because, "remedy": error.remedy})  # fmt: skip
    except MemoryError:
        say({"failed": "EngineError", "problem": "Memory ran out.", "because": "",
             "remedy": "Stop other programs, or compare smaller files."})  # fmt: skip
    os._exit(0)  # threads of the library need no end


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
