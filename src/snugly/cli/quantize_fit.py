"""`snugly quantize --budget` and `--fit`: a size, or a machine, becomes a file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.cli.render import console, note, print_json

if TYPE_CHECKING:
    from snugly.quantize.fit import Fit
    from snugly.quantize.fit_box import Place
    from snugly.quantize.fit_run import Fitted
    from snugly.quantize.open import Opened


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person asked for."""

    budget: int | None  # bytes: of the file, or of all with a context
    box: str | None  # a name, "" for this machine, None: no box
    context: int | None
    calibrate: tuple[str, ...]
    refine: bool | None
    min_speed: float | None
    out: str
    threads: int | None
    resume: bool
    as_json: bool


def quantize_to_fit(opened: "Opened", wanted: Wanted) -> None:
    """Make the file and show it with its neighbours."""
    done = fitted(opened, wanted)
    if wanted.as_json:
        print_json(document(done))
    else:
        _print(done)


def fitted(opened: "Opened", wanted: Wanted) -> "Fitted":
    """Learn what matters, choose, write and measure, with progress on stderr."""
    from snugly.cli.progress import shown
    from snugly.cli.progress_steps import steps
    from snugly.quantize.convert import outline
    from snugly.quantize.fit_run import Task, fit_and_write, source_path, texts
    from snugly.quantize.measure_kept import keep
    from snugly.quantize.types import Recipe
    from snugly.quantize.writer import check_target
    from snugly.settings import settings

    path = source_path(opened.source)
    for remark in (*opened.source.remarks, *outline(opened.source, Recipe("Q8_0")).remarks):
        note(remark)  # such as: the source is quantized already
    if wanted.out:  # said before minutes of work
        check_target(Path(wanted.out).expanduser(), opened.source.paths)
    whole = wanted.box is not None or wanted.context is not None
    learned, held = texts(wanted.calibrate)
    task = Task(opened.source, None if whole else wanted.budget, _place(path, wanted, whole),
                learned, held, settings().cache / "sensitivity", wanted.threads, wanted.refine,
                wanted.min_speed, wanted.resume)  # fmt: skip

    out = Path(wanted.out).expanduser()

    def name(fit: "Fit") -> Path:
        nonlocal out
        out = Path(wanted.out or f"{opened.name}-{fit.n_bytes / 1e9:.3g}GB.gguf").expanduser()
        return out

    try:
        done = fit_and_write(task, name, steps, shown())
    except KeyboardInterrupt:
        whole_now = out.is_file()
        note(f"{out} is whole; what it loses was not measured." if whole_now
             else "What is done stays; the same command with --resume goes on.")  # fmt: skip
        raise
    keep(path, str(done.path), done.loss, done.measured_on.name)
    return done


def document(done: "Fitted") -> dict[str, Any]:
    """What `--json` prints; documented in docs/fit.md."""
    return {
        "path": done.path.resolve(),
        "file_bytes": done.fit.n_bytes,
        "predicted_kld": done.fit.predicted_kld,
        "loss": done.loss,
        "measured_on": {"name": done.measured_on.name, "sha256": done.measured_on.sha256},
        "refined": done.refined,
        "seconds": done.seconds,
        "types": dict(Counter(t.ggml_type for t in done.fit.tensors).most_common()),
        "tensors": dict(done.fit.recipe.exact),
        "neighbours": done.neighbours,
    }


def _place(path: str, wanted: Wanted, whole: bool) -> "Place":
    from snugly.engine.outlook import Elsewhere, box_here_or
    from snugly.model.spec import read_spec
    from snugly.plan.types import Need
    from snugly.quantize.fit_box import Place
    from snugly.settings import settings

    box, learned, remarks = box_here_or(Elsewhere(name=wanted.box or None), settings())
    for remark in remarks:
        note(remark)
    need = Need(context=wanted.context, budget_bytes=wanted.budget if whole else None)
    return Place(box, need, read_spec(path), learned)


def _print(done: "Fitted") -> None:
    from rich.table import Table

    from snugly.units import format_bytes

    print(done.path)
    loss = done.loss
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SIZE", "BYTES", "KLD", "PREDICTED", "TOKENS/S", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for row in done.neighbours:
        here = row.n_bytes == done.fit.n_bytes
        speed = f"{row.decode_tps:.1f}" if row.decode_tps else "does not fit"
        kld = f"{loss.kld.value:.4f} ± {loss.kld.error:.4f}" if here else f"~{row.kld:.4f}"
        table.add_row(format_bytes(row.n_bytes), f"{row.n_bytes:,}", kld,
                      f"{row.predicted_kld:.4f}", speed, "this one" if here else "")  # fmt: skip
    console().print(table)
    types = Counter(tensor.ggml_type for tensor in done.fit.tensors).most_common()
    note(", ".join(f"{count} {kind}" for kind, count in types))
    note(f"KLD against the source on {loss.places} places of text that nothing was learnt from;"
         f" same top token {100 * loss.same_top.value:.1f}%.")  # fmt: skip
    note(f"`snugly run -m {done.path.resolve()} ...` uses it.")
