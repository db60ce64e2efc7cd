"""`snugly usage`: what the server's models were used for."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.render import console, note, print_json

if TYPE_CHECKING:
    from snugly.history.requests import Asked, UsageLine


def usage(
    *,
    by: Literal["model", "client", "dialect", "day"] = "model",
    days: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    requests: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what the server's models were used for: requests, tokens, times, memory.

    Parameters
    ----------
    by
        What is summed: requests of each model, client, dialect or day.
    days
        Count only so many last days.
    requests
        List the latest so many requests, instead of sums per model.
    as_json
        Print it as JSON.
    """
    from snugly.history import requests as history
    from snugly.history.opening import opened

    since = ""
    if days is not None:
        since = (datetime.now(UTC) - timedelta(days=min(days, 36500))).isoformat()
    with opened() as db:
        lines = history.usage(db, since, by)
        latest = history.recent(db, requests) if requests is not None else ()
    if as_json:
        print_json({f"{by}s": lines} if requests is None else {"requests": latest})
    elif requests is not None:
        _print_requests(latest)
    else:
        _print_usage(lines, by)


def _print_usage(lines: "tuple[UsageLine, ...]", by: str) -> None:
    from rich.table import Table

    from snugly.units import format_bytes

    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = (by.upper(), "REQUESTS", "FAILED", "READ", "CACHED", "WRITTEN", "FIRST TOKEN", "PEAK")
    for title in titles:
        table.add_column(title, justify="left" if title == titles[0] else "right", no_wrap=True)
    for line in lines:
        table.add_row(
            line.name, str(line.requests), str(line.failed), f"{line.prompt_tokens:,}",
            f"{line.cached_tokens:,}", f"{line.completion_tokens:,}",
            "" if line.ttft_ms is None else f"{line.ttft_ms:,.0f} ms",
            "" if line.peak_bytes is None else format_bytes(line.peak_bytes),
        )  # fmt: skip
    if lines:
        console().print(table)
    else:
        note("No request yet: `snugly serve` writes them down.")


def _print_requests(latest: "tuple[Asked, ...]") -> None:
    for asked in latest:
        print(
            asked.started_at, asked.client, asked.path, asked.model or "-", asked.outcome,
            asked.status or "-", asked.prompt_tokens or 0, asked.completion_tokens or 0,
            f"{asked.total_ms or 0:.0f}", asked.error, sep="\t",
        )  # fmt: skip
