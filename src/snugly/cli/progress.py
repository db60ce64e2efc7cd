"""How a long task is shown: a bar on a terminal, plain lines when piped."""

import time
from typing import TYPE_CHECKING

from snugly.cli.progress_notebook import Cell, in_notebook
from snugly.cli.render import console, note
from snugly.model.progress import Progress
from snugly.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 5.0


def shown() -> Progress:
    """Progress that suits where stderr leads, or the cell of a notebook."""
    if in_notebook():
        return Cell()
    return Bar() if console(stderr=True).is_terminal else Lines()


class Bar:
    """A bar with rate and time left; it disappears when its task is over."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None

    def begin(self, label: str, total: int, done: int) -> None:
        """Start a bar. The rate counts only what comes from now on."""
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        self._rich = Progress(
            TextColumn("{task.description}", markup=False,
                       table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console(stderr=True),
            expand=True,
            transient=True,
        )  # fmt: skip
        self._rich.start()
        self._rich.add_task(label, total=total, completed=done)

    def advance(self, n_bytes: int) -> None:
        """Move the bar."""
        if self._rich is not None:
            self._rich.advance(self._rich.task_ids[0], n_bytes)

    def end(self) -> None:
        """Take the bar away."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def say(self, text: str) -> None:
        """A remark above the bar."""
        note(text)


class Lines:
    """A line when a task starts, one now and then, and one when it took long."""

    def __init__(self) -> None:
        self._label, self._total, self._done, self._before = "", 0, 0, 0
        self._start = self._last = 0.0

    def begin(self, label: str, total: int, done: int) -> None:
        """Say what starts."""
        self._label, self._total, self._done, self._before = label, total, done, done
        self._start = self._last = time.monotonic()
        kept = f", {format_bytes(done)} are here already" if done else ""
        note(f"{label}: {format_bytes(total)}{kept}")

    def advance(self, n_bytes: int) -> None:
        """Say how far it is, at most every few seconds."""
        self._done += n_bytes
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S:
            return
        self._last = now
        rate = max(self._done - self._before, 1) / (now - self._start)
        left = format_seconds((self._total - self._done) / rate)
        note(
            f"{self._label}: {format_bytes(self._done)} of {format_bytes(self._total)}, "
            f"{format_bytes(rate)}/s, {left} left"
        )

    def end(self) -> None:
        """Nothing: what follows says how it went."""

    def say(self, text: str) -> None:
        """A remark."""
        note(text)
