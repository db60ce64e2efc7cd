"""Bytes and times as people write and read them."""

import re

KiB = 1024
MiB = 1024**2
GiB = 1024**3

_FACTORS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "t": 10**12, "tb": 10**12,
    "ki": KiB, "kib": KiB, "mi": MiB, "mib": MiB, "gi": GiB, "gib": GiB,
    "ti": 1024**4, "tib": 1024**4,
}  # fmt: skip


def format_bytes(count: int | float) -> str:
    """Bytes for people, in binary units with three significant figures: `1.50 GiB`."""
    sign, size = ("-", -count) if count < 0 else ("", count)
    for unit, factor in (("TiB", 1024**4), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB)):
        # 1023.5 KiB would print as "1024 KiB": go up a unit where rounding reaches it.
        if size >= factor * 0.9995:
            scaled = size / factor
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{sign}{scaled:.{digits}f} {unit}"
    return f"{sign}{size:.0f} B"


def parse_bytes(text: str) -> int:
    """Bytes from `1.5GiB`, `800 MB`, `4g` (SI) or a plain count.

    Raises: ValueError for anything else, and for negative amounts.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _FACTORS:
        raise ValueError(f"not an amount of memory: {text!r} (write 1.5GiB, 800MB or bytes)")
    return round(float(match[1]) * _FACTORS[match[2].lower()])


def format_count(count: int) -> str:
    """Large counts for people: `134.5 M` parameters, `1.54 B`."""
    for suffix, factor in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= factor * 0.9995:
            scaled = count / factor
            return f"{scaled:.{2 if scaled < 9.995 else 1}f} {suffix}"
    return str(count)


def format_seconds(seconds: float) -> str:
    """A duration for people: `12 ms`, `1.25 s`, `3 min 20 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
