"""The catalogue as people and programs see it: `snugly models --available`."""

from typing import TYPE_CHECKING, Any

from snugly.cli.render import console, jsonable, note, print_json

if TYPE_CHECKING:
    from snugly.model.catalog import Entry
    from snugly.model.catalog_quality import Quality

_ESTIMATED = "~"


def print_available(task: str, as_json: bool) -> None:
    """The models that have a short name; only those for `task`, best first, where one is given.

    Raises: UserError when there is no such task.
    """
    from snugly.model.catalog import entries

    found = list(entries())
    if task:
        _demand_task(task)
        found = [entry for entry in found if task in entry.tasks]
        found.sort(key=lambda entry: -_quality(entry, task).value)
    if as_json:
        print_json([_row(entry, task) for entry in found])
        return
    _print_table(found, task)
    note("Any GGUF repository of the hub works too: `snugly pull publisher/model`.")


def _demand_task(task: str) -> None:
    from snugly.errors import UserError
    from snugly.model.catalog import TASKS, suggest

    if task not in TASKS:
        near = suggest(task, TASKS)
        raise UserError(
            f"There is no task called {task!r}.",
            f"Did you mean {near[0]}?" if near else "",
            f"The tasks are {', '.join(TASKS)}.",
        )


def _quality(entry: "Entry", task: str) -> "Quality":
    from snugly.model.catalog_quality import quality_of

    return quality_of(entry, task)


def _row(entry: "Entry", task: str) -> dict[str, Any]:
    row: dict[str, Any] = {"alias": entry.alias, **jsonable(entry)}
    if task:
        row["quality"] = _quality(entry, task)._asdict()
    return row


def _print_table(found: "list[Entry]", task: str) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NAME", no_wrap=True)
    table.add_column("PARAMETERS", justify="right", no_wrap=True)
    table.add_column("FILE", justify="right", no_wrap=True)
    table.add_column("TYPE", no_wrap=True)
    table.add_column("CONTEXT", justify="right", no_wrap=True)
    table.add_column("QUALITY" if task else "FOR", justify="right" if task else "left")
    table.add_column("LICENCE", no_wrap=True)
    for entry in found:
        table.add_row(*_cells(entry, task))
    console().print(table)
    note("FILE is what a download of TYPE takes, worked out from the model's config.json.")
    if task:
        note(f"QUALITY for {task} is of 100, from published figures, before quantization; "
             f"{_ESTIMATED} where it is estimated (docs/catalog.md).")  # fmt: skip


def _cells(entry: "Entry", task: str) -> tuple[str, ...]:
    from snugly.units import format_bytes, format_count

    parameters = format_count(entry.n_params)
    if entry.n_active < entry.n_params:
        parameters = f"{format_count(entry.n_active)} of {parameters}"
    last = ", ".join(entry.tasks)
    if task:
        quality = _quality(entry, task)
        estimated = _ESTIMATED if quality.basis.startswith("estimated") else ""
        last = f"{estimated}{quality.value:.0f}"
    return (entry.alias, parameters, format_bytes(entry.file_bytes), entry.quantization,
            f"{entry.context_train:,}", last, entry.licence)  # fmt: skip
