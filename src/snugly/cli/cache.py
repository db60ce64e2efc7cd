"""`snugly cache`: what models have read and need not read again, and forgetting it."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.engine.prefix_entry import Entry
    from snugly.engine.prefix_store import PrefixStore


def cache(
    action: Literal["list", "purge"] = "list",
    model: str = "",
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what models have read and need not read again, or forget it.

    `purge` forgets everything, `purge MODEL` what one model has read. Words are never shown.

    Parameters
    ----------
    action
        list or purge.
    model
        A model as `list` names it; empty: all.
    as_json
        Print what is kept, or what was forgotten, as JSON.
    """
    from snugly.engine.prefix_keeper import folder_of
    from snugly.engine.prefix_store import PrefixStore
    from snugly.settings import settings

    config = settings()
    store = PrefixStore(folder_of(config.cache), config.prefix_cache_bytes)
    entries = [entry for entry in store.entries() if _is(model, entry)]
    if model and not entries:
        raise UserError(
            f"Nothing is kept of a model called {model!r}.", "", "`snugly cache list` names them."
        )
    if action == "purge":
        _purge(store, entries if model else None, as_json)
    elif as_json:
        print_json(
            {
                "folder": store.folder,
                "most_bytes": store.most_bytes,
                "states": [_row(entry) for entry in entries],
            }
        )
    else:
        _print(store, entries)


def _is(model: str, entry: "Entry") -> bool:
    return not model or entry.model.casefold() == model.casefold()


def _row(entry: "Entry") -> dict[str, Any]:
    return {
        "model": entry.model,
        "tokens": entry.tokens,
        "bytes": entry.n_bytes,
        "used_at": entry.used,
        "holder": entry.path.parent.name,
        "path": entry.path,
    }


def _purge(store: "PrefixStore", chosen: "list[Entry] | None", as_json: bool) -> None:
    from snugly.units import format_bytes

    count, n_bytes = store.purge(chosen)
    if as_json:
        print_json({"forgotten": count, "freed_bytes": n_bytes})
    else:
        states = "state" if count == 1 else "states"
        note(f"{count} {states} forgotten; {format_bytes(n_bytes)} are free again.")


def _print(store: "PrefixStore", entries: "list[Entry]") -> None:
    from datetime import datetime

    from rich.table import Table
    from rich.text import Text

    from snugly.units import format_bytes

    if entries:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("model", "tokens", "bytes", "last used", "holder"):
            table.add_column(column, justify="right" if column in ("tokens", "bytes") else "left")
        for entry in entries:
            used = datetime.fromtimestamp(entry.used).astimezone().strftime("%Y-%m-%d %H:%M")
            table.add_row(
                Text(entry.model), f"{entry.tokens:,}", format_bytes(entry.n_bytes), used,
                entry.path.parent.name[:8],
            )  # fmt: skip
        console().print(table)
    total = format_bytes(sum(entry.n_bytes for entry in entries))
    if store.most_bytes:
        note(f"{total} of at most {format_bytes(store.most_bytes)} in {store.folder}")
    else:
        note(f"{total} in {store.folder}; nothing is added: `prefix_cache_bytes` is 0")
