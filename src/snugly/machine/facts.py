"""Numbers out of the words that tools print, and how several sources become one fact."""

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from snugly.machine.types import Fact, Origin, assumed, probed, unknown
from snugly.units import GiB, KiB, MiB

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
R = TypeVar("R", bound="DataclassInstance")

_RANK = {Origin.PROBED: 0, Origin.MEASURED: 0, Origin.ASSUMED: 1, Origin.UNKNOWN: 2}

# Memory sizes of hardware are powers of two whatever the tool calls them: nvidia-smi "MiB",
# amd-smi "MB", /proc/meminfo "kB", tegrastats "MB" all count in 1024s.
_UNITS = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    "k": KiB, "kb": KiB, "kib": KiB, "m": MiB, "mb": MiB, "mib": MiB,
    "g": GiB, "gb": GiB, "gib": GiB, "t": 1024 * GiB, "tb": 1024 * GiB, "tib": 1024 * GiB,
}  # fmt: skip

_NOTHING = re.compile(
    r"\[?\s*(n/?a|none|null|unknown|not (supported|available|applicable)|unknown error|err!?"
    r"|insufficient permissions|gpu is lost|requested functionality has been deprecated"
    r"|deprecated\b.*|no data|-)?\s*\]?",
    re.IGNORECASE,
)
# 20 digits hold every 64-bit number; longer ones are noise, and huge ones cost time.
_NUMBER = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)")


def said(text: object) -> str | None:
    """The text, or None where a tool says in its own way that it has nothing to say."""
    if text is None or isinstance(text, (dict, list, bool)):
        return None
    word = str(text).strip()
    return None if _NOTHING.fullmatch(word) else word


def number(text: object) -> float | None:
    """The number that `text` starts with ("63 %", "20.3", "300.00 W"), or None."""
    word = said(text)
    match = _NUMBER.match(word) if word else None
    return float(match[1]) if match else None


def whole(text: object) -> int | None:
    """The whole number that `text` starts with, exact to 64 bits, or None."""
    word = said(text)
    match = re.match(r"[0-9]{1,20}(?![0-9])", word) if word else None
    return int(match[0]) if match else None


def size(text: object, unit: str = "") -> int | None:
    """Bytes of "8192 MiB", "4096K", "64289 MB" (see `_UNITS`); `unit` where none is given."""
    word = said(text)
    match = _NUMBER.match(word) if word else None
    if match is None:
        return None
    factor = _UNITS.get((match[2] or unit).lower())
    if factor is None:
        return None
    return int(match[1]) * factor if match[1].isdigit() else round(float(match[1]) * factor)


def share(text: object) -> float | None:
    """A fraction 0.0 .. 1.0 out of per cents: "63 %" is 0.63."""
    value = number(text)
    return None if value is None or value > 100 else value / 100


def known(value: T | None, how: str, why_not: str = "") -> Fact[T]:
    """A probed fact, or an unknown one that says why (else: `how` does not tell)."""
    return unknown(why_not or f"{how} does not tell") if value is None else probed(value, how)


def guessed(value: T | None, why: str, why_not: str) -> Fact[T]:
    """An assumed fact, or an unknown one that says why not."""
    return unknown(why_not) if value is None else assumed(value, why)


def better(first: Fact[T], second: Fact[T]) -> Fact[T]:
    """The fact with the surer origin; the first of two equals."""
    return second if _RANK[second.origin] < _RANK[first.origin] else first


def merge(first: R, second: R) -> R:
    """`first`, with each fact that `second` knows better taken from there."""
    changes: dict[str, Any] = {}
    for field in fields(first):
        own = getattr(first, field.name)
        if isinstance(own, Fact):
            changes[field.name] = better(own, getattr(second, field.name))
    return replace(first, **changes)


def blank(kind: type[R], why: str, **identity: object) -> R:
    """A record of `kind` whose every fact is unknown for the reason `why`.

    `identity` gives the fields that are not facts (vendor, index, path).
    """
    nothing: Fact[Any] = unknown(why)
    values = {
        f.name: nothing
        for f in fields(kind)
        if f.name not in identity and get_origin(f.type) is Fact
    }
    return kind(**values, **identity)
