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
from collections.abc import Callable, Sequence
from typing import Any

from snugly.errors import SnuglyError, UserError
from snugly.quantize.logits import Model, open_model
from snugly.quantize.measure_loss import COLUMNS, Chunk, cut, joined, losses
from snugly.quantize.sensitivity_run import calibrate

Say = Callable[[dict[str, Any]], None]


def compare(config: dict[str, Any], say: Say) -> None:
    """Both models on a text, chunk by chunk.

    `base`, `others`: models; `text`, `context`, `first`, `most`, `threads`. `exact`: all by
    numpy, if their build is known. `parts`: instead of `others`, for each list of names
    the first one with those tensors of the file `over`, both by numpy.
    """
    context, first = int(config["context"]), int(config["first"])
    threads = int(config["threads"])
    exact = bool(config["exact"])
    base = open_model(config["base"], context, threads, exact=exact)
    chunks = cut(base.tokens(config["text"]), context, config["most"])
    say({"chunks": len(chunks)})
    if not chunks:
        return
    if config.get("parts"):
        _parts(config, base, chunks, say)
        return
    others = [open_model(path, context, threads, exact=exact) for path in config["others"]]
    start = config["text"][:2000]
    if any(other.tokens(start) != base.tokens(start) for other in others):
        raise UserError(
            "The models cannot be compared: their tokenizers differ.",
            "They cut the same text into different tokens.",
            "Compare quantizations or fine-tunes of one model.",
        )
    for number, model in enumerate((base, *others) if exact else ()):
        model.read([_fed(base, tokens) for tokens in chunks])  # type: ignore[attr-defined]
        say({"read": number})
    for tokens in chunks:
        for number, found in enumerate(chunk_losses(base, others, tokens, first)):
            values = {name: getattr(found, name).tolist() for name in COLUMNS}
            say({"losses": values, "other": number})


def _parts(config: dict[str, Any], base: Model, chunks: list[list[int]], say: Say) -> None:
    """The mean KLD of each list of tensors alone, on the first chunk."""
    kept = [part.copy() for part in base.logits(_fed(base, chunks[0]), 0)]
    following = chunks[0][1:]
    for names in config["parts"]:
        other = open_model(config["base"], int(config["context"]), int(config["threads"]),
                           exact=True, over=config["over"], names=names)  # fmt: skip
        parts, at = [], 0
        pieces = other.logits(_fed(base, chunks[0]), 0)
        for mine, theirs in zip(kept, pieces, strict=True):
            parts.append(losses(mine, theirs, following[at : at + len(mine)]))
            at += len(mine)
        say({"kld": float(joined(parts).kld.mean())})
        other.close()


def _fed(model: Model, tokens: Sequence[int]) -> list[int]:
    return [model.bos, *tokens[1:]] if model.bos is not None else list(tokens)


def chunk_losses(
    base: Model, others: Sequence[Model], tokens: Sequence[int], first: int
) -> list[Chunk]:
    """One chunk, of each other model; the last place has no next token and does not count."""
    parts: list[list[Chunk]] = [[] for _ in others]
    at = first
    pieces = [model.logits(_fed(base, tokens), first) for model in (base, *others)]
    for mine, *theirs in zip(*pieces, strict=True):
        following = tokens[at + 1 : at + 1 + len(mine)]
        if following:
            for into, logits in zip(parts, theirs, strict=True):
                into.append(losses(mine, logits, following))
        at += len(mine)
    return [joined(found) for found in parts]


def checkpoint(config: dict[str, Any], say: Say) -> None:
    """A checkpoint of transformers; see `transformers_worker`, which needs an extra."""
    from snugly.quantize.transformers_worker import make

    make(config, say)


def ask(config: dict[str, Any], say: Say) -> None:
    """Answers of a checkpoint; see `transformers_worker`, which needs an extra."""
    from snugly.quantize import transformers_worker

    transformers_worker.ask(config, say)


TASKS: dict[str, Callable[[dict[str, Any], Say], None]] = {
    "compare": compare,
    "calibrate": calibrate,
    "checkpoint": checkpoint,
    "ask": ask,
}


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
