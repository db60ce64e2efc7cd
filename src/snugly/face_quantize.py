"""Quantizing and comparing from Python and in notebooks: values that show themselves.

import snugly
small = snugly.quantize("HuggingFaceTB/SmolLM2-135M", method="nf4")   # a checkpoint's folder
file = snugly.quantize("model-F16.gguf", budget="100MB")              # a GGUF, loss measured
snugly.compare("model-F16.gguf", file)                                # what was lost
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from snugly.cli.progress import shown
from snugly.errors import UserError
from snugly.quantize.measure_loss import Figure, Loss
from snugly.settings import settings
from snugly.units import format_bytes, format_seconds, parse_bytes

if TYPE_CHECKING:
    from snugly.quantize.fit_run import Fitted
    from snugly.quantize.report import Report
    from snugly.quantize.transformers_make import Made
    from snugly.quantize.types import Quantized

Models = str | os.PathLike[str]


@dataclass(frozen=True)
class Smaller:
    """A model that was made. In a notebook it shows itself as a table.

    It can be given wherever a path can: `from_pretrained(small)`, `snugly.compare(big, small)`.
    """

    path: Path  # a GGUF file, or the folder of a checkpoint
    method: str  # "Q4_K_M", "nf4", ...; "budget" for a file that was fitted
    file_bytes: int
    seconds: float
    bits_per_weight: float | None = None  # of a GGUF
    printed_bytes: int | None = None  # of a checkpoint: get_memory_footprint()
    true_bytes: int | None = None  # with the scales that it leaves out
    answer: str | None = None  # of a checkpoint: a sentence that was begun, and how it ends it
    kld: Figure | None = None  # measured, of a fitted file: nats per token against the source
    remarks: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)  # what transformers asks of a path

    def _repr_html_(self) -> str:
        rows = [("where", str(self.path)), ("made", self.method),
                ("on disk", format_bytes(self.file_bytes)),
                ("took", format_seconds(self.seconds))]  # fmt: skip
        if self.bits_per_weight is not None:
            rows.append(("bits per weight", f"{self.bits_per_weight:.2f}"))
        if self.printed_bytes is not None and self.true_bytes is not None:
            rows.append(("get_memory_footprint()", f"{self.printed_bytes / 1e6:.1f} MB"))
            rows.append(("with scales", f"{self.true_bytes / 1e6:.1f} MB"))
        if self.kld is not None:
            rows.append(("mean KLD", f"{self.kld.value:.4f} ± {self.kld.error:.4f}"))
        if self.answer:
            rows.append(("it says", self.answer))
        rows += [("", remark) for remark in self.remarks]
        cells = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
        return f"<table>{cells}</table>"


def quantize(
    model: Models,
    method: str | None = None,
    *,
    budget: str | int | None = None,
    context: int | None = None,
    on: str | None = None,
    calibrate: Sequence[Models] = (),
    out: Models = "",
    threads: int | None = None,
) -> Smaller:
    """A smaller form of a model, written to disk: see `snugly quantize --help`.

    `model`: an installed one, a GGUF file, a checkpoint's folder, or one of the hub, which is
    fetched. `method`: nf4, nf4-dq, fp4, fp4-dq, int8, bfloat16, ... make a checkpoint of
    transformers (an extra); Q4_K_M (when left out) and every other name of llama.cpp's a GGUF.
    `budget` (bytes, or "100MB") fits a GGUF to a size instead; with `context` that is what
    weights, cache and computing may take together; `on` fits it to a box by name, "" to this
    one. What exists is never overwritten; without `out` the result lies in this folder.

    Raises: UserError, UnknownModel, DoesNotFit, BadModelFile, DownloadError, EngineError.
    """
    from snugly.cli.quantize import DEFAULT
    from snugly.quantize.transformers_make import is_checkpoint_type

    if budget is not None or on is not None:
        if method is not None:
            raise UserError(
                f"A size leaves nothing to choose to method={method!r}.",
                "Each tensor gets the type that loses least.",
                "Leave one of them out.",
            )
        return _fitted(model, budget, context, on, calibrate, out, threads)
    if context is not None or calibrate:
        raise UserError("context and calibrate belong to a budget, or to on.", "", "Give one.")
    if method is not None and is_checkpoint_type(method):
        return _checkpoint(model, method, out, threads)
    return _gguf(model, method or DEFAULT, out, threads)


def _gguf(model: Models, method: str, out: Models, threads: int | None) -> Smaller:
    from snugly.quantize.convert import quantize as write
    from snugly.quantize.open import open_source
    from snugly.quantize.types import Recipe

    opened = open_source(os.fspath(model), settings(), shown())
    path = Path(out or f"{opened.name}-{method.upper()}.gguf").expanduser()
    done: Quantized = write(opened.source, path, Recipe(method), threads=threads, progress=shown())
    remarks = tuple(dict.fromkeys((*opened.source.remarks, *done.remarks)))
    return Smaller(done.path, method.upper(), done.n_bytes, done.seconds,
                   bits_per_weight=done.bits_per_weight, remarks=remarks)  # fmt: skip


def _checkpoint(model: Models, method: str, out: Models, threads: int | None) -> Smaller:
    from snugly.cli.quantize_checkpoint import made

    done: Made = made(os.fspath(model), method, os.fspath(out), threads)
    return Smaller(done.path, done.dtype, done.file_bytes, done.seconds,
                   printed_bytes=done.printed_bytes, true_bytes=done.true_bytes,
                   answer=done.answer, remarks=done.remarks)  # fmt: skip


def _fitted(
    model: Models,
    budget: str | int | None,
    context: int | None,
    on: str | None,
    calibrate: Sequence[Models],
    out: Models,
    threads: int | None,
) -> Smaller:
    from snugly.cli.quantize_fit import Wanted, fitted
    from snugly.quantize.open import open_source

    wanted = Wanted(
        _bytes(budget), on, context, tuple(os.fspath(file) for file in calibrate), refine=None,
        min_speed=None, out=os.fspath(out), threads=threads, resume=False, as_json=False,
    )  # fmt: skip
    done: Fitted = fitted(open_source(os.fspath(model), settings(), shown()), wanted)
    weights = sum(tensor.n_elements for tensor in done.fit.tensors)
    bits = 8 * sum(tensor.n_bytes for tensor in done.fit.tensors) / weights
    return Smaller(done.path, "budget", done.path.stat().st_size, sum(done.seconds.values()),
                   bits_per_weight=bits, kld=done.loss.kld)  # fmt: skip


def _bytes(amount: str | int | None) -> int | None:
    if amount is None or isinstance(amount, int) and amount > 0:
        return amount
    try:
        return parse_bytes(str(amount))
    except ValueError as error:
        raise UserError(f"{amount!r} is no size.", f"It is {error}.", "Write 100MB.") from None


@dataclass(frozen=True)
class Comparison:
    """What models lose against the first. In a notebook it shows itself with pictures."""

    report: "Report"

    @property
    def losses(self) -> dict[str, Loss]:
        """All figures of each model, by its name."""
        return {item.name: item.loss for item in self.report.compared}

    @property
    def kld(self) -> Figure:
        """Mean KL divergence of the only model, or of the first of several: nats per token."""
        return self.report.compared[0].loss.kld

    def save(self, path: Models) -> list[Path]:
        """Write the page with its pictures; returns what was written. Raises: UserError."""
        from snugly.quantize.report import write_report

        return write_report(self.report, Path(path).expanduser())

    def __repr__(self) -> str:
        klds = (f"{name}: {loss.kld.value:.4f} ± {loss.kld.error:.4f}"
                for name, loss in self.losses.items())  # fmt: skip
        return f"<mean KLD against {self.report.base}: {', '.join(klds)}>"

    def _repr_html_(self) -> str:
        from snugly.quantize.report import pictures, table

        shown_ones = pictures(self.report)
        return f"<p>Against {escape(self.report.base)}</p>{table(self.report)}" + "".join(
            picture for name, picture in shown_ones.items() if not name.startswith("types")
        )


def compare(
    base: Models,
    other: Models,
    *others: Models,
    text: Models | Sequence[Models] = (),
    context: int = 512,
    chunks: int = 20,
    threads: int | None = None,
) -> Comparison:
    """What models lose against the first one, measured on a text: see `snugly compare --help`.

    `text`: files to measure on; one that comes with Snugly when left out. `chunks` of `context`
    tokens, spread over it; 0 takes all.

    Raises: UserError, UnknownModel, BadModelFile, EngineError.
    """
    from snugly.cli.compare import compared

    texts = (text,) if isinstance(text, str | os.PathLike) else text
    models = [os.fspath(model) for model in (base, other, *others)]
    return Comparison(
        compared(models, [os.fspath(one) for one in texts if one], context, chunks, threads or 0)
    )
