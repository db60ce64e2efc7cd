"""`snugly plan`: what a model would take, before it is downloaded or loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.prompt import file_text
from snugly.cli.render import console, note, print_json, visible
from snugly.engine.launch import engine_facts, measured_machine
from snugly.errors import DoesNotFit, UserError
from snugly.machine.types import Machine
from snugly.model.config import open_points, spec_of_config
from snugly.model.remote import look_up
from snugly.model.remote_types import Distant
from snugly.model.types import ModelSpec
from snugly.plan.choose import or_refuse
from snugly.plan.sizes import Option, in_type, option, options, with_ram
from snugly.plan.types import Need, Plan
from snugly.settings import settings
from snugly.units import format_bytes, format_count, parse_bytes

_BAR_WIDTH = 48
# What fills the bar, by glyph, so that it reads without colour.
_BAR = (
    ("weights_bytes", "weights", "█"),
    ("repack_bytes", "faster copy", "▓"),
    ("kv_bytes", "cache", "▒"),
    ("compute_bytes", "buffers", "░"),
    ("overhead_bytes", "engine", "+"),
)


def plan(
    model: str,
    /,
    *,
    quantization: Annotated[str | None, Parameter(name=["--type", "-t"])] = None,
    context: Annotated[int | None, Parameter(validator=Number(gt=0))] = None,
    ram: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what a model would take, before it is downloaded or loaded.

    Parameters
    ----------
    model
        An installed model, a GGUF file, or any model that `snugly pull` would fetch: its
        header alone is read. Also a URL of a GGUF, or a config.json of the Hugging Face hub:
        all its quantizations are planned from that alone.
    quantization
        Plan the model in this quantization (Q4_K_M, IQ3_XXS, Q8_0, ...); where there is no GGUF
        file yet, the usual ones are compared without it.
    context
        Tokens that prompt and answer may take together; without it the plan chooses.
    ram
        Plan for a machine with so much free memory (8GiB) and no GPU.
    as_json
        Print everything as JSON.
    """
    known = _known(model)
    spec, remarks = known.spec, known.remarks
    quantization = quantization or known.asked_type or None
    machine = _machine(ram)
    facts = engine_facts(machine)
    need = Need(context=context)
    if quantization is None and not known.is_file:
        found = options(machine, spec, need, facts)
    else:
        chosen = spec if quantization is None else in_type(spec, quantization)
        found = (option(machine, chosen, need, facts),)
    if as_json:
        print_json({"name": spec.name, "parameters": spec.n_params,
                    "context_train": spec.context_train, "options": found,
                    "remarks": remarks})  # fmt: skip
    elif len(found) == 1:
        _print_one(spec, found[0])
    else:
        _print_all(spec, found)
    for remark in remarks:
        note(remark)
    _demand_one(found)


def _known(model: str) -> Distant:
    """The model to plan, here or from afar, and what had to be assumed of it."""
    if not model.endswith(".json"):
        return look_up(model, settings())
    path = Path(model).expanduser()
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    config = _config(path)
    spec = spec_of_config(config, name)
    # A config tells nothing of the tokenizer's merges: as many as tokens is the usual case.
    spec = replace(spec, n_merges=spec.n_merges or spec.vocab_size)
    return Distant(model, spec, open_points(config, name), False, 0)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(file_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON.", f"{error}.") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a model's configuration.", "It is not a JSON object.")
    return config


def _machine(ram: str | None) -> Machine:
    machine = measured_machine(settings())
    if ram is None:
        return machine
    try:
        return with_ram(machine, parse_bytes(ram))
    except ValueError as error:
        raise UserError(f"--ram {ram} cannot be read.", f"It is {error}.") from None


def _print_one(spec: ModelSpec, found: Option) -> None:
    plan = or_refuse(found.choice)
    out = console()
    out.print(
        f"{visible(spec.name)}, {found.type_name}: {format_count(spec.n_params)} parameters,"
        f" a file of {format_bytes(found.file_bytes)}",
        style="bold",
        markup=False,
    )
    out.print(
        f"[{bar(plan)}] {format_bytes(plan.pools[0].free_bytes)} of {plan.pools[0].name} free",
        markup=False,
    )
    for field, name, glyph in _BAR:
        size = getattr(plan.estimate, field)
        if size:
            out.print(f"  {glyph} {name:<12}{format_bytes(size):>10}", markup=False)
    out.print(f"    {'in all':<12}{format_bytes(plan.estimate.total_bytes):>10}", markup=False)
    for reason in plan.why[1:]:
        out.print(reason, markup=False)
    out.print(f"The longest context that fits is {found.longest_context:,} tokens.", markup=False)


def bar(plan: Plan, width: int = _BAR_WIDTH) -> str:
    """The pool as a row of glyphs, filled by part; each part that is there shows."""
    cells = ""
    for field, _, glyph in _BAR:
        size = getattr(plan.estimate, field)
        if size:
            cells += glyph * max(1, round(width * size / max(1, plan.pools[0].free_bytes)))
    return cells[:width].ljust(width, "·")


def _print_all(spec: ModelSpec, found: tuple[Option, ...]) -> None:
    from rich.table import Table

    out = console()
    out.print(
        f"{visible(spec.name)}: {format_count(spec.n_params)} parameters, trained for"
        f" {spec.context_train:,} tokens",
        style="bold",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TYPE", "FILE", "MEMORY", "CONTEXT", "LONGEST"):
        table.add_column(title, justify="left" if title == "TYPE" else "right", no_wrap=True)
    table.add_column("", overflow="fold")
    for item in found:
        fits = isinstance(item.choice, Plan)
        needed = (
            item.choice.estimate.total_bytes
            if isinstance(item.choice, Plan)
            else item.choice.needed_bytes
        )
        table.add_row(
            item.type_name,
            format_bytes(item.file_bytes),
            format_bytes(needed),
            f"{item.choice.context:,}" if isinstance(item.choice, Plan) else "",
            f"{item.longest_context:,}" if item.longest_context else "",
            "fits" if fits else "does not fit",
        )
    out.print(table)


def _demand_one(found: tuple[Option, ...]) -> None:
    """Exit as every command does when nothing fits: with numbers."""
    if any(isinstance(item.choice, Plan) for item in found):
        return
    smallest = min(found, key=lambda item: item.file_bytes)
    if len(found) == 1:
        or_refuse(smallest.choice)
    raise DoesNotFit(
        "No quantization fits.",
        f"Even {smallest.type_name}, a file of {format_bytes(smallest.file_bytes)}, needs more"
        " than is free.",
        "Free some memory, lower --context, or take a smaller model.",
    )
