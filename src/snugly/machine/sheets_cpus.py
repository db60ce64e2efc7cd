"""Data sheets of processors: what memory a family reads, what its cores compute, its models.

Families are in sheets_cpus.csv, models in sheets_cpu_models.csv. Rates are peaks: every core at
its highest clock, every lane of its widest unit busy.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# What a processor of each kind can do, names as in `cpu.INSTRUCTIONS`.
_AVX2 = ("avx", "avx2", "fma", "f16c", "bmi2")
_NEON = ("neon", "fp16", "dotprod")
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "sse": (),
    "avx": ("avx",),
    "avx2": _AVX2,
    "avx_vnni": (*_AVX2, "avx_vnni"),
    "avx512f": (*_AVX2, "avx512f"),
    "avx512": (*_AVX2, "avx512f", "avx512_vnni"),
    "amx": (*_AVX2, "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx"),
    "arm": ("neon",),
    "arm_dot": _NEON,
    "arm_i8mm": (*_NEON, "i8mm", "bf16"),
}

_BRANDS = {"ryzen", "ai", "threadripper", "epyc", "core", "ultra", "xeon", "snapdragon"}


class Family(NamedTuple):
    """Processors that share memory channels and the width of their cores."""

    label: str
    memory: str  # "DDR4-3200"
    channels: int  # of 64 bits
    bandwidth_bytes_per_s: float  # of one socket
    f32_per_clock: int  # operations of a fast core
    saving_f32_per_clock: int
    isa: str  # key of INSTRUCTION_SETS
    kind: str  # "desktop", "laptop", "mini", "server", "phone"


class Model(NamedTuple):
    """One processor as sold. Clocks are Hz; `graphics` names the GPU inside."""

    name: str
    cores: int
    threads: int
    fast: int
    clock: float
    saving_clock: float
    graphics: str


def _rows(name: str) -> Iterator[list[str]]:
    text = Path(__file__).with_name(name).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return (line.split(";") for line in lines[1:])


@lru_cache(maxsize=1)
def families() -> tuple[list[str], ...]:
    """Every line of the table of families, in its order."""
    return tuple(_rows("sheets_cpus.csv"))


@lru_cache(maxsize=1)
def models() -> tuple[Model, ...]:
    """Every model of the table."""
    return tuple(
        Model(
            name, int(cores), int(threads), int(fast), float(clock) * 1e9, float(saving) * 1e9,
            graphics,
        )
        for name, cores, threads, fast, clock, saving, graphics in _rows("sheets_cpu_models.csv")
    )  # fmt: skip


def plain(name: str) -> str:
    """A processor's name in lower case without trade marks and words that tell nothing."""
    text = re.sub(r"\((r|tm|c)\)|[®™]", " ", name.lower())
    text = re.sub(r"\b(amd|intel|cpu|processor|\d+-core|with|w/.*|@.*)", " ", text)
    return re.sub(r"[\s_(),]+", " ", text).strip()


def family_of(name: str) -> Family | None:
    """The family that a processor of that name belongs to, or None."""
    text = plain(name)
    for first, pattern, label, memory, channels, rate, f32, saving, isa, kind in families():
        if first in text and re.search(pattern, text):
            count, transfers = int(channels), int(rate)
            return Family(
                label, f"{memory}-{transfers}", count, count * 8 * transfers * 1e6,
                int(f32), int(saving), isa, kind,
            )  # fmt: skip
    return None


def model_of(name: str) -> Model | None:
    """The model of that name, or None. The longest that the name holds counts."""
    text = f" {plain(name)} "
    found = [model for model in models() if f" {model.name.lower()} " in text]
    return max(found, key=lambda model: len(model.name), default=None)


def typed_model(text: str) -> Model | None:
    """The model that a person means who leaves out words: "5800x", "i7 12700k", "ai max 395"."""
    if found := model_of(text):
        return found
    words = _spelled(text)
    if found := model_of(words) or model_of(re.sub(r"(\d\d?k?)[fp]\b", r"\1", words)):
        return found
    have = set(words.split())
    named = [m for m in models() if _number(m.name) in have and _may_mean(m, have)]
    return named[0] if len(named) == 1 else None


def _spelled(text: str) -> str:
    """What a person types, as the makers write it: "i7 12700k" is "core i7-12700k"."""
    words = re.sub(r"\b(?:core )?(i[3579])[ -](?=\d)", r"core \1-", plain(text))
    return re.sub(r"\bmax (?=3\d\d)", "max+ ", words)


def like(text: str) -> Model | None:
    """The least of the known models of its family and tier, under the name that was typed.

    For a processor whose family is known and which is in no table itself: cores and clock of
    another one, which the caller has to say. None when nothing is near.
    """
    words = _spelled(text)
    family = family_of(words)
    named = re.search(r"\b(ryzen|core|xeon|epyc|snapdragon|ampere|n\d).*", words)
    if family is None or named is None:
        return None
    kin = [model for model in models() if family_of(model.name) == family]
    if tiers := re.findall(r"\b(?:i?[3579]|gold|silver|platinum)\b", words):
        kin = [model for model in kin if tiers[0] in re.split(r"[ -]", model.name.lower())]
    least = min(kin, key=lambda model: (model.fast * model.clock, model.cores), default=None)
    name = " ".join(
        word.upper() if re.match(r"\d", word) else word.capitalize() if word[0] != "i" else word
        for word in re.sub(r"(?<=i\d-)\S+", lambda match: match[0].upper(), named[0]).split()
    )
    return least._replace(name=name, graphics="") if least else None


def _number(name: str) -> str:
    """The word that tells a model from its family: "5800x", "i7-12700k", "395"."""
    words = [word for word in name.lower().split() if re.search(r"\d{3}|^n\d", word)]
    return words[-1] if words else name.lower()


def _may_mean(model: Model, words: set[str]) -> bool:
    """Digits alone are too little ("7900 xtx"), and a tier that is told must agree."""
    own = set(model.name.lower().split())
    if _number(model.name).isdigit() and not words & _BRANDS:
        return False
    tiers = {word for word in words if re.fullmatch(r"[3579]|i[3579]", word)}
    return not tiers or bool(tiers & own) or not any(len(word) == 1 for word in own)


def spoken_clock(name: str) -> float | None:
    """Hz out of "... CPU @ 2.80GHz", the base clock that Intel writes into the name."""
    match = re.search(r"@ ?(\d\.\d+) ?ghz", name.lower())
    return float(match[1]) * 1e9 if match else None


def f32_by_instructions(instructions: tuple[str, ...], architecture: str) -> int:
    """Operations per clock and core at least, from the instruction sets alone.

    One fused multiply-add of a 256-bit unit is 16 operations; every core with FMA since
    Haswell and Zen 2 has two such units. 0 where nothing can be told.
    """
    have = set(instructions)
    if {"avx2", "fma"} <= have:
        return 32
    if "avx" in have:
        return 16
    return 8 if "neon" in have or architecture == "x86_64" else 0


def int8_per_f32(instructions: tuple[str, ...], f32_per_clock: int) -> float:
    """How many 8-bit operations a core does in the time of one in f32.

    VNNI and dotprod do four products in the place of one, i8mm eight; AMX 2048 operations
    per clock (Intel's optimization manual); AVX2 alone needs three instructions for 32 products
    (pmaddubsw, pmaddwd, paddd) where FMA does 8 with one; NEON two for 8 (smull, sadalp).
    """
    have = set(instructions)
    if "amx" in have:
        return 2048 / f32_per_clock
    if "i8mm" in have:
        return 8
    if have & {"avx_vnni", "avx512_vnni", "dotprod"}:
        return 4
    return 4 / 3 if "avx2" in have else 1
