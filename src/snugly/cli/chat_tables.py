"""Conversations in lists, and words of ours between the answers."""

from collections.abc import Sequence
from datetime import datetime

from snugly.cli.render import console, visible
from snugly.history.types import Summary


def tell(text: str) -> None:
    """A fact that a command was asked for, on stdout, as it is."""
    console().print(visible(text), markup=False, highlight=False, emoji=False)


def conversations_table(found: Sequence[Summary]) -> None:
    """Number, time, model, title and count of questions; with the hit after a search."""
    from rich.table import Table
    from rich.text import Text

    if not found:
        tell("No conversations.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ID", justify="right", no_wrap=True)
    table.add_column("WHEN", no_wrap=True)
    table.add_column("MODEL", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("TITLE", overflow="ellipsis", no_wrap=True)
    table.add_column("TURNS", justify="right", no_wrap=True)
    for row in found:
        about = Text(visible(row.title))
        if row.snippet and row.snippet != row.title:
            about.append(f"\n{visible(row.snippet)}", style="dim")
        model = visible(row.model).rsplit("/", 1)[-1]
        table.add_row(str(row.id), local_time(row.updated_at), model, about, str(row.turns))
    console().print(table)


def local_time(moment: str) -> str:
    """A stored time on this machine's clock, to the minute."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return moment
