"""`snugly quantize --budget` and `--fit`: a size, or a machine, becomes a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.cli.render import console, note, print_json
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.quantize.fit import Fit, Fitter
    from snugly.quantize.fit_box import Place
    from snugly.quantize.measure import Text
    from snugly.quantize.measure_loss import Loss
    from snugly.quantize.open import Opened

_MEASURED = 4  # chunks of 512 tokens on which the result is measured
# Bits per weight between a file and its neighbours in the table: about the step from Q4_K_M to
# Q5_K_M, or to Q3_K_M (docs/quantization.md).
_STEP_BITS = 0.75


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person asked for."""

    budget: int | None  # bytes: of the file, or of all with a context
    box: str | None  # a name, "" for this machine, None: no box
    context: int | None
    calibrate: tuple[str, ...]
    out: str
    threads: int | None
    resume: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: this file, or one that was not written."""

    n_bytes: int
    predicted_kld: float
    kld: float  # measured, or expected from what was measured
    decode_tps: float | None


def quantize_to_fit(opened: "Opened", wanted: Wanted) -> None:
    """Learn what matters, choose, write, measure, and show it with its neighbours."""
    from snugly.cli.progress import shown
    from snugly.cli.progress_steps import steps
    from snugly.quantize.fit import write
    from snugly.quantize.measure import measure

    path = _gguf(opened)
    learned, held = _texts(wanted)
    fitter = _fitter(opened, path, learned, wanted)
    place = _place(path, wanted)
    fit = _chosen(fitter, place, wanted)
    out = Path(wanted.out).expanduser() if wanted.out else _name(opened.name, fit)
    try:
        done = write(fitter, fit, out, threads=wanted.threads, progress=shown(),
                     resume=wanted.resume)  # fmt: skip
    except KeyboardInterrupt:
        note("What is done stays; the same command with --resume goes on.")
        raise
    with steps("Measuring") as watch:
        loss = measure(path, str(out), held, most=_MEASURED, threads=wanted.threads,
                       watch=watch, exact=True)  # fmt: skip
    rows = _rows(fitter, fit, loss, place)
    if wanted.as_json:
        print_json(document(out, fit, loss, rows, held, done.seconds))
    else:
        _print(out, fit, loss, rows)


def document(
    out: Path, fit: "Fit", loss: "Loss", rows: list[Row], text: "Text", seconds: float
) -> dict[str, Any]:
    """What `--json` prints; documented in docs/fit.md."""
    from collections import Counter

    return {
        "path": out.resolve(),
        "file_bytes": fit.n_bytes,
        "predicted_kld": fit.predicted_kld,
        "loss": loss,
        "measured_on": {"name": text.name, "sha256": text.sha256},
        "seconds": round(seconds, 3),
        "types": dict(Counter(tensor.ggml_type for tensor in fit.tensors).most_common()),
        "tensors": dict(fit.recipe.exact),
        "neighbours": rows,
    }


def _gguf(opened: "Opened") -> str:
    path = opened.source.paths[0]
    if not path.endswith(".gguf") or len(opened.source.paths) > 1:
        raise UserError(
            "Only a GGUF in one file can be fitted to a size.",
            "What matters in the model is learnt by running it.",
            "Make one first, with `snugly quantize ... --to F16`.",
        )
    return path


def _texts(wanted: Wanted) -> tuple["Text", "Text"]:
    """To learn from and to measure on. Of a person's own text the last fifth is for measuring."""
    from snugly.quantize.measure import bundled, read_texts

    if not wanted.calibrate:
        return bundled("calibration"), bundled("evaluation")
    whole = read_texts(wanted.calibrate)
    at = len(whole.text) * 4 // 5
    return replace(whole, text=whole.text[:at]), replace(whole, text=whole.text[at:])


def _fitter(opened: "Opened", path: str, text: "Text", wanted: Wanted) -> "Fitter":
    from snugly.cli.progress_steps import steps
    from snugly.quantize.fit import learn
    from snugly.settings import settings

    weights = sum(item.tensor.n_elements for item in opened.source.tensors)
    # Below 3 bits per weight the smallest types are worth their time.
    tiny = wanted.budget is not None and wanted.budget * 8 / weights < 3
    with steps("Learning what matters") as watch:
        return learn(path, opened.source, text, settings().cache / "sensitivity", tiny=tiny,
                     threads=wanted.threads, watch=watch)  # fmt: skip


def _place(path: str, wanted: Wanted) -> "Place":
    from snugly.engine.outlook import Elsewhere, box_here_or
    from snugly.model.spec import read_spec
    from snugly.plan.types import Need
    from snugly.quantize.fit_box import Place
    from snugly.settings import settings

    box, learned, remarks = box_here_or(Elsewhere(name=wanted.box or None), settings())
    for remark in remarks:
        note(remark)
    budget = wanted.budget if wanted.context or wanted.box is not None else None
    return Place(box, Need(context=wanted.context, budget_bytes=budget), read_spec(path), learned)


def _chosen(fitter: "Fitter", place: "Place", wanted: Wanted) -> "Fit":
    from snugly.quantize.fit_box import largest

    if wanted.box is None and not wanted.context:
        assert wanted.budget is not None
        return fitter.fit(wanted.budget)
    return largest(fitter, place)


def _name(stem: str, fit: "Fit") -> Path:
    return Path(f"{stem}-{fit.n_bytes / 1e9:.3g}GB.gguf")


def _rows(fitter: "Fitter", fit: "Fit", loss: "Loss", place: "Place") -> list[Row]:
    """One size down, this, one size up. Losses of the others: by how this one came out."""
    weights = sum(tensor.n_elements for tensor in fit.tensors)
    step = int(weights * _STEP_BITS / 8)
    lowest, highest = fitter.bounds()
    sizes = [size for size in (fit.n_bytes - step, fit.n_bytes + step) if lowest <= size <= highest]
    ratio = loss.kld.value / fit.predicted_kld if fit.predicted_kld else 1.0
    fits = sorted([fit, *map(fitter.fit, sizes)], key=lambda item: item.n_bytes)
    return [Row(item.n_bytes, item.predicted_kld, item.predicted_kld * ratio,
                place.decode_tps(item)) for item in fits]  # fmt: skip


def _print(out: Path, fit: "Fit", loss: "Loss", rows: list[Row]) -> None:
    from collections import Counter

    from rich.table import Table

    from snugly.units import format_bytes

    print(out)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SIZE", "BYTES", "KLD", "PREDICTED", "TOKENS/S", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        here = row.n_bytes == fit.n_bytes
        speed = f"{row.decode_tps:.1f}" if row.decode_tps else "does not fit"
        kld = f"{loss.kld.value:.4f} ± {loss.kld.error:.4f}" if here else f"~{row.kld:.4f}"
        table.add_row(format_bytes(row.n_bytes), f"{row.n_bytes:,}", kld,
                      f"{row.predicted_kld:.4f}", speed, "this one" if here else "")  # fmt: skip
    console().print(table)
    types = Counter(tensor.ggml_type for tensor in fit.tensors).most_common()
    note(", ".join(f"{count} {kind}" for kind, count in types))
    note(f"KLD against the source on {loss.places} places of text that nothing was learnt from;"
         f" same top token {100 * loss.same_top.value:.1f}%.")  # fmt: skip
    note(f"`snugly run -m {out.resolve()} ...` uses it.")
