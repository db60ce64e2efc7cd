"""What was compared, as a page with pictures. Pure but for writing the files."""

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from snugly.errors import UserError
from snugly.model.types import Tensor
from snugly.quantize.measure_answers import Pair, changed_words
from snugly.quantize.measure_loss import Figure, Loss
from snugly.quantize.report_svg import Point, front, heat_map, positions
from snugly.units import format_bytes


@dataclass(frozen=True, slots=True)
class Compared:
    """One model beside the first one."""

    name: str
    n_bytes: int
    loss: Loss
    tensors: tuple[Tensor, ...] = ()  # of a GGUF
    answers: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison of one or more models with the first one, on one text."""

    base: str
    base_bytes: int
    text: str
    text_sha256: str
    context: int
    compared: tuple[Compared, ...]
    remarks: tuple[str, ...] = field(default=())


# What is shown of each loss: (title, how it is written)
def rows(loss: Loss) -> list[tuple[str, str]]:
    """The figures of a loss with their standard errors, as people read them."""
    return [
        ("mean KLD", _number(loss.kld)),
        ("99% KLD", _number(loss.kld_p99)),
        ("99.9% KLD", _number(loss.kld_p999)),
        ("same top token", _percent(loss.same_top)),
        ("probability change", _percent(loss.p_change, sign=True)),
        ("its root mean square", _percent(loss.p_change_rms)),
        ("perplexity ratio", _number(loss.perplexity_ratio)),
        ("perplexity", _number(loss.perplexity)),
        ("of the first", _number(loss.perplexity_base)),
    ]


def _number(figure: Figure) -> str:
    if figure.error != figure.error:
        return f"{figure.value:.4g}"
    places = 4 if figure.value < 10 else 2
    return f"{figure.value:.{places}f} ± {figure.error:.{places}f}"


def _percent(figure: Figure, sign: bool = False) -> str:
    value = f"{100 * figure.value:{'+' if sign else ''}.2f}"
    return f"{value}%" if figure.error != figure.error else f"{value} ± {100 * figure.error:.2f}%"


def pictures(report: Report) -> dict[str, str]:
    """Name -> SVG."""
    points = [Point(c.name, c.n_bytes, c.loss.kld.value, c.loss.kld.error)
              for c in report.compared if c.n_bytes]  # fmt: skip
    found = {"size-and-loss": front(points)}
    for number, item in enumerate(report.compared, 1):
        suffix = f"-{number}" if len(report.compared) > 1 else ""
        found[f"loss-over-position{suffix}"] = positions(item.loss.by_position, report.context)
        if item.tensors:
            found[f"types{suffix}"] = heat_map(item.tensors)
    return {name: picture for name, picture in found.items() if picture}


_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}
th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin-bottom:1rem}
.pair div{border-left:3px solid #2166ac;padding-left:.6rem;overflow-wrap:anywhere}
mark{background:#fdae61}small{opacity:.7}
"""


def page(report: Report) -> str:
    """The whole page; nothing in it is fetched from anywhere."""
    shown = pictures(report)
    first = report.compared[0].loss
    text = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Snugly compare</title>',
        f"<style>{_STYLE}</style><h1>What is lost against {escape(report.base)}</h1>",
        f"<p>{first.places:,} places in {first.chunks} chunks of {report.context} tokens of"
        f" {escape(report.text)} <small>(SHA-256 {report.text_sha256[:16]})</small>;"
        f" the first model has {format_bytes(report.base_bytes)}."
        " Errors are standard errors between chunks.",
        *(f"<p>{escape(remark)}" for remark in report.remarks),
        table(report),
        *(f"<h2>{escape(_title(name, report))}</h2>{svg}" for name, svg in shown.items()),
        *(_answers(report.base, item) for item in report.compared if item.answers),
    ]
    return "\n".join(text) + "\n"


def table(report: Report) -> str:
    """The figures as an HTML table, a column for each model."""
    heads = "".join(f"<th>{escape(item.name)}" for item in report.compared)
    sizes = "".join(f"<td>{format_bytes(item.n_bytes)}" for item in report.compared)
    columns = [rows(item.loss) for item in report.compared]
    lines = [
        f"<tr><td>{escape(title)}" + "".join(f"<td>{escape(column[n][1])}" for column in columns)
        for n, (title, _) in enumerate(columns[0])
    ]
    return f"<table><tr><th>{heads}<tr><td>size{sizes}{''.join(lines)}</table>"


def _title(name: str, report: Report) -> str:
    stem, _, number = name.rpartition("-")
    if not number.isdigit():
        return name.replace("-", " ").capitalize()
    return f"{stem.replace('-', ' ').capitalize()}: {report.compared[int(number) - 1].name}"


def _answers(base: str, item: Compared) -> str:
    changed = [pair for pair in item.answers if not pair.same]
    text = [f"<h2>Answers: {len(changed)} of {len(item.answers)} changed in"
            f" {escape(item.name)}</h2>"]  # fmt: skip
    for pair in changed:
        left, right = [], []
        for tag, mine, theirs in changed_words(pair.base, pair.other):
            wrap = "<mark>{}</mark>" if tag == "changed" else "{}"
            left.append(wrap.format(escape(mine)) if mine else "")
            right.append(wrap.format(escape(theirs)) if theirs else "")
        text.append(
            f"<h3>{escape(pair.question)}</h3><div class='pair'><div><b>{escape(base)}</b><br>"
            f"{' '.join(left)}</div><div><b>{escape(item.name)}</b><br>"
            f"{' '.join(right)}</div></div>"
        )
    return "\n".join(text)


def write_report(report: Report, path: Path) -> list[Path]:
    """Write the page, and each picture beside it as SVG. Returns what was written.

    Raises: UserError when that is not possible.
    """
    written = []
    files = {path: page(report)} | {
        path.with_name(f"{path.stem}-{name}.svg"): picture
        for name, picture in pictures(report).items()
    }
    for target, text in files.items():
        try:
            target.write_text(text, "utf-8")
        except OSError as error:
            raise UserError(
                f"{os.fspath(target)} cannot be written.", f"{error.strerror or error}.",
                "Choose another place with --report.",
            ) from error  # fmt: skip
        written.append(target)
    return written
