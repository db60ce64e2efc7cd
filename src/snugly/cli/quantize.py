"""`snugly quantize`: a model in another type, tensor by tensor."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.render import note, print_json
from snugly.errors import UserError

if TYPE_CHECKING:
    from snugly.quantize.types import Quantized


# Types of GGUF files that transformers has too, under its own names.
_ALIKE = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
DEFAULT = "Q4_K_M"  # llama.cpp's own advice, and what most publishers upload first


def quantize(
    source: str,
    /,
    *,
    to: str = "",
    budget: str = "",
    fit: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    context: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    calibrate: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    refine: bool | None = None,
    min_speed: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    out: str = "",
    imatrix: str = "",
    tensor: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    resume: Annotated[bool, Parameter(negative="")] = False,
    threads: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Make a smaller file of a model: any of llama.cpp's quantizations.

    The original is only read. Best from F32, F16, BF16 or Q8_0; a split model is given by
    any of its files. With a type of transformers (nf4, int8, ...) a checkpoint is made.

    Parameters
    ----------
    source
        An installed model, a GGUF file, a folder with a Hugging Face checkpoint, or one of
        the hub (publisher/model or hf:publisher/model), which is fetched.
    to
        What it becomes: Q4_K_M, IQ3_XXS, Q8_0, F16, ... or a publisher's Q4_K_L; Q4_K_M
        when left out. For transformers: nf4, nf4-dq (double quantization), fp4, fp4-dq,
        int8, bfloat16, float16 or float32, which need an extra.
    budget
        Bytes that the file may have (6GB): each tensor gets the type that loses least in all.
        With --context, what weights, cache and computing may take together.
    fit
        The largest that runs on this machine, or on the box that is named ("rtx 4060 8gb").
    context
        Tokens that the cache must hold, with --budget or --fit.
    calibrate
        Files of text that tell what matters, for --budget and --fit; a text in many languages
        and code when left out.
    refine
        Measure groups of tensors and choose again, however long writing takes; when left out,
        for small models alone, and writing is kept short.
    min_speed
        Tokens per second that the file must reach, as `snugly plan` expects, with --budget
        or --fit.
    out
        File (or folder, for transformers) to write; nothing of that name may exist. In this
        folder when left out.
    imatrix
        Importance matrix of the model, as llama-imatrix writes it.
    tensor
        PATTERN=TYPE: tensors whose name has the pattern (a regular expression) get this
        type. May be given again; the first that fits decides.
    resume
        Go on with an unfinished file of the same work; a type of transformers is made in one go.
    threads
        How many pieces are converted at once; one per usable core when left out.
    as_json
        Print what was written as JSON.
    """
    from snugly.cli.progress import shown
    from snugly.cli.quantize_checkpoint import quantize_checkpoint
    from snugly.cli.quantize_fit import Wanted, quantize_to_fit
    from snugly.quantize.convert import outline
    from snugly.quantize.convert import quantize as write
    from snugly.quantize.open import open_source
    from snugly.quantize.reader_imatrix import read_imatrix
    from snugly.quantize.transformers_make import is_checkpoint_type
    from snugly.quantize.types import Recipe
    from snugly.settings import settings

    if threads < 0:
        raise UserError("--threads is below zero.", "", "Leave it out to use every core.")
    fitted = bool(budget) or fit is not None
    _refuse_contradictions(
        fitted,
        by_type={"--to": to, "--imatrix": imatrix, "--tensor": tensor},
        by_size={"--context": context, "--calibrate": calibrate, "--min-speed": min_speed,
                 "--refine": refine is True, "--no-refine": refine is False},
    )  # fmt: skip
    if fitted:
        wanted = Wanted(_bytes(budget), None if fit is None else " ".join(fit), context, calibrate,
                        refine, min_speed, out, threads or None, resume, as_json)  # fmt: skip
        quantize_to_fit(open_source(source, settings(), shown()), wanted)
        return
    to = to or DEFAULT
    if is_checkpoint_type(to):
        quantize_checkpoint(source, to, out, threads, as_json=as_json,
                            others={"--imatrix": imatrix, "--tensor": tensor,
                                    "--resume": resume})  # fmt: skip
        return
    recipe = Recipe(to, tuple(map(_pair, tensor)))
    opened = open_source(source, settings(), shown())
    matrix = read_imatrix(os.path.expanduser(imatrix)) if imatrix else None
    path = Path(out).expanduser() if out else Path(f"{opened.name}-{to.upper()}.gguf")
    for remark in (*opened.source.remarks, *outline(opened.source, recipe, matrix).remarks):
        note(remark)
    try:
        done = write(opened.source, path, recipe, imatrix=matrix, threads=threads or None,
                     progress=shown(), resume=resume)  # fmt: skip
    except KeyboardInterrupt:
        note("What is done stays; the same command with --resume goes on.")
        raise
    if as_json:
        print_json(document(done, recipe.to))
    else:
        _print(done)
    plain = _ALIKE.get(to.upper(), "")
    if plain and opened.source.paths[0].endswith(".safetensors"):
        note(f"It is a GGUF file; `--to {plain}` makes a checkpoint of transformers.")


def _refuse_contradictions(
    fitted: bool, by_type: Mapping[str, object], by_size: Mapping[str, object]
) -> None:
    """Raise UserError for options that say nothing to the way that was chosen."""
    given = [name for name, value in (by_type if fitted else by_size).items() if value]
    if not given:
        return
    if fitted:
        raise UserError(
            f"A size leaves nothing to choose to {_listed(given)}.",
            "With --budget or --fit the model is read to learn what matters, and every tensor's"
            " type is chosen by that.",
            f"Leave {_listed(given)} out, or leave --budget and --fit out.",
        )
    raise UserError(
        f"There is no size for {_listed(given)}.",
        f"A file of type {by_type['--to'] or DEFAULT} is as large as its type makes it.",
        f"Say with --budget or --fit how large the file may be, or leave {_listed(given)} out.",
    )


def _listed(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _bytes(budget: str) -> int | None:
    from snugly.units import parse_bytes

    try:
        return parse_bytes(budget) if budget else None
    except ValueError as error:
        raise UserError("--budget is no size.", f"It is {error}.", "Write 6GB or 900MiB.") from None


def document(done: "Quantized", to: str) -> dict[str, Any]:
    """What `--json` prints; documented in docs/quantize.md."""
    return {
        "path": done.path.resolve(),
        "to": to.upper(),
        "file_bytes": done.n_bytes,
        "bits_per_weight": round(done.bits_per_weight, 4),
        "seconds": round(done.seconds, 3),
        "types": dict(Counter(tensor.ggml_type for tensor in done.tensors).most_common()),
        "remarks": done.remarks,
    }


def _print(done: "Quantized") -> None:
    from snugly.units import format_bytes, format_seconds

    print(done.path)
    types = Counter(tensor.ggml_type for tensor in done.tensors).most_common()
    note(
        f"{format_bytes(done.n_bytes)}, {done.bits_per_weight:.2f} bits per weight, in "
        f"{format_seconds(done.seconds)}: " + ", ".join(f"{n} {kind}" for kind, n in types)
    )
    note(f"`snugly run -m {done.path.resolve()} ...` uses it.")


def _pair(text: str) -> tuple[str, str]:
    pattern, sign, kind = text.rpartition("=")
    if not sign or not pattern or not kind:
        raise UserError(
            f"{text!r} says no type for a tensor.",
            "A pattern and a type are written PATTERN=TYPE.",
            "For example --tensor ffn_down=Q6_K.",
        )
    return pattern, kind
