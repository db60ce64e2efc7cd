"""What `snugly plan` shows a person: bars, two sentences, commands, a table."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from snugly.cli.render import console, visible
from snugly.engine.outlook import Outlook
from snugly.machine.types import Pool
from snugly.plan.choose import reasons
from snugly.plan.picture import PARTS, Bars, svg
from snugly.plan.preference import keeps_up
from snugly.plan.tasks import Task
from snugly.plan.types import Candidate, Fit, Interval, PoolUse
from snugly.plan.words import command, figure, name, spread, why
from snugly.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from rich.table import Table

_BAR_WIDTH = 48
_WIDE = 90  # columns that the table needs with intervals
_ROWS = 12  # of the table, when the whole catalogue was searched
# What fills the bar, by glyph, so that it reads without colour.
_GLYPHS = dict(zip((field for field, _, _ in PARTS), "█▓▒░#+", strict=True))


def print_found(seen: Outlook) -> None:
    """The recommendation, its alternatives, and what else there is."""
    out = console()
    best = seen.found.best
    if best is None:
        return
    roomy = seen.roomy(best)
    out.print(f"For {seen.found.task.words}, on {seen.box.name}:", markup=False)
    print_one(seen, roomy)
    for sentence in why(seen.found, seen.box):
        out.print(visible(sentence), markup=False)
    _print_command(seen, roomy, "bold green")
    for word, fit in _alternatives(seen):
        tps = spread(_rate(fit, seen.found.task))
        wait = _wait(fit.speed.first_token_s.expected)
        out.print(
            f"{word}: {name(fit)}, {tps} tokens/s after {wait}, quality {figure(fit)}",
            markup=False,
        )
        _print_command(seen, seen.roomy(fit), "green")
    out.print()
    out.print(catalogue_table(seen, seen.found.by_model[:_ROWS]))


def _alternatives(seen: Outlook) -> list[tuple[str, Fit]]:
    faster, better = seen.found.faster, seen.found.better
    if faster is not None and faster is better:
        return [("Faster and better", faster)]
    return [(word, fit) for word, fit in (("Faster", faster), ("Better", better)) if fit]


def _print_command(seen: Outlook, fit: Fit, style: str) -> None:
    words = command(fit, seen.found.task)
    if words:
        console().print(f"  {words}", style=style, markup=False)


def print_options(seen: Outlook) -> None:
    """Every quantization of the models asked for, what fits and what does not."""
    out = console()
    found = {id(fit.candidate): fit for fit in seen.found.fits}
    for model in dict.fromkeys(candidate.model for candidate in seen.candidates):
        group = [c for c in seen.candidates if c.model == model]
        first = group[0].build
        out.print(
            f"{visible(model)}: {format_count(first.n_params)} parameters, trained for"
            f" {first.context_train:,} tokens",
            style="bold",
            markup=False,
        )
        rows: list[Fit | Candidate] = [found.get(id(c), c) for c in group]
        out.print(options_table(seen, rows))
    best = seen.found.best
    if best is not None:
        roomy = seen.roomy(best)
        out.print("Recommended:", end=" ")
        print_one(seen, roomy)
        out.print(visible(next(why(seen.found, seen.box))), markup=False)
        _print_command(seen, roomy, "bold green")
    for candidate in seen.found.unfit[:3] if best is not None else ():
        # That a smaller type would fit stands in the table.
        changes = [c for c in seen.why_not(candidate).changes if not c.flags.startswith("--type")]
        out.print(
            f"{visible(candidate.model)} {candidate.file_type} would fit with"
            f" {' or '.join(change.words for change in changes)}.",
            style="dim",
            markup=False,
        )


def print_one(seen: Outlook, fit: Fit) -> None:
    """One way to run one model: bars, parts, speed, reasons."""
    out = console()
    build = fit.candidate.build
    out.print(
        f"{visible(fit.candidate.model or build.name)} {build.file_type}:"
        f" {format_count(build.n_params)} parameters, a file of {format_bytes(build.file_bytes)}"
        + (", installed" if fit.candidate.here else ""),
        style="bold",
        markup=False,
    )
    for pool, use in zip(seen.box.pools, fit.uses, strict=True):
        out.print(
            f"{pool.name:>8} [{bar(pool, use)}] {format_bytes(use.total_bytes)} of"
            f" {format_bytes(pool.free_bytes)} free",
            markup=False,
        )
    out.print("         " + "  ".join(_parts(fit.uses)), markup=False)
    for line in _speed(fit, seen.found.task):
        out.print(line, markup=False)
    for reason in list(reasons(seen.box, fit, seen.found.need))[_pools_used(fit) :]:
        out.print(reason, markup=False)
    out.print(f"The longest context that fits is {seen.longest(fit):,} tokens.", markup=False)


def _pools_used(fit: Fit) -> int:
    """How many reasons only say what the bars show."""
    return sum(1 for use in fit.uses if use.total_bytes)


def _parts(uses: tuple[PoolUse, ...]) -> Iterator[str]:
    for field, word, _ in PARTS:
        size = sum(getattr(use, field) for use in uses)
        if size:
            yield f"{_GLYPHS[field]} {word} {format_bytes(size)}"


def _rate(fit: Fit, task: Task) -> Interval:
    """The speed that counts: of writing, or of reading where nothing is written."""
    return fit.speed.decode_tps if task.writes else fit.speed.prefill_tps


def _speed(fit: Fit, task: Task) -> Iterator[str]:
    speed = fit.speed
    load, wait = (format_seconds(time.expected) for time in (speed.load_s, speed.first_token_s))
    if task.writes:
        yield (
            f"Writes {spread(speed.decode_tps)} tokens/s, with the context full"
            f" {spread(speed.decode_tps_deep)}; reads {spread(speed.prefill_tps)} tokens/s."
        )
        yield f"First word {wait} after a prompt of {speed.prompt_tokens:,} tokens."
    else:
        yield f"Reads {spread(speed.prefill_tps)} tokens/s: {speed.prompt_tokens:,} in {wait}."
    yield f"Loading takes about {load}. {speed.because}."


def bar(pool: Pool, use: PoolUse, width: int = _BAR_WIDTH) -> str:
    """The free part of a pool as a row of glyphs, filled by part; each part that is there shows."""
    cells = ""
    for field in _GLYPHS:
        size = getattr(use, field)
        if size:
            cells += _GLYPHS[field] * max(1, round(width * size / max(1, pool.free_bytes)))
    return cells[:width].ljust(width, "·")


def catalogue_table(seen: Outlook, fits: Iterable[Fit]) -> "Table":
    """A row for each of several models."""
    shown = _table("MODEL", "TYPE", "FILE", "TOKENS/S", "WAIT", "QUALITY")
    for fit in fits:
        cells = _cells(seen, fit)
        shown.add_row(visible(fit.candidate.model), *cells[:2], *cells[4:])
    return shown


def options_table(seen: Outlook, rows: Iterable[Fit | Candidate]) -> "Table":
    """A row for each quantization of one model, whether it fits or not."""
    shown = _table("TYPE", "FILE", "MEMORY", "CONTEXT", "TOKENS/S", "WAIT", "QUALITY")
    for row in rows:
        shown.add_row(*(_cells(seen, row) if isinstance(row, Fit) else _unfit(seen, row)))
    return shown


def _table(*titles: str) -> "Table":
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in titles:
        left = title in ("MODEL", "TYPE")
        shown.add_column(
            title,
            justify="left" if left else "right",
            no_wrap=title != "MODEL",  # where it is narrow: figures cut short would be wrong
            overflow="fold",
        )
    shown.add_column("", no_wrap=True)
    return shown


def _cells(seen: Outlook, fit: Fit) -> tuple[str, ...]:
    slow = not keeps_up(fit, seen.need, seen.found.task)
    return (
        fit.candidate.file_type,
        format_bytes(fit.candidate.file_bytes),
        format_bytes(sum(use.total_bytes for use in fit.uses)),
        f"{fit.setup.context:,}",
        _narrow(_rate(fit, seen.found.task)),
        _wait(fit.speed.first_token_s.expected),
        f"{fit.candidate.quality:.0f}",
        "installed" if fit.candidate.here else "slow" if slow else "fits",
    )


def _narrow(speed: Interval) -> str:
    """A speed, with its interval where there is room."""
    words = spread(speed)
    return words if console().width >= _WIDE else words.partition(" ")[0]


def _unfit(seen: Outlook, candidate: Candidate) -> tuple[str, ...]:
    return (
        candidate.file_type,
        format_bytes(candidate.file_bytes),
        format_bytes(seen.why_not(candidate).needed_bytes),
        "",
        "",
        "",
        f"{candidate.quality:.0f}",
        "too large",
    )


def _wait(seconds: float) -> str:
    """Until the first word: `0.4 s`, `28 s`, `4.6 min`."""
    if seconds >= 99.5:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"


def picture(seen: Outlook) -> str:
    """The recommendation and its alternatives as SVG."""
    best = [] if seen.found.best is None else [("", seen.found.best)]
    fits = [seen.roomy(fit) for _, fit in (*best, *_alternatives(seen))]  # as their commands do
    return svg(
        Bars(
            f"{fit.candidate.model} {fit.candidate.file_type}",
            f"{spread(_rate(fit, seen.found.task))} tokens/s, context {fit.setup.context:,},"
            f" quality {fit.candidate.quality:.0f} of 100",
            tuple(zip(seen.box.pools, fit.uses, strict=True)),
        )
        for fit in fits
    )
