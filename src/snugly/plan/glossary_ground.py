"""What glossary examples are worked on: this machine, the example model, the catalogue. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from snugly.machine.types import Machine
from snugly.model.catalog import Entry, entries
from snugly.model.catalog_builds import builds
from snugly.model.module_tree import ModuleTree
from snugly.model.types import Attention, Build, ModelSpec
from snugly.plan.box import reserve_bytes
from snugly.plan.memory import pool_uses
from snugly.plan.types import EngineFacts, Placement, PoolUse, Setup
from snugly.units import format_bytes

EXAMPLE = "meta-llama/Llama-3.1-8B-Instruct"
NAME = "Llama 3.1 8B"
USUAL = "Q4_K_M"  # what most people run
CONTEXT = 8192
UBATCH = 512


@dataclass(frozen=True, slots=True)
class Ground:
    """What examples are worked on: this machine and the example model."""

    machine: Machine
    engine: EngineFacts
    spec: ModelSpec  # of EXAMPLE, in F16
    tree: ModuleTree  # the same in transformers


def usual(entry: Entry) -> Build:
    """The catalogue's own choice of quantization."""
    found = builds(entry)
    return next((b for b in found if b.file_type == entry.quantization), found[0])


def called(entry: Entry) -> str:
    """The model's own name."""
    return entry.original.partition("/")[2]


def nearest(count: int, active: float) -> Entry:
    """The model of the catalogue that is nearest in size, dense unless `active` is given."""
    known = [e for e in entries() if builds(e) and "chat" in e.tasks]
    alike = [e for e in known if (e.n_active < e.n_params) == bool(active)] or known

    def apart(entry: Entry) -> float:
        off = abs(entry.n_params / count - 1)
        return off + (abs(entry.n_active / active - 1) if active else 0.0)

    return min(alike, key=apart)


def first_with(wanted: Callable[[Attention], bool]) -> tuple[Entry, Build]:
    """The first model of the catalogue with such a layer, as it is usually fetched."""
    for entry in entries():
        if builds(entry) and any(map(wanted, builds(entry)[0].layers)):
            return entry, usual(entry)
    raise KeyError("no model of the catalogue has such layers")


def in_ram(
    ground: Ground,
    build: Build,
    context: int,
    *,
    flash_attention: bool = True,
    repack: bool = True,
) -> PoolUse:
    """What one sequence takes of this machine's RAM, on the CPU alone."""
    setup = Setup(min(context, build.context_train), flash_attention=flash_attention, repack=repack)
    return pool_uses(build, setup, Placement(), ground.machine.pools[:1], ground.engine)[0]


def _room(ground: Ground) -> int:
    pool = ground.machine.ram
    return max(0, pool.free_bytes - reserve_bytes(pool))


def longest(ground: Ground, build: Build) -> int:
    """The longest context in steps of doubling that fits the RAM; 0: not even the shortest."""
    best, context = 0, 512
    while context <= build.context_train:
        if in_ram(ground, build, context, repack=False).total_bytes <= _room(ground):
            best = context
        context *= 2
    return best


def fits(ground: Ground, build: Build) -> str:
    """What running it takes of the RAM here, in words; without second copies if need be."""
    context = min(CONTEXT, build.context_train)
    needed = in_ram(ground, build, context).total_bytes
    if needed > _room(ground):
        needed = in_ram(ground, build, context, repack=False).total_bytes
    free = ground.machine.ram.free_bytes
    verdict = "fits" if needed <= _room(ground) else "does not fit"
    return (
        f"With {context:,} tokens it takes {format_bytes(needed)} of RAM; here"
        f" {format_bytes(free)} is free: it {verdict}."
    )
