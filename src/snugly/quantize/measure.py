"""How much a model loses against another: both are run side by side on the same text."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from snugly.errors import UserError
from snugly.quantize.jobs_pool import usable_threads
from snugly.quantize.measure_loss import COLUMNS, Chunk, Loss, loss_of
from snugly.quantize.measure_process import answers
from snugly.quantize.reader import read_gguf

CONTEXT = 512  # tokens of a chunk; llama-perplexity's own default
Watch = Callable[[int, int, str], None]  # (chunks done, of how many, what)
# What makes two tokenizers one. Scores and special tokens may be written by another converter.
_TOKENIZER_KEYS = ("tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and what to call it."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of its UTF-8 bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def bundled(purpose: str) -> Text:
    """A text that comes with Snugly: "calibration" or "evaluation", which share nothing.

    Prose in many languages and code, with its sources in quantize/data/README.md.
    """
    folder = resources.files("snugly.quantize") / "data" / purpose
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".txt")),
                   key=lambda item: item.name)  # fmt: skip
    return Text(f"bundled {purpose} text", "\n".join(f.read_text("utf-8") for f in files))


def read_texts(paths: Sequence[str]) -> Text:
    """Files of text after each other.

    Raises: UserError for one that cannot be read or is no text.
    """
    pieces = []
    for path in paths:
        try:
            pieces.append(Path(path).expanduser().read_bytes().decode("utf-8"))
        except OSError as error:
            raise UserError(f"{path} cannot be read.", f"{error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is no text.", f"It is not UTF-8 at byte {error.start}.",
                "Give plain text or code.",
            ) from error  # fmt: skip
    return Text(", ".join(os.path.basename(path) for path in paths), "\n".join(pieces))


def measure(base: str, other: str, text: Text, **how: Any) -> Loss:
    """What `other` loses against `base` on a text; see `measure_all`."""
    return measure_all(base, (other,), text, **how)[0]


def measure_all(
    base: str,
    others: Sequence[str],
    text: Text,
    *,
    context: int = CONTEXT,
    most: int = 0,
    threads: int | None = None,
    watch: Watch | None = None,
    exact: bool = False,
) -> list[Loss]:
    """What each of `others` loses against `base` on a text: GGUF files or checkpoint folders.

    The text is cut into chunks of `context` tokens (`most` of them, spread over it; 0: all),
    and the second half of each counts, as in llama-perplexity: what comes first has too
    little before it. `exact` computes all of them by numpy in single precision, which on a
    processor is faster than llama.cpp, without its rounding of what comes in to 8 bits, and
    known for Llama's build alone. Memory: all the
    models, and some 100 MB.

    Raises: UserError when the tokenizers differ or the text is too short, BadModelFile,
    EngineError.
    """
    for other in others:
        check_tokenizers(base, other)
    if context < 4:
        raise UserError("The context is too short.", "", "Give at least 4 tokens.")
    config = {
        "task": "compare", "base": base, "others": list(others), "text": text.text,
        "context": context, "first": context // 2, "most": most,
        "threads": threads or usable_threads(), "exact": exact,
    }  # fmt: skip
    found: list[list[Chunk]] = [[] for _ in others]
    total = 0
    for answer in answers(config):
        if "chunks" in answer:
            total = int(answer["chunks"])
            if not total:
                raise UserError(
                    f"The text is too short: {text.name}.",
                    f"It has fewer than {context} tokens.",
                    "Give more of it, or a smaller --context.",
                )
        elif "losses" in answer:
            values = answer["losses"]
            found[answer["other"]].append(Chunk(*(np.array(values[name]) for name in COLUMNS)))
        if watch:
            watch(len(found[-1]), total, "measuring")
    return [loss_of(chunks, first=context // 2) for chunks in found]


def check_tokenizers(base: str, other: str) -> None:
    """Raise UserError when two GGUF files cut text differently.

    For checkpoints the process that runs them compares what becomes of the text itself.
    """
    if os.path.isdir(base) or os.path.isdir(other):
        return
    pairs = read_gguf(base).pairs, read_gguf(other).pairs
    for key in _TOKENIZER_KEYS:
        if pairs[0].get(key) != pairs[1].get(key):
            raise UserError(
                "The two models cannot be compared: their tokenizers differ.",
                f"{key} is not the same in {os.path.basename(base)} and {os.path.basename(other)}.",
                "Compare quantizations or fine-tunes of one model.",
            )
