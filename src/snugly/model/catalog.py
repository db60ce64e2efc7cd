"""Models that have a short name: `smollm2`, `qwen2.5-coder:1.5b`. Facts are in catalog.toml."""

import difflib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from snugly.model.types import Attention, AttentionKind


@dataclass(frozen=True, slots=True)
class Entry:
    """One size of one family, with what planning needs before anything is downloaded."""

    name: str
    tag: str
    default: bool  # answers to `name` alone
    source: str  # "hub" or "pypi"
    repository: str  # publisher/model
    file: str  # fnmatch pattern of this model's files in the repository
    quantization: str  # fetched when none is named
    n_params: int
    licence: str
    tasks: tuple[str, ...]
    layers: int
    kv_heads: int
    head_dim: int
    context_train: int
    file_bytes: int | None = None  # of the default quantization; None where no list states it
    window: int | None = None
    full_every: int = 1
    temperature: float | None = None  # what the model's card recommends
    repeat_penalty: float | None = None  # where answers were seen to loop without one

    @property
    def alias(self) -> str:
        """The shortest name that means this entry."""
        return self.name if self.default else f"{self.name}:{self.tag}"

    @property
    def attention(self) -> tuple[Attention, ...]:
        """How each layer attends, as in `ModelSpec.layers`, so that the same sums apply.

        In Gemma 2, Gemma 3 and gpt-oss each n-th layer is the one that keeps everything
        (llama.cpp src/llama-model.cpp, `set_swa_pattern`).
        """
        return tuple(
            Attention(
                AttentionKind.SLIDING, self.kv_heads, self.head_dim, self.head_dim, self.window
            )
            if self.window is not None and (index + 1) % self.full_every
            else Attention(AttentionKind.FULL, self.kv_heads, self.head_dim, self.head_dim)
            for index in range(self.layers)
        )


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All entries, families in the order of the file, sizes ascending."""
    text = resources.files("snugly.model").joinpath("catalog.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["model"]
    return tuple(Entry(**{"default": False, **row, "tasks": tuple(row["tasks"])}) for row in rows)


def lookup(name: str, tag: str = "") -> tuple[Entry, str] | None:
    """The entry and the quantization ("" for its default) that `name:tag` means.

    `qwen2.5-coder`, `qwen2.5-coder:1.5b`, `qwen2.5-coder:1.5b-q8_0`, Ollama's
    `qwen2.5-coder:1.5b-instruct-q8_0` and `qwen2.5-coder:q8_0` are all understood.
    """
    family = [entry for entry in entries() if entry.name == name.lower()]
    if not family:
        return None
    default = next((entry for entry in family if entry.default), family[0])
    wanted = "" if tag.lower() == "latest" else tag.lower()
    for entry in sorted(family, key=lambda entry: -len(entry.tag)):
        if wanted == entry.tag or wanted.startswith(entry.tag + "-"):
            rest = re.sub(r"^-?(instruct|chat|it)(-|$)", "", wanted[len(entry.tag) :].lstrip("-"))
            return entry, rest.upper()
    if re.fullmatch(r"|(ud-)?(i?q|tq)\d.*|b?f16|f32|mxfp4", wanted):
        return default, wanted.upper()
    return None


def of_repository(repository: str, file: str) -> Entry | None:
    """The entry that a stored `publisher/model` and file belong to."""
    import fnmatch

    for entry in entries():
        if entry.repository.lower() == repository.lower() and fnmatch.fnmatch(
            file.lower(), entry.file.lower()
        ):
            return entry
    return None


def aliases() -> tuple[str, ...]:
    """Every name that `pull` understands without a publisher."""
    full = [f"{entry.name}:{entry.tag}" for entry in entries()]
    return tuple(sorted({entry.name for entry in entries()} | set(full)))


def suggest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Up to three of `known` that look like `name`, best first."""
    by_key = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower()
    near = difflib.get_close_matches(wanted, by_key, n=3, cutoff=0.6)
    near += [key for key in sorted(by_key) if wanted in key and len(wanted) >= 3]
    near += difflib.get_close_matches(wanted.split(":")[0], by_key, n=3, cutoff=0.6)
    return tuple(by_key[key] for key in dict.fromkeys(near))[:3]
