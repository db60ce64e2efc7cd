"""How everything a person sees is drawn. Facts go to stdout, remarks to stderr."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.errors import SnuglyError

if TYPE_CHECKING:
    from rich.console import Console


# Control characters in a text of foreign origin (a model's answer, a file's metadata) could
# move the cursor, retitle the window or answer queries in the person's name.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """`text` without what a terminal would obey instead of show; newline and tab stay."""
    return text.translate(_CONTROLS)


@lru_cache(maxsize=2)
def console(stderr: bool = False) -> "Console":
    """The one console for stdout, and the one for stderr.

    rich honours NO_COLOR and drops colour when the stream is not a terminal. Piped
    output is never folded: a program reading it wants whole lines.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # COLUMNS is a person's word; without it a pipe gets room for every table.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 200
    return Console(stderr=stderr, highlight=False, soft_wrap=not stream.isatty(), width=width)


def note(text: str) -> None:
    """Say a remark on stderr, dimmed, so that stdout holds only what was asked for."""
    console(stderr=True).print(visible(text), style="dim", markup=False)


def render_error(error: SnuglyError) -> None:
    """What happened, why, and what to do, one line each, on stderr."""
    out = console(stderr=True)
    out.print("error:", style="bold red", end=" ", markup=False)
    out.print(visible(error.problem), markup=False)
    for text in (error.because, error.remedy):
        if text:
            out.print(f"  {visible(text)}", markup=False)


def jsonable(value: Any) -> Any:
    """A value of ours as JSON types: dataclasses by field name, enums by value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def print_json(value: Any) -> None:
    """One JSON document on stdout, indented, UTF-8."""
    sys.stdout.write(json.dumps(jsonable(value), indent=2, ensure_ascii=False) + "\n")
