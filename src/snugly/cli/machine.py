"""`snugly machine`: what this machine has, and how we know."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from snugly.cli.render import console, jsonable, note, print_json
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.machine.types import Capture, Machine

_Flag = Parameter(negative="")
MAX_FILE_BYTES = 50_000_000


def machine(
    *,
    measure: Annotated[bool, _Flag] = False,
    from_: Annotated[
        tuple[Path, ...], Parameter("--from", consume_multiple=True, negative="")
    ] = (),
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Show what this machine has, and how we know.

    Each fact carries where it came from: probed, measured, assumed, or unknown with the
    reason. `docs/machine.md` documents every key of the JSON.

    Parameters
    ----------
    measure
        Time memory, arithmetic and disk (at most 10 s) and keep the rates.
    from_
        Show the machine that captured outputs tell of (nvidia-smi -q, lscpu, rocm-smi --json,
        ...) in place of this one: for bug reports, and for a machine that is not here.
    as_json
        Print every fact with its origin as JSON.
    """
    if from_ and measure:
        raise UserError(
            "--measure and --from do not go together.",
            "Captured outputs are of another machine; only this one can be timed.",
            "Leave one of the two out.",
        )
    if from_:
        _show_captured(from_, as_json)
    else:
        _show_this(measure, as_json)


def _show_captured(files: tuple[Path, ...], as_json: bool) -> None:
    from snugly.machine.captures import machine_from

    captures = [_read(file) for file in files]
    told = machine_from(captures)
    if as_json:
        print_json(document(told, captures))
        return
    for capture in captures:
        tools = ", ".join(dict.fromkeys(reading.tool for reading in capture.readings))
        note(f"{capture.name}: {tools}")
    _print(told)


def _read(file: Path) -> "Capture":
    from snugly.machine.captures import read_capture

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UserError(
                f"{file} is too large.",
                f"It has more than {MAX_FILE_BYTES // 10**6} MB; no tool prints that much.",
                "Give the output of the tool alone.",
            )
        data = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read.", f"{error.strerror}.", "Check the name of the file."
        ) from error
    return read_capture(_decode(data), file.name)


def _decode(data: bytes) -> str:
    # PowerShell's ">" writes UTF-16 with a byte-order mark.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def _show_this(measure: bool, as_json: bool) -> None:
    from snugly.machine.host import Host
    from snugly.machine.load import Clock

    host = Host()
    begun = Clock.read(host)  # first of all: the load is taken while the rest is imported

    import dataclasses

    from snugly.machine.detect import detect
    from snugly.machine.rates import load_rates, rates_path
    from snugly.settings import settings

    cache = settings().cache
    found = detect(settings().store, host, begun)
    if measure:
        found = _measured(found, cache)
    else:
        found = dataclasses.replace(found, rates=load_rates(found, cache))
        if found.rates is None and rates_path(cache).exists():
            note("The kept rates are of another machine or load: `snugly machine --measure`.")
    if as_json:
        print_json(document(found))
    else:
        _print(found)


def _measured(found: "Machine", cache: Path) -> "Machine":
    """`found` with rates taken now, kept for the next time, under a progress bar."""
    import dataclasses

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from snugly.machine.measure import measure
    from snugly.machine.rates import save_rates

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=1.0)
        rates = measure(
            found,
            Path(found.disk.path),
            lambda what, done: bar.update(task, description=what, completed=done),
        )
    try:
        save_rates(rates, found, cache)
    except OSError as error:
        note(f"The rates could not be kept in {cache}: {error.strerror}.")
    return dataclasses.replace(found, rates=rates)


def document(machine: "Machine", captures: "list[Capture] | None" = None) -> dict[str, object]:
    """The JSON document: the machine, its pools, and with --from each reading by itself."""
    data = dict(jsonable(machine))
    data["pools"] = jsonable(machine.pools)
    if captures is not None:
        data["captures"] = jsonable(captures)
    return data


def _print(machine: "Machine") -> None:
    from rich.table import Table
    from rich.text import Text

    from snugly.cli.machine_table import rows

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fact", no_wrap=True)
    # Wide names fold; what they came from folds too, so that 80 columns hold all of it.
    table.add_column("value", overflow="fold", ratio=3)
    table.add_column("from", overflow="fold", style="dim", ratio=2)
    section = ""
    for row in rows(machine):
        if row.section != section:
            table.add_row(row.section, "", "", style="bold")
            section = row.section
        # Text, not markup: names come from files, and "Navi 31 [Radeon]" is no style.
        table.add_row(f"  {row.fact}", Text(row.value), Text(row.origin))
    out = console()
    out.print(table)
    if machine.missing:
        out.print("\nTools that are not here", style="bold")
        for fact in machine.missing:
            out.print(f"  {fact.how}", markup=False)
