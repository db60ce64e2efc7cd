"""How a task of counted steps is shown: a bar on a terminal, a line now and then when piped."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from snugly.cli.progress_notebook import Cell, in_notebook
from snugly.cli.render import console, note

_LINE_EVERY_S = 10.0


@contextmanager
def steps(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """What takes (step, of how many, what is being done), and shows it."""
    if in_notebook():
        cell = Cell()
        try:
            yield partial(cell.step, label)
        finally:
            cell.end()
        return
    if not console(stderr=True).is_terminal:
        yield _Lines(label).step
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    bar = Progress(*columns, console=console(stderr=True), transient=True)
    task = bar.add_task(label, total=None, start=True)

    def step(done: int, total: int, _: str) -> None:
        bar.start()  # not before the first step: downloads have a bar of their own
        bar.update(task, total=total, completed=done)

    try:
        yield step
    finally:
        bar.stop()


class _Lines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._last = time.monotonic()

    def step(self, done: int, total: int, what: str) -> None:
        """Say how far it is, at most every few seconds."""
        if time.monotonic() - self._last >= _LINE_EVERY_S or done == total:
            self._last = time.monotonic()
            note(f"{self._label}: {done} of {total}")
