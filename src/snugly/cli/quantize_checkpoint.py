"""`snugly quantize --to nf4`: a checkpoint of transformers, in one of its types."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.cli.render import note, print_json, visible
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.quantize.transformers_make import Made


def quantize_checkpoint(
    source: str, to: str, out: str, threads: int, *, others: Mapping[str, object], as_json: bool
) -> None:
    """Make the checkpoint and say what it takes. `others`: options that mean nothing here."""
    given = [name for name, value in others.items() if value]
    if given:
        raise UserError(
            f"--to {to.lower()} takes no {' and no '.join(given)}.",
            "It is a type of transformers, which holds the model in memory and writes it at the"
            " end: after an interruption there is nothing to go on with."
            if given == ["--resume"]
            else "It is a type of transformers; the other options are for GGUF files.",
            f"Leave {'it' if len(given) == 1 else 'them'} out, or choose a type of llama.cpp's,"
            " such as Q4_K_M.",
        )
    done = made(source, to, out, threads or None)
    if as_json:
        print_json(document(done))
    else:
        _print(done)


def made(source: str, to: str, out: str, threads: int | None) -> "Made":
    """A checkpoint of that type, made with progress on stderr; in this folder without `out`."""
    from snugly.cli.progress import shown
    from snugly.cli.progress_steps import steps
    from snugly.quantize.open import locate
    from snugly.quantize.transformers_libraries import demand
    from snugly.quantize.transformers_make import make_checkpoint
    from snugly.settings import settings

    demand()  # before anything is fetched
    path, name = locate(source, settings(), shown())
    target = Path(out or f"{name}-{to.lower()}").expanduser()
    with steps(f"Making {target.name}") as watch:
        return make_checkpoint(path, target, to, threads=threads, watch=watch)


def document(made: "Made") -> dict[str, Any]:
    """What `--json` prints; documented in docs/quantize.md."""
    return {
        "path": made.path.resolve(),
        "to": made.dtype,
        "file_bytes": made.file_bytes,
        "printed_bytes": made.printed_bytes,
        "true_bytes": made.true_bytes,
        "answer": made.answer,
        "seconds": round(made.seconds, 3),
        "remarks": made.remarks,
    }


def _print(made: "Made") -> None:
    from snugly.units import format_bytes, format_seconds

    print(made.path)
    note(
        f"{format_bytes(made.file_bytes)} in {format_seconds(made.seconds)}. In memory"
        f" {made.true_bytes / 1e6:.1f} MB; get_memory_footprint() prints"
        f" {made.printed_bytes / 1e6:.1f} MB."
    )
    for remark in made.remarks:
        note(remark)
    if made.answer:
        note(f"Loaded again, it says: {visible(made.answer)!r}")
    note(f'`AutoModelForCausalLM.from_pretrained("{made.path}")` uses it.')
