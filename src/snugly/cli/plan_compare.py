"""`snugly plan --compare`: what several boxes run, how fast, for what kind of use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from snugly.cli.plan_json import fit_document
from snugly.cli.render import console
from snugly.engine.outlook import Elsewhere, Outlook, look
from snugly.errors import UserError
from snugly.plan.types import Fit, Need
from snugly.plan.words import name, spread
from snugly.settings import Settings
from snugly.units import format_bytes

USES = ("chat", "code", "complete", "summarize", "reason")


@dataclass(frozen=True)
class Column:
    """One box: its free memory, and what it is best used with, by use."""

    box: str
    pools: str
    by_use: dict[str, Outlook]


def columns(boxes: Sequence[str], need: Need, config: Settings) -> tuple[Column, ...]:
    """Each box with each use.

    Raises: UserError for a box that is not known.
    """
    if not boxes:
        raise UserError("No box is named.", "", 'Write --compare "rtx 3090" "m4 pro 48gb".')
    found = []
    for name_of_box in boxes:
        where = Elsewhere(name=name_of_box)
        by_use = {use: look((), replace(need, task=use), config, where) for use in USES}
        first = by_use[USES[0]].box
        pools = " + ".join(f"{format_bytes(p.free_bytes)} {p.name}" for p in first.pools)
        found.append(Column(name_of_box, pools, by_use))
    return tuple(found)


def print_columns(shown: Sequence[Column]) -> None:
    """A column per box, a row per use: the model, its pace, and its quality."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    table.add_column("FOR")
    for column in shown:
        table.add_column(column.box, overflow="fold")
    table.add_row("free for models", *(column.pools for column in shown))
    for use in USES:
        table.add_row(use, *(_cell(column.by_use[use].found.best) for column in shown))
    console().print(table)


def _cell(fit: Fit | None) -> str:
    if fit is None:
        return "nothing fits"
    return (
        f"{name(fit)}\n{spread(fit.speed.decode_tps)} tokens/s, quality {fit.candidate.quality:.0f}"
    )


def compared(shown: Sequence[Column]) -> list[dict[str, Any]]:
    """The same for `--json`."""
    return [
        {
            "box": column.box,
            "pools": next(iter(column.by_use.values())).box.pools,
            "uses": {
                use: None
                if seen.found.best is None
                else fit_document(seen.found.best, seen.found.task)
                for use, seen in column.by_use.items()
            },
        }
        for column in shown
    ]
