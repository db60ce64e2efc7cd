"""Snugly from Python and in notebooks: the same answers as the commands, as values.

import snugly
snugly.machine()                                  # what this box has
snugly.plan(task="code", context=16384)           # the best of the catalogue here
snugly.plan("qwen3:8b", on="rtx 4060 ti 16gb")    # one model on another box
snugly.footprint("config.json", dtype="nf4")      # what transformers would print, and the truth
snugly.quantize("model-F16.gguf", budget="100MB") # a file of that size, its loss measured
snugly.compare("model-F16.gguf", "small.gguf")    # what was lost
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

from snugly.cli.machine_table import rows
from snugly.cli.plan_json import document
from snugly.cli.plan_view import picture
from snugly.engine.launch import measured_machine
from snugly.engine.offers import usual_task
from snugly.engine.outlook import Elsewhere, Outlook, look
from snugly.errors import UserError
from snugly.face_quantize import Comparison, Smaller, compare, quantize
from snugly.machine.types import Machine
from snugly.model.config_source import config_of
from snugly.model.footprint import Footprint, possible
from snugly.model.footprint import footprint as footprint_in
from snugly.model.module_tree import tree_of_config
from snugly.plan.types import Fit, Need
from snugly.plan.words import why
from snugly.settings import settings
from snugly.units import parse_bytes

__all__ = [
    "Comparison", "Footprints", "Planned", "Smaller",
    "compare", "footprint", "machine", "plan", "quantize",
]  # fmt: skip


class ShownMachine(Machine):
    """A `Machine` that shows itself as a table in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        head = "<tr><th></th><th>fact</th><th>value</th><th>from</th></tr>"
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows(self))
        return f"<table>{head}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def machine() -> Machine:
    """This machine, each fact with where it came from; rates where `--measure` was run.

    In a notebook it shows itself as a table.
    """
    found = measured_machine(settings())
    return ShownMachine(**{one.name: getattr(found, one.name) for one in fields(found)})


@dataclass(frozen=True)
class Planned:
    """What `plan` found. In a notebook it shows itself as a picture."""

    outlook: Outlook

    @property
    def best(self) -> Fit | None:
        """The recommendation; None when nothing fits."""
        return self.outlook.found.best

    @property
    def faster(self) -> Fit | None:
        """The best of those that are half as fast again."""
        return self.outlook.found.faster

    @property
    def better(self) -> Fit | None:
        """The quickest of those that answer better."""
        return self.outlook.found.better

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The best way to run each candidate that fits, best first."""
        return self.outlook.found.fits

    def as_dict(self) -> dict[str, Any]:
        """What `snugly plan --json` prints, as values."""
        from snugly.cli.render import jsonable

        found: dict[str, Any] = jsonable(document(self.outlook))
        return found

    def __repr__(self) -> str:
        if self.best is None:
            return f"<{' '.join(why(self.outlook.found, self.outlook.box))}>"
        fit = self.best
        return f"<{fit.candidate.ref}: one of {len(self.fits)} that fit>"

    def _repr_html_(self) -> str:
        if self.best is None:
            return f"<p>{escape(' '.join(why(self.outlook.found, self.outlook.box)))}</p>"
        return picture(self.outlook)


def plan(
    *models: str,
    task: str | None = None,
    context: int | None = None,
    type: str | None = None,  # noqa: A002 (the word of the command line)
    kv: str | None = None,
    min_speed: float | None = None,
    budget: str | int | None = None,
    on: str | None = None,
    ram: str | int | None = None,
    vram: str | int | None = None,
    bandwidth: str | float | None = None,
) -> Planned:
    """What fits, how fast it will be, and what to choose: see `snugly plan --help`.

    Amounts are bytes or text ("6GB"); `bandwidth` is per second; `min_speed` in tokens per
    second. Nothing is downloaded but headers of models that are not here.

    Raises: UserError, UnknownModel, BadModelFile, DownloadError.
    """
    where = Elsewhere(
        on, _bytes(ram), _bytes(vram), None if bandwidth is None else float(_bytes(bandwidth) or 0)
    )
    if min_speed is not None and not 0 <= min_speed < math.inf:
        raise UserError(f"{min_speed} is no speed.", "It is below zero, or not finite.")
    need = Need(
        context, _bytes(budget), task or usual_task(models), kv.upper() if kv else None, min_speed
    )
    types: Sequence[str] = (type,) if type else ()
    return Planned(look(models, need, settings(), where, types))


def _bytes(amount: str | float | None) -> int | None:
    if isinstance(amount, str):
        try:
            return parse_bytes(amount)
        except ValueError as error:
            raise UserError(f"{amount!r} cannot be read.", f"It is {error}.") from None
    if amount is not None and not 0 <= amount < math.inf:
        raise UserError(f"{amount} is no amount of memory.", "It is below zero, or not finite.")
    return None if amount is None else int(amount)


@dataclass(frozen=True)
class Footprints:
    """What a transformers model takes, by dtype. In a notebook it shows itself as a table."""

    name: str
    by_dtype: dict[str, Footprint]
    remarks: tuple[str, ...]

    def __getitem__(self, dtype: str) -> Footprint:
        """One dtype: `printed_bytes` is what transformers says, `true_bytes` adds the scales."""
        return self.by_dtype[dtype.lower()]

    def __repr__(self) -> str:
        sizes = (f"{dtype} {found.true_bytes / 1e9:.3f} GB"
                 for dtype, found in self.by_dtype.items())  # fmt: skip
        return f"<{self.name}: {', '.join(sizes)}>"

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><td>{dtype}</td><td>{found.printed_bytes / 1e9:.3f} GB</td>"
            f"<td>{found.true_bytes / 1e9:.3f} GB</td></tr>"
            for dtype, found in self.by_dtype.items()
        )
        head = "<tr><th>dtype</th><th>get_memory_footprint()</th><th>with scales</th></tr>"
        return f"<table><caption>{escape(self.name)}</caption>{head}{lines}</table>"


def footprint(model: str, dtype: str | Sequence[str] = ()) -> Footprints:
    """What `get_memory_footprint()` would print for a model, and the truth, from its config alone.

    `model` is a repository of the hub, a short name, a config.json or its folder; `dtype` one
    or several of float32, float16, bfloat16, int8, nf4, nf4-dq, fp4, fp4-dq, fp8.

    Raises: UserError, UnknownModel, DownloadError, BadModelFile.
    """
    sourced = config_of(model, settings())
    tree = tree_of_config(sourced.config, sourced.name)
    asked = (dtype,) if isinstance(dtype, str) else tuple(dtype)
    names = [name.lower() for name in asked] or possible(tree)
    found = {name: footprint_in(tree, name) for name in names}
    return Footprints(sourced.name, found, (*sourced.remarks, *tree.remarks))
