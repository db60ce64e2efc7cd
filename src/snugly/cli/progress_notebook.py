"""How a long task is shown in a notebook: one bar in the cell, drawn anew in its place."""

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from snugly.units import format_bytes, format_seconds

_DRAWN_EVERY_S = 0.25


def in_notebook() -> bool:
    """Whether a cell of a notebook runs us: Jupyter's kernel, wherever it is shown."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Cell:
    """A bar in the cell; it disappears when its task is over. Amounts are bytes or steps."""

    def __init__(self, show: Callable[[str], Callable[[str], None]] | None = None) -> None:
        """`show` puts HTML into the cell and returns what replaces it; Jupyter's when left out."""
        self._show = show or _displayed
        self._update: Callable[[str], None] = lambda html: None
        self._label, self._total, self._done, self._before = "", 0, 0, 0
        self._start = self._last = 0.0

    def begin(self, label: str, total: int, done: int) -> None:
        """Start a bar."""
        self._label, self._total, self._done, self._before = label, total, done, done
        self._start = self._last = time.monotonic()
        self._update = self._show(self._drawn(""))

    def advance(self, n_bytes: int) -> None:
        """Move the bar, and draw it now and then."""
        self._done += n_bytes
        now = time.monotonic()
        if now - self._last < _DRAWN_EVERY_S:
            return
        self._last = now
        rate = max(self._done - self._before, 1) / (now - self._start)
        left = format_seconds(max(self._total - self._done, 0) / rate)
        self._update(self._drawn(f"{format_bytes(self._done)} of {format_bytes(self._total)},"
                                 f" {format_bytes(rate)}/s, {left} left"))  # fmt: skip

    def step(self, label: str, done: int, total: int, what: str) -> None:
        """So many steps of a counted task are done."""
        if not self._label:
            self.begin(label, total, done)
        self._done, self._total = done, total
        self._update(self._drawn(f"{done} of {total}: {what}"))

    def end(self) -> None:
        """Take the bar away."""
        self._update("")
        self._label = ""

    def say(self, text: str) -> None:
        """A remark below."""
        self._show(f"<small>{escape(text)}</small>")

    def _drawn(self, text: str) -> str:
        value = f"value='{self._done}' max='{self._total}'" if self._total else ""
        return f"{escape(self._label)} <progress {value}></progress> {escape(text)}"


def _displayed(html: str) -> Callable[[str], None]:
    from importlib import import_module

    display: Any = import_module("IPython.display")
    handle = display.display(display.HTML(html), display_id=True)
    return lambda new: handle.update(display.HTML(new))
