"""`snugly plan --history`: past runs, predicted beside actual."""

from snugly.cli.render import console, note, print_json, visible
from snugly.history.measurements import recent
from snugly.machine.detect import detect
from snugly.machine.rates import fingerprint_text
from snugly.plan.speed_learning import HistoryRow, history_rows
from snugly.settings import Settings
from snugly.units import format_bytes

_MOST = 50


def print_history(config: Settings, as_json: bool) -> None:
    """The latest runs as a table, or as JSON.

    Raises: HistoryError.
    """
    here = fingerprint_text(detect(config.store))
    rows = history_rows(recent(_MOST, config.history), here)
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("There are no runs yet: `snugly run` and `snugly chat` leave one each.")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WHEN", no_wrap=True)
    table.add_column("MODEL", overflow="fold")
    for title in ("CONTEXT", "MEMORY", "WRITES", "READS"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("SET ASIDE", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    console().print(table)
    note("Each pair is predicted > actual; speeds in tokens per second.")
    if any(row.set_aside for row in rows):
        note("What is set aside teaches nothing about the speed of the next runs.")


def _cells(row: HistoryRow) -> tuple[str, ...]:
    peak = "?" if row.peak_bytes is None else format_bytes(row.peak_bytes)
    return (
        row.taken_at[:16].replace("T", " "),
        visible(row.model_ref),
        f"{row.context:,}",
        f"{format_bytes(row.predicted_bytes)} > {peak}",
        _pair(row.predicted_decode_tps, row.decode_tps),
        _pair(row.predicted_prefill_tps, row.prefill_tps),
        row.set_aside,
    )


def _pair(predicted: float | None, actual: float | None) -> str:
    return " > ".join("?" if value is None else f"{value:.1f}" for value in (predicted, actual))
