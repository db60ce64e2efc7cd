"""`snugly logs`: what the server wrote down, for people or as it stands."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.render import note, visible

_LOOK_SECONDS = 0.25


def logs(
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    lines: Annotated[int, Parameter(name=["--lines", "-n"], validator=Number(gte=0))] = 50,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show the server's log: requests, loads, faults; never anybody's words.

    Parameters
    ----------
    follow
        Go on with what comes, until Ctrl-C.
    lines
        How many of the last lines to begin with.
    as_json
        Print the lines as they stand in the file: a JSON object each.
    """
    from snugly.server.logs import log_path
    from snugly.settings import settings

    path = log_path(settings().history)
    found = deque(_lines_of(path), lines)
    for line in found:
        _show(line, as_json)
    if not found and not follow:
        note(f"There is no log yet: `snugly serve` writes {path}.")
    if follow:
        for line in following(path):
            _show(line, as_json)


def _lines_of(path: Path) -> Iterator[str]:
    """Every line, of rotated files too, oldest first."""
    from snugly.server.logs import FILES

    for number in range(FILES - 1, -1, -1):
        one = path.with_name(f"{path.name}.{number}") if number else path
        try:
            with open(one, encoding="utf-8", errors="replace") as file:
                yield from file
        except OSError:
            continue


def following(path: Path, seconds: float = _LOOK_SECONDS) -> Iterator[str]:
    """Lines that come from now on, over rotations; for ever."""
    file, number = None, -1
    begin = os.SEEK_END
    rest = ""
    try:
        while True:
            if file is None:
                try:
                    file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115
                    file.seek(0, begin)
                    number = os.fstat(file.fileno()).st_ino
                except OSError:
                    file = None
                begin = os.SEEK_SET  # a file that comes later is read from its start
            piece = file.read() if file else ""
            if piece:
                *whole, rest = (rest + piece).split("\n")
                yield from whole
            elif file and _ino(path) != number:  # rotated, and what was left has been read
                file.close()
                file = None
            else:
                time.sleep(seconds)
    finally:
        if file:
            file.close()


def _ino(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1


def _show(line: str, as_json: bool) -> None:
    text = line.rstrip("\n")
    if text:
        print(text if as_json else visible(readable(text)))
        sys.stdout.flush()


def readable(line: str) -> str:
    """A line of the log for people; one that is none of ours as it is."""
    try:
        told = json.loads(line)
        moment = told["time"][:19].replace("T", " ")
        return f"{moment} {' '.join(_parts(told))}"
    except (ValueError, TypeError, KeyError):
        return line


def _parts(told: dict[str, Any]) -> Iterable[str]:
    if told["level"] != "info":
        yield told["level"].upper()
    if "request" not in told:
        yield str(told.get("message", ""))
        yield from (f"\n    {frame}" for frame in told.get("trace", ()))
        return
    yield f"{told['client']} {told['route']} {told['model'] or '-'}"
    yield f"{told['status']} {told['outcome']}"
    if "prompt_tokens" in told:
        cached = f", {told['cached_tokens']} cached" if told.get("cached_tokens") else ""
        yield f"{told['prompt_tokens']} in{cached}, {told.get('completion_tokens', 0)} out,"
    if "ttft_ms" in told:
        yield f"first token {told['ttft_ms']:.0f} ms,"
    yield f"{told.get('total_ms', 0):.0f} ms"
    if told.get("error"):
        yield f"({told['error']})"
