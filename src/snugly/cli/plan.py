"""`snugly plan`: what fits, how fast, and what to choose, before anything is downloaded."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.begun import BEGUN
from snugly.cli.plan_compare import columns, compared, print_columns
from snugly.cli.plan_history import print_history
from snugly.cli.plan_json import document
from snugly.cli.plan_view import picture, print_found, print_one, print_options
from snugly.cli.render import note, print_json
from snugly.engine.offers import usual_task
from snugly.engine.outlook import Elsewhere, Outlook, look
from snugly.errors import DoesNotFit, UserError
from snugly.plan.remedy import refusal
from snugly.plan.types import Need
from snugly.settings import Settings, settings
from snugly.units import parse_bytes


def plan(
    *models: str,
    task: Annotated[str | None, Parameter(name=["--for"])] = None,
    context: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    quantization: Annotated[str | None, Parameter(name=["--type", "-t"])] = None,
    kv: str | None = None,
    min_speed: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    budget: str | None = None,
    on: str | None = None,
    ram: str | None = None,
    vram: str | None = None,
    bandwidth: str | None = None,
    compare: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    plot: Path | None = None,
    history: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what fits, how fast it will be, and what to choose, before anything is downloaded.

    Parameters
    ----------
    models
        Models to plan: a name of the catalogue, an installed model, a GGUF file, a
        config.json, a repository or URL of which only the headers are read. Without any the
        whole catalogue is searched.
    task
        What for: chat, code, complete, summarize, reason, translate, embed or rerank; without
        it chat, or what the model that is named is made for.
    context
        Tokens that prompt and answer may take together; without it the task decides.
    quantization
        Only this quantization (Q4_K_M, IQ3_XXS, Q8_0, ...).
    kv
        Type of the KV cache (f16, q8_0, ...); without it f16, or q8_0 where that is needed.
    min_speed
        Tokens per second below which it is too slow; without it the task decides.
    budget
        Most memory that the model may take, of all pools together (6GB).
    on
        Plan for another box: "rtx 4060 ti 16gb", "m3 max 64gb", "raspberry pi 5 8gb".
    ram
        Plan for a machine with so much RAM (16GiB), of which a desktop takes its share.
    vram
        Memory of that machine's GPU (12GiB).
    bandwidth
        Bytes per second that the memory of that machine delivers (100GB): its GPU's with
        --vram, else its RAM's.
    compare
        Boxes to compare: what each runs, how fast, for what.
    plot
        Write the picture as SVG to this file.
    history
        Show past runs, predicted beside actual.
    as_json
        Print everything as JSON.
    """
    for_what = task or usual_task(models)
    need = Need(
        context, _bytes("--budget", budget), for_what, kv.upper() if kv else None, min_speed
    )
    config = settings()
    if history:
        print_history(config, as_json)
        return
    if compare is not None:
        if models or on or ram or vram or bandwidth or plot or task:
            raise UserError(
                "Boxes are compared over the whole catalogue, for every use.",
                "A model, --for, another box or --plot was given together with --compare.",
                "Leave it out, or plan for one box at a time: snugly plan MODEL --on BOX.",
            )
        _compare(compare, need, config, as_json)
        return
    where = Elsewhere(
        on, _bytes("--ram", ram), _bytes("--vram", vram), _bytes("--bandwidth", bandwidth)
    )
    seen = look(models, need, config, where, (quantization,) if quantization else (), BEGUN)
    if plot is not None:
        _write(plot, picture(seen))
    if as_json:
        print_json(document(seen))
    elif not models:
        print_found(seen)
    elif len(seen.candidates) > 1:
        print_options(seen)
    elif seen.found.best is not None:
        print_one(seen, seen.roomy(seen.found.best))
    for remark in seen.remarks:
        note(remark)
    _demand_one(seen)


def _compare(boxes: list[str], need: Need, config: Settings, as_json: bool) -> None:
    found = columns(boxes, need, config)
    if as_json:
        print_json(compared(found))
    else:
        print_columns(found)


def _bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UserError(f"{option} {text} cannot be read.", f"It is {error}.") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written.", f"{error.strerror}.") from None


def _demand_one(seen: Outlook) -> None:
    """Exit as every command does when nothing fits: with numbers."""
    if seen.found.best is not None:
        return
    if not seen.candidates:
        raise DoesNotFit(
            "No model of the catalogue comes in that form.", "", "Leave out --type or --for."
        )
    wanted = seen.need.context or 0
    able = [c for c in seen.candidates if c.build.context_train >= wanted]
    if not able:
        longest = max(c.build.context_train for c in seen.candidates)
        raise UserError(
            f"No model of the catalogue can use a context of {wanted:,} tokens.",
            "It is more than any was trained for.",
            f"Ask for at most --context {longest}.",
        )
    smallest = min(able, key=lambda c: c.file_bytes)
    raise refusal(seen.why_not(smallest))
