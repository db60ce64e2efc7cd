"""The words that people meet around language models, explained: look-up, and what is near. Pure.

Besides the terms of glossary.toml any size ("7B", "0.5b", "30B-A3B", "8x7B"), any quantization
of llama.cpp's ("Q4_K_M", "iq3_xxs") and names of graphics cards are understood.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from snugly.errors import UserError
from snugly.model.quant_mixtures import COMMUNITY, MAIN_TYPES, NEED_MATRIX

TOPICS = ("models", "files", "quantization", "memory", "speed", "use", "training", "programs")


@dataclass(frozen=True, slots=True)
class Term:
    """One entry. `worked` names what is worked out for it (plan/glossary_worked.py), or is ""."""

    name: str
    topic: str
    text: str
    also: tuple[str, ...] = ()
    worked: str = ""
    see: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """What one quantization did to Llama 3 8B over WikiText-2."""

    type_name: str
    matrix: bool  # quantized with an importance matrix
    perplexity: float
    kld: float  # mean


def terms() -> tuple[Term, ...]:
    """All entries, by topic and then as they stand in the file."""
    return tuple(sorted(_terms(), key=lambda term: TOPICS.index(term.topic)))


def losses(type_name: str = "") -> tuple[Loss, ...]:
    """Measured losses, best first; of one quantization where one is named."""
    found = tuple(Loss(*row) for row in _file()["loss"])
    return tuple(loss for loss in found if type_name in ("", loss.type_name))


def find(text: str) -> Term:
    """What `text` means.

    Raises: UserError with near words when it means nothing we know.
    """
    key = _key(text)
    found = _by_key().get(key) or _size(text.strip()) or _quantization(text) or _hardware(text)
    if found is not None:
        return found
    near = tuple(dict.fromkeys(
        _by_key()[k].name for k in difflib.get_close_matches(key, _by_key(), n=6, cutoff=0.6)
    ))[:3]  # fmt: skip
    raise UserError(
        f"{text!r} is not in the glossary.",
        f"Did you mean {' or '.join(near)}?" if near else "",
        "`snugly explain` lists what is.",
    )


def known(text: str) -> bool:
    """Whether `find` has an answer."""
    try:
        find(text)
    except UserError:
        return False
    return True


@cache
def _file() -> dict[str, Any]:
    text = resources.files("snugly.plan").joinpath("glossary.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _terms() -> tuple[Term, ...]:
    rows = _file()["term"]
    return tuple(
        Term(**{**row, "also": tuple(row.get("also", ())), "see": tuple(row.get("see", ()))})
        for row in rows
    )


@cache
def _by_key() -> dict[str, Term]:
    found = {_key(name): term for term in _terms() for name in term.also}
    return found | {_key(term.name): term for term in _terms()}


def _key(text: str) -> str:
    """Letters and figures alone; a sign in front counts where it is all there is (`_K`)."""
    lowered = text.casefold().strip()
    if re.fullmatch(r"[_.-]\w{1,4}", lowered):
        return lowered
    return re.sub(r"[^a-z0-9]", "", lowered)


def _size(text: str) -> Term | None:
    mixture = re.fullmatch(r"(?i)(\d+(?:\.\d+)?)\s*b[- ]?a(\d+(?:\.\d+)?)\s*b?", text)
    if mixture:
        return Term(
            text, "models",
            f"A mixture of experts: {mixture[1]} billion parameters are stored, about"
            f" {mixture[2]} billion are read for each token.",
            worked=f"size {mixture[1]} {mixture[2]}", see=("MoE", "parameters"),
        )  # fmt: skip
    times = re.fullmatch(r"(?i)(\d+)x(\d+(?:\.\d+)?)b", text)
    if times:
        return Term(
            text, "models",
            f"A mixture of {times[1]} experts in a model built like one of {times[2]} billion."
            " Attention is shared, so in all it has fewer parameters than the product.",
            worked="moe", see=("MoE", "parameters"),
        )  # fmt: skip
    plain = re.fullmatch(r"(?i)(\d+(?:\.\d+)?)\s*(b|m|billion|million)(?: parameters)?", text)
    if plain and 0 < (billions := _billions(plain[1], plain[2])) <= 10_000:
        return Term(
            text, "models",
            f"About {billions:g} billion parameters: the size of a model. The name is rounded.",
            worked=f"size {billions:g}", see=("parameters", "quantization", "VRAM"),
        )  # fmt: skip
    return None


def _billions(number: str, unit: str) -> float:
    return float(number) / (1000 if unit.lower().startswith("m") else 1)


def _quantization(text: str) -> Term | None:
    name = text.strip().upper().replace("-", "_").removesuffix(".GGUF")
    name = {"Q2K": "Q2_K", "MXFP4": "MXFP4_MOE", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M",
            "Q3_K": "Q3_K_M", "Q4": "Q4_K_M", "Q5": "Q5_K_M", "Q6": "Q6_K", "Q8": "Q8_0",
            "Q6K": "Q6_K"}.get(name, name)  # fmt: skip
    if name not in MAIN_TYPES and name not in COMMUNITY:
        return None
    return Term(
        "MXFP4" if name == "MXFP4_MOE" else name, "quantization", _words(name),
        worked=f"type {name}", see=("quantization", "2-3 bits", _family(name)),
    )  # fmt: skip


def _family(name: str) -> str:
    if "_K" in name:
        return "K-quant"
    return "I-quant" if name.startswith("IQ") else "legacy quant"


# What stands in a name, by its parts, in the order in which they are read out.
_FAMILIES = (
    (r"IQ(\d)_.*", "IQ{0}: about {0} bits per weight, looked up in a table of patterns."),
    (r"TQ(\d)_0", "TQ: three values per weight (-1, 0, 1), for models trained that way."),
    (r"Q(\d)_K.*", "Q{0}_K: {0} bits per weight in blocks of 256, with quantized scales (K)."),
    (r"Q(\d)_0", "Q{0}_0: {0} bits per weight in blocks of a few dozen, one scale each (0)."),
    (r"Q(\d)_1", "Q{0}_1: {0} bits per weight in blocks of 32, a scale and a smallest value (1)."),
    (r"MXFP4.*", "MXFP4: 4-bit floating point in blocks of 32 with a shared exponent; what"
                 " gpt-oss was trained in. In a GGUF the experts are kept in it."),
    (r"BF16|F16|F32", "Not quantized: every weight as a floating-point number."),
)  # fmt: skip
_SIZES = {
    "S": "S: small, nearly all tensors in the main type.",
    "M": "M: medium, what suffers most is kept in a larger type.",
    "L": "L: large, more of what suffers is kept in a larger type.",
    "XL": "XL: as L, and embeddings and output in Q8_0.",
    "XS": "XS: extra small.",
    "XXS": "XXS: the smallest of its kind.",
    "NL": "NL: sixteen levels, unevenly spaced.",
}


def _words(name: str) -> str:
    said = []
    for pattern, words in _FAMILIES:
        if match := re.fullmatch(pattern, name):
            said.append(words.format(*match.groups()))
            break
    if name in COMMUNITY:
        said.append(f"A publisher's name: {COMMUNITY[name]} with embeddings and output in Q8_0.")
    elif (letters := name.rpartition("_")[2]) in _SIZES:
        said.append(_SIZES[letters])
    if name in NEED_MATRIX:
        said.append("It needs an importance matrix to be made.")
    return " ".join(said)


_CARDS = re.compile(
    r"(?i)\b(rtx|gtx|rx|arc|geforce|radeon|quadro|tesla|instinct|ryzen|core|xeon|epyc|raspberry"
    r"|jetson|macbook|mac)\b"
    r"|^(m[1-9]( (pro|max|ultra))?|[1-9]0[5-9]0( ?ti)?( super)?|[67][5-9]\d0( xtx?)?"
    r"|[ahblt]\d{1,3}|mi\d{3}[ax]?)( \d+ ?gb)?$"
)


def _hardware(text: str) -> Term | None:
    if not _CARDS.search(text.strip()):
        return None
    return Term(
        text, "programs",
        "A piece of hardware. What counts of it is how much memory it has and how fast that"
        " memory is: the first decides what fits, the second how fast it writes. `snugly machine`"
        " says what this one has, `snugly plan` what fits it.",
        see=("VRAM", "bandwidth", "offload"),
    )  # fmt: skip
