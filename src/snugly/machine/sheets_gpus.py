"""Data sheets of GPUs: a name as tools or people write it, and the rows that it may mean.

The table sheets_gpus.csv is made by scripts/sheets.py. Names are compared as sets of words
without those that tell nothing ("NVIDIA", "GeForce", "Graphics"); memory, form (SXM, PCIe)
and laptop choose among versions of one name.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# Where versions that share a name differ, the slowest counts if the fastest is at most this
# much faster: GDDR5 and GDDR6 of the GTX 1650 are 1.5, the two H100 1.65 apart.
MOST_SPREAD = 1.7
MEMORY_SLACK = 0.15  # tools tell less than the data sheet: ECC alone takes 1/16

_NOISE = {
    "nvidia", "geforce", "amd", "ati", "radeon", "intel", "corporation", "graphics", "gpu", "tesla",
    "instinct", "generation", "series", "edition", "workstation", "card", "oem", "inc", "with",
    "design", "advanced", "micro", "devices", "data", "center", "refresh", "tm", "r", "rev", "of",
    "the", "vram", "memory", "dgpu", "igpu", "nvgpu", "developer", "kit", "engineering",
    "reference",
}  # fmt: skip
_LAPTOP = {"laptop", "mobile", "notebook"}
_FORMS = {"sxm", "pcie", "nvl", "embedded"}
_TYPE = re.compile(r"hbm\d?e?|l?p?gddr\d[x]?|ddr\d")
# Versions that no tool tells apart: the chip used, power, memory clock, revision.
SILENT = re.compile(
    r"\b((tu|ga|ad|gm|gk)\d{3}[a-z]?|gp10[2-8]|gh100|gb(1\d\d|20[2-7])"
    r"|rev\. ?\d|\d+(\.\d+)?w|\d+gbps|480gb)\b"
)
_SIZE = re.compile(r"(?<![a-z\d.])(?:(\d+(?:\.\d+)?) ?gi?b|(\d\d?|144) ?g)\b")
_OPTIONAL = frozenset({"quadro", "blackwell"})
_FAMILIES = ("rtx", "gtx", "rx", "arc", "pro", "gt", "quadro")


class Sheet(NamedTuple):
    """One row: a GPU as sold. Zero where the data sheet does not tell."""

    maker: str
    name: str
    kind: str  # "card", "laptop", "shared"
    architecture: str
    memory_bytes: int
    memory_type: str
    bandwidth_bytes_per_s: float
    f16_flops: float
    int8_ops: float
    units: int  # NVIDIA: multiprocessors; AMD: compute units
    since: str  # the day it was first sold, "2022-10-12"; empty when not known


class Wanted(NamedTuple):
    """A name taken apart: what must agree, and what chooses among versions."""

    base: frozenset[str]
    laptop: bool
    max_q: bool
    form: str
    memory_type: str
    gib: float


def take_apart(name: str) -> Wanted:
    """A GPU's name as words. Nothing is looked up."""
    text = re.sub(r"\((r|tm|c)\)|[®™]", " ", name.lower())
    text = re.sub(r"\bmig\b.*", " ", text)
    text = re.sub(r"max[- ]?q", " maxq ", text)
    text = re.sub(r"\bsxm\d?\b", " sxm ", text)
    text = SILENT.sub(" ", text)
    # "RTX4090", "4060ti", "5090D", "7900xtx": the number stands by itself.
    text = re.sub(r"\b(rtx|gtx|rx|gt)(\d{3,4})", r"\1 \2", text)
    text = re.sub(r"\b(\d{3,4})(ti|super|xtx|xt|gre|d)\b", r"\1 \2", text)
    sizes = _SIZE.search(text)
    text = _SIZE.sub(" ", text)
    words = re.findall(r"[a-z0-9]+", text)
    kinds = [word for word in words if _TYPE.fullmatch(word)]
    forms = [word for word in words if word in _FORMS]
    aside = {*_NOISE, *_LAPTOP, *kinds, *forms, "maxq"}
    return Wanted(
        frozenset(word for word in words if word not in aside),
        any(word in _LAPTOP for word in words),
        "maxq" in words,
        forms[0] if forms else "",
        kinds[0] if kinds else "",
        float(sizes[1] or sizes[2]) if sizes else 0.0,
    )


@lru_cache(maxsize=1)
def _lines() -> tuple[tuple[str, str], ...]:
    """Each line of the table, and the same in lower case."""
    text = Path(__file__).with_name("sheets_gpus.csv").read_text("utf-8")
    lines = text[text.index("\nmaker,") :].splitlines()[2:]
    return tuple(zip(lines, "\n".join(lines).lower().splitlines(), strict=True))


def _sheet(line: str) -> Sheet:
    maker, name, kind, architecture, gib, memory, gbs, f16, int8, units, since = line.split(",")
    return Sheet(
        maker.lower(), name, kind, architecture, round(float(gib) * 2**30), memory.lower(),
        float(gbs) * 1e9, float(f16) * 1e12, float(int8) * 1e12, int(units), since,
    )  # fmt: skip


def sheets() -> tuple[Sheet, ...]:
    """Every row of the table."""
    return tuple(_sheet(line) for line, _ in _lines())


@lru_cache(maxsize=64)
def versions(name: str, memory_bytes: int = 0, typed: bool = False) -> tuple[Sheet, ...]:
    """The GPUs as sold that `name` may mean; none when it is not known.

    `memory_bytes` is what a tool tells of its memory, 0 when not known. The PCI database names
    several in one ("Navi 22 [Radeon RX 6700/6700 XT / 6800M]"): each is looked up. A name that
    a person `typed` may leave out the family ("4090", "7900 xtx").
    """
    found: list[Sheet] = []
    for alternative in _alternatives(name):
        wanted = take_apart(alternative)
        rows = _named(wanted.base, typed)
        found += [sheet for sheet, _ in _fitting(rows, wanted) if sheet not in found]
    size = take_apart(name).gib * 2**30 or memory_bytes
    return tuple(_nearest(found, size) if size else found)


def _alternatives(name: str) -> list[str]:
    inside = re.search(r"\[([^\]]+)\]?", name)
    words, *others = (inside[1] if inside else name).split("/")
    first = words.split()
    numbers = [place for place, word in enumerate(first) if re.search(r"\d", word)]
    family = first[: numbers[0]] if numbers else []
    return [words, *(" ".join((*family, other.strip())) for other in others)]


def _named(base: frozenset[str], typed: bool) -> list[tuple[Sheet, Wanted]]:
    """Rows of exactly that name; else of it but for "Quadro" and "Blackwell"."""
    if not base:
        return []
    must = base - _OPTIONAL
    rows = [
        (sheet, take_apart(sheet.name))
        for line, low in _lines()
        if all(word in low for word in must) and (sheet := _sheet(line))
    ]
    exact = [row for row in rows if row[1].base == base]
    if exact:
        return exact
    if not any(re.search(r"\d", word) for word in base) and "jetson" not in base:
        return []  # "Vega", "Arc": too little to pass over a word
    loose = [row for row in rows if row[1].base - _OPTIONAL == must]
    if loose or not typed:
        return loose if len({row[1].base for row in loose}) == 1 else []
    for family in _FAMILIES:
        if guessed := [row for row in rows if row[1].base == base | {family}]:
            return guessed
    return []


def _fitting(rows: list[tuple[Sheet, Wanted]], wanted: Wanted) -> list[tuple[Sheet, Wanted]]:
    """Rows of the kind that is meant: a laptop's GPU is never a card of the same name."""
    if wanted.laptop:
        rows = [row for row in rows if row[0].kind != "card"]
    elif wanted.max_q:
        rows = [row for row in rows if row[1].max_q]
    else:
        rows = [row for row in rows if row[0].kind != "laptop"] or rows
        rows = [row for row in rows if not row[1].max_q] or rows
    if wanted.form:
        rows = [row for row in rows if row[1].form == wanted.form] or rows
    else:
        rows = [row for row in rows if row[1].form != "embedded"] or rows
    if wanted.memory_type:
        rows = [row for row in rows if row[0].memory_type == wanted.memory_type] or rows
    return rows


def _nearest(rows: list[Sheet], size: float) -> list[Sheet]:
    """Rows whose memory is what was told; all where cards got twice of it by hand; or none.

    Rows that share the RAM have no size and stay.
    """
    near = [
        row
        for row in rows
        if not row.memory_bytes or abs(size / row.memory_bytes - 1) <= MEMORY_SLACK
    ]
    if not near:
        return [row for row in rows if abs(size / row.memory_bytes / 2 - 1) <= MEMORY_SLACK]
    best = min(abs(row.memory_bytes - size) for row in near)
    return [row for row in near if not row.memory_bytes or abs(row.memory_bytes - size) <= best + 1]


def plainest(found: Iterable[Sheet]) -> Sheet:
    """The version that gives them all their name: no Max-Q, no OEM, the shortest name."""
    return min(found, key=lambda s: ("Max-Q" in s.name or "OEM" in s.name, len(s.name)))


def common(values: Iterable[float], plain: float = 0.0) -> tuple[float | None, bool]:
    """One value for versions that share a name, and whether they differ.

    The `plain` version's own where all are within a tenth of each other, else the smallest;
    None where one is not known or they are further apart than MOST_SPREAD.
    """
    found = list(values)
    if not found or min(found) <= 0:
        return None, False
    low, high = min(found), max(found)
    if high > low * MOST_SPREAD:
        return None, True
    return (plain if plain and high <= low * 1.1 else low), high > low
