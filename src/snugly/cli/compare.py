"""`snugly compare`: what quantizations of a model lose, measured."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json, visible
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.quantize.measure import Text
    from snugly.quantize.report import Compared, Report


def compare(
    base: str,
    other: str,
    /,
    *others: str,
    text: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    context: int = 512,
    chunks: int = 20,
    questions: str = "",
    max_tokens: int = 128,
    report: str = "",
    threads: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure what a model loses against another: quantizations or fine-tunes of one model.

    Both read the same text side by side. Shown are the Kullback-Leibler divergence of their
    predictions (KLD, in nats per token), how often they agree, and the perplexities, each
    with its standard error.

    Parameters
    ----------
    base
        The model that is right: a GGUF file, an installed model, or a folder with a Hugging
        Face checkpoint (an extra: transformers).
    other
        The model that is measured against it.
    others
        More models to measure.
    text
        Files of text or code to measure on; may be given again. A text in many languages and
        code that comes with Snugly when left out.
    context
        Tokens of each chunk; the second half of each counts.
    chunks
        How many chunks, spread over the text; 0 takes all.
    questions
        A file with a question on each line: shows which answers change.
    max_tokens
        Longest answer to a question.
    report
        Write a page with pictures to this HTML file, and the pictures beside it as SVG.
    threads
        How many to compute with; one per usable core when left out.
    as_json
        Print everything as JSON.
    """
    made = compared((base, other, *others), text, context, chunks, threads, questions, max_tokens)
    if as_json:
        print_json(document(made))
    else:
        _print(made)
    if report:
        from snugly.quantize.report import write_report

        for written in write_report(made, Path(report).expanduser()):
            note(f"Written: {written}")


def compared(
    models: Sequence[str],
    text: Sequence[str],
    context: int,
    chunks: int,
    threads: int,
    questions: str = "",
    max_tokens: int = 128,
) -> "Report":
    """What models lose against the first of them; arguments as of the command."""
    from snugly.cli.progress_steps import steps
    from snugly.quantize.measure import bundled, measure_all, read_texts
    from snugly.quantize.measure_kept import keep

    paths = [_path(name) for name in models]
    if chunks < 0 or threads < 0:
        raise UserError("--chunks and --threads count from 0.", "", "Leave them out.")
    said = read_texts(text) if text else bundled("evaluation")
    asked = _answers(paths, questions, max_tokens) if questions else None
    with steps("Measuring") as watch:
        losses = measure_all(paths[0], paths[1:], said, context=context, most=chunks,
                             threads=threads or None, watch=watch)  # fmt: skip
    for path, loss in zip(paths[1:], losses, strict=True):
        keep(paths[0], path, loss, said.name)
    said_by = asked or [[] for _ in losses]
    found = list(map(_compared, paths[1:], losses, said_by))
    return _report(paths[0], said, context, found)


def document(report: "Report") -> dict[str, Any]:
    """What `--json` prints; documented in docs/compare.md."""
    return {
        "base": report.base,
        "base_bytes": report.base_bytes,
        "text": {"name": report.text, "sha256": report.text_sha256},
        "context": report.context,
        "compared": [
            {
                "name": item.name,
                "file_bytes": item.n_bytes,
                "loss": item.loss,
                "answers": [
                    {"question": pair.question, "base": pair.base, "other": pair.other,
                     "same": pair.same, "alike": round(pair.alike, 4)}
                    for pair in item.answers
                ],
            }
            for item in report.compared
        ],
        "remarks": report.remarks,
    }  # fmt: skip


def _path(name: str) -> str:
    """A file or a folder as it is; an installed model by its file."""
    from snugly.errors import UnknownModel
    from snugly.model.lookup import find
    from snugly.model.store import Store
    from snugly.settings import settings

    path = Path(name).expanduser()
    if path.exists():
        return str(path)
    installed = find(Store(settings().store), name)
    if not installed.path:
        raise UnknownModel(f"{name} has no file.")
    return installed.path


def _compared(path: str, loss: Any, answers: Any) -> "Compared":
    from snugly.quantize.report import Compared

    tensors: tuple[Any, ...] = ()
    if os.path.isfile(path):
        from snugly.quantize.reader import read_gguf

        tensors = tuple(item.tensor for item in read_gguf(path).tensors)
    return Compared(os.path.basename(path.rstrip("/")), _bytes(path), loss, tensors, tuple(answers))


def _bytes(path: str) -> int:
    """Of a GGUF with all its parts, or of a checkpoint's weights."""
    from snugly.model.spec import split_parts

    if os.path.isdir(path):
        return sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    return sum(os.path.getsize(part) for part in split_parts(path))


def _report(base: str, text: "Text", context: int, found: list["Compared"]) -> "Report":
    from snugly.quantize.report import Report

    return Report(os.path.basename(base.rstrip("/")), _bytes(base), text.name, text.sha256,
                  context, tuple(found))  # fmt: skip


def _answers(paths: list[str], questions: str, max_tokens: int) -> list[list[Any]]:
    """For each model after the first: its answers beside the first one's."""
    from snugly.cli.progress_steps import steps
    from snugly.quantize.measure_answers import Pair, ask, read_questions

    asked = read_questions(questions)
    said = []
    for path in paths:
        with steps(f"Asking {os.path.basename(path)}") as watch:
            said.append(ask(path, asked, max_tokens, watch))
    return [[Pair(*three) for three in zip(asked, said[0], other, strict=True)]
            for other in said[1:]]  # fmt: skip


def _print(report: "Report") -> None:
    from rich.table import Table

    from snugly.quantize.report import rows
    from snugly.units import format_bytes

    first = report.compared[0].loss
    out = console()
    out.print(f"Against {visible(report.base)} ({format_bytes(report.base_bytes)})", style="bold",
              markup=False)  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for item in report.compared:
        table.add_column(visible(item.name), justify="right")
    table.add_row("size", *(format_bytes(item.n_bytes) for item in report.compared))
    columns = [rows(item.loss) for item in report.compared]
    for number, (title, _) in enumerate(columns[0]):
        table.add_row(title, *(column[number][1] for column in columns))
    out.print(table)
    for item in report.compared:
        _print_answers(item)
    note(f"{first.places} places, {first.chunks} chunks of {report.context} tokens of"
         f" {report.text}; ± is the standard error between chunks.")  # fmt: skip


def _print_answers(item: "Compared") -> None:
    if not item.answers:
        return
    from rich.table import Table

    changed = [pair for pair in item.answers if not pair.same]
    out = console()
    out.print(f"\n{len(changed)} of {len(item.answers)} answers changed in {visible(item.name)}",
              style="bold", markup=False)  # fmt: skip
    if not changed:
        return
    table = Table(show_lines=True)
    for title in ("QUESTION", "FIRST", "THIS ONE"):
        table.add_column(title, ratio=1)
    for pair in changed:
        table.add_row(*(visible(text) for text in (pair.question, pair.base, pair.other)))
    out.print(table)
