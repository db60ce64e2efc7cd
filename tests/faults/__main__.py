"""`python -m tests.faults [--soak] [--write] [--keep FILE] [NAME...]`: the fault table.

`--write` puts it into docs/reliability.md. `--keep FILE` adds every row that went as it must
to FILE, and does not run again what FILE has from the same code of the row, with all that it calls
in tests/faults, and the same counts, or the full ones: those take long, and what broke them off
can be fixed and gone on from. The page tells which commit of Snugly each row saw.
"""

import argparse
import asyncio
import hashlib
import inspect
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2

from snugly.errors import SnuglyError
from snugly.settings import settings
from tests.faults import clients, engines, real, strangers, transfers, weights, whole
from tests.faults.figure import Figure, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ROWS: tuple[Row, ...] = (
    *engines.ROWS, *clients.ROWS, *transfers.ROWS, *strangers.ROWS, *weights.ROWS, *whole.ROWS,
    *real.ROWS,
)  # fmt: skip

HEAD = """# Reliability

What must not go wrong, what was done to make it, and what came of it. Printed and written by

    python -m tests.faults --soak --write --keep FILE

{how}. Without `--soak` counts are small; `--keep FILE` goes on where
it was broken off and takes what FILE has. The same rows run with small counts in `pytest`
(tests/faults). Rows about engines use one that misbehaves on request (tests/fake_engine.py) unless
they say that it is SmolLM2; figures of those depend on what else the machine does. The last column
is the last commit of the sources that the row saw.

| row | fault | must happen | figure | | commit |
|---|---|---|---|---|---|
"""
TAIL = """
Row 9 and 10 through the commands and the real engine: tests/process/test_damaged_models.py (1,000
mutants with `--soak`). Rows 31 and 33 to 35 belong to parts that are not written yet: clouds, the
page, tools, the sandbox.

## The long run

    python -m tests.faults.soak                      # 20 minutes, row 41
    python -m tests.faults.soak --minutes 120        # two hours
    python -m tests.faults.soak --minutes 1 --csv looks.csv

A whole server with the real engine on three copies of SmolLM2, of which two fit beside each other:
streams, cancelled and left ones, embeddings, tools, counting, refusals, loads and unloads by four
clients. Every second the gateway and the engine of the one model that stays are looked at. The
first quarter of the time is left out; the slope is a straight line through the means of 16
stretches of the rest, with its standard error. It counts as flat where growth is not sure (95%),
or is less than a twentieth over the run.
"""


@dataclass(frozen=True)
class Done:
    """A row that was run. `when` it ended, in `seconds`; `mark`: see `mark_of`.

    `commit` is the last one of src/snugly when it ran.
    """

    mark: str
    when: str
    seconds: float
    figure: Figure
    commit: str


async def figures(soak: bool, names: list[str], keep: Path | None) -> list[Done]:
    """Every row, or those named."""
    kept = read_kept(keep)
    found = []
    for row in ROWS:
        if names and row.__name__ not in names:
            continue
        mark = mark_of(row, soak)
        fuller = mark_of(row, True)
        if mark in kept or fuller in kept:
            mark = fuller if fuller in kept else mark
            done = kept[mark]
        else:
            done = await _run(row, soak, mark)
            if keep is not None and done.figure.ok:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(done)) + "\n")
        figure = done.figure
        print(
            f"{figure.row:3} {'ok ' if figure.ok else 'BAD'} {figure.fault}: {figure.figure}"
            f" [{done.seconds:.0f} s]{' (kept)' if mark in kept else ''}",
            flush=True,
        )
        found.append(done)
    return found


async def _run(row: Row, soak: bool, mark: str) -> Done:
    """One row, in folders of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("store", "history", "cache"):
            os.environ[f"SNUGLY_{name.upper()}"] = f"{folder}/{name}"
        settings.cache_clear()
        try:
            figure = await row(soak)
        except (SnuglyError, AssertionError, OSError, httpx2.TransportError) as error:
            figure = Figure(99, row.__name__, "", f"broke off: {error!r}", False)
    when = time.strftime("%Y-%m-%d %H:%M")
    return Done(mark, when, time.monotonic() - began, figure, _commit())


def _commit() -> str:
    words = ("git", "log", "-1", "--format=%h", "--", "src/snugly")
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "–"


def mark_of(row: Row, soak: bool) -> str:
    """What must be the same for a figure to be taken again: the row's code and its counts."""
    code = hashlib.sha256("".join(sorted(_sources(row, set()))).encode()).hexdigest()[:12]
    return f"{row.__name__} {'full' if soak else 'small'} {code}"


def _sources(thing: Any, seen: set[Any]) -> set[str]:
    """The source of a function or class of tests/faults and of all there that it names."""
    if thing in seen or not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return set()
    seen.add(thing)
    if not str(thing.__module__).startswith("tests.faults"):
        return set()
    found = {inspect.getsource(thing)}
    values = vars(inspect.getmodule(thing) or object)
    for name in re.findall(r"\w+", next(iter(found))):
        if callable(value := values.get(name)):
            found |= _sources(inspect.unwrap(value), seen)
    return found


def read_kept(keep: Path | None) -> dict[str, Done]:
    """What was run before; nothing where there is no such file."""
    if keep is None or not keep.exists():
        return {}
    rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
    return {row["mark"]: Done(**{**row, "figure": Figure(**row["figure"])}) for row in rows}


def page(found: list[Done]) -> str:
    """The table."""
    when = sorted(done.when for done in found)
    minutes = sum(done.seconds for done in found) / 60
    full = sum(_is_full(done) for done in found)
    how = f"Last written {when[-1]} UTC, its oldest row {when[0]}: {full} of {len(found)} rows\n"
    how += f"with full counts, {minutes:.0f} minutes in all, {os.cpu_count()} cores, Python"
    how += f" {platform.python_version()}, {platform.system()}"
    lines = []
    for done in sorted(found, key=lambda done: done.figure.row):
        f = done.figure
        verdict = ("as it must" if f.ok else "NO") + ("" if _is_full(done) else ", small count")
        said = (f.row, f.fault, f.expected, f.figure, verdict, done.commit)
        lines.append(f"| {' | '.join(map(str, said))} |")
    return HEAD.format(how=how) + "\n".join(lines) + "\n" + TAIL


def _is_full(done: Done) -> bool:
    return done.mark.split()[1] == "full"


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    found = asyncio.run(figures(chosen.soak, chosen.names, chosen.keep))
    if chosen.write:
        PAGE.write_text(page(found), encoding="utf-8")
    return 0 if all(done.figure.ok for done in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
