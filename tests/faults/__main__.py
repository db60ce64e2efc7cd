"""`python -m tests.faults [--soak] [--write] [NAME...]`: the fault table with its figures.

`--write` puts it into docs/reliability.md. Rows that the tests of other parts hold are listed
with the test that holds them.
"""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from pathlib import Path

import httpx2

from snugly.errors import SnuglyError
from snugly.settings import settings
from tests.faults import clients, engines, real, whole
from tests.faults.figure import Figure, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ROWS: tuple[Row, ...] = (*engines.ROWS, *clients.ROWS, *whole.ROWS, *real.ROWS)

# Rows of other parts -> the tests that hold them.
ELSEWHERE = {
    3: ("parent killed", "tests/process/test_engine_process.py"),
    9: ("GGUF mutants", "tests/unit/model/test_gguf.py, tests/process/test_damaged_models.py"),
    10: ("truncated or empty GGUF", "tests/unit/model/test_gguf.py"),
    25: ("download cut, Range ignored, wrong size or hash", "tests/process/test_pull.py"),
    26: ("stored model corrupted", "tests/process/test_pull.py"),
    27: ("disk full", "tests/unit/history, tests/process/test_pull.py"),
    28: ("path traversal, links, odd digests", "tests/unit/model"),
    29: ("remote image URLs", "tests/server/test_security.py"),
}
HEAD = """# Reliability

What must not go wrong, what was done to make it, and what came of it. Printed and written by

    python -m tests.faults --write

{how}. `--soak` gives the full counts (an hour and more); the same rows
run with small counts in `pytest` (tests/faults). Rows about engines use one that misbehaves on
request (tests/fake_engine.py) unless they say that it is SmolLM2; figures of those depend on what
else the machine does.

| row | fault | must happen | figure | |
|---|---|---|---|---|
"""


async def figures(soak: bool, names: list[str]) -> list[Figure]:
    """Every row, or those named."""
    found = []
    for row in ROWS:
        if names and row.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for name in ("store", "history", "cache"):
                os.environ[f"SNUGLY_{name.upper()}"] = f"{folder}/{name}"
            settings.cache_clear()
            try:
                figure = await row(soak)
            except (SnuglyError, AssertionError, TimeoutError, httpx2.TransportError) as error:
                figure = Figure(99, row.__name__, "", f"broke off: {error!r}", False)
        print(
            f"{figure.row:3} {'ok ' if figure.ok else 'BAD'} {figure.fault}: {figure.figure}",
            flush=True,
        )
        found.append(figure)
    return found


def page(found: list[Figure], soak: bool) -> str:
    """The table."""
    counts = "full counts" if soak else "small counts"
    how = f"Last written {time.strftime('%Y-%m-%d')} with {counts}, {os.cpu_count()} cores,"
    how += f" Python {platform.python_version()}, {platform.system()}"
    lines = [
        f"| {f.row} | {f.fault} | {f.expected} | {f.figure} | {'as it must' if f.ok else 'NO'} |"
        for f in sorted(found, key=lambda figure: figure.row)
    ]
    others = [f"| {row} | {fault} | {tests} |" for row, (fault, tests) in sorted(ELSEWHERE.items())]
    return (
        HEAD.format(how=how)
        + "\n".join(lines)
        + "\n\nHeld by tests of other parts:\n\n| row | fault | tests |\n|---|---|---|\n"
        + "\n".join(others)
        + "\n"
    )


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    found = asyncio.run(figures(chosen.soak, chosen.names))
    if chosen.write:
        PAGE.write_text(page(found, chosen.soak), encoding="utf-8")
    return 0 if all(figure.ok for figure in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
