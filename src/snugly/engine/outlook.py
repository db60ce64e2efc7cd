"""What can be run on a box, seen whole: the box, what was asked, what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from snugly.engine import offers
from snugly.engine.facts import box_facts
from snugly.engine.launch import engine_facts, learned, measured_machine
from snugly.errors import UserError
from snugly.machine.load import Clock
from snugly.model.store import Store
from snugly.plan.box import Box, box_of
from snugly.plan.choose import check, check_cache, stretched
from snugly.plan.found import Found
from snugly.plan.remedy import longest_context, rejected
from snugly.plan.search import search, survey
from snugly.plan.setups import LEAST_CONTEXT
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.types import Candidate, Fit, Need, Rejected
from snugly.settings import Settings
from snugly.units import GiB, format_bytes

HERE = ("this", "this machine", "here")  # names of this machine
_HOST_BYTES = 16 * GiB  # RAM of a box of which only the GPU's memory was told


@dataclass(frozen=True)
class Outlook:
    """The answer to one question about one box."""

    box: Box
    need: Need
    found: Found
    candidates: tuple[Candidate, ...]
    models: tuple[str, ...]  # those asked for; (): the whole catalogue
    remarks: tuple[str, ...]
    learned: Corrections

    def why_not(self, candidate: Candidate) -> Rejected:
        """Why it does not fit, and the smallest changes that would help."""
        others = offers.siblings(candidate, self.candidates)
        return rejected(self.box, candidate, self.need, others)

    def longest(self, fit: Fit) -> int:
        """The longest context that fits with the same type of cache, in tokens; 0: none does."""
        need = replace(self.need, kv_type=fit.setup.kv_type)
        return longest_context(self.box, fit.candidate, need)

    def roomy(self, fit: Fit) -> Fit:
        """The same with a longer context where that is cheap and of use."""
        if not self.found.task.writes:
            return fit
        return stretched(self.box, fit, self.need, self.learned)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A box that is not this one: by name, or by its free bytes and its bandwidth per second."""

    name: str | None = None
    ram_bytes: int | None = None
    vram_bytes: int | None = None
    bandwidth: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether this machine is meant."""
        return self in (Elsewhere(), *(Elsewhere(name) for name in HERE))


def box_here_or(
    where: Elsewhere, config: Settings, begun: Clock | None = None
) -> tuple[Box, Corrections, tuple[str, ...]]:
    """The box that is meant, what was learned from runs on it, and what was assumed of it.

    `begun` is a clock read earlier, as for `measured_machine`.

    Raises: UserError for a name that is not known, or figures that contradict each other.
    """
    if where.is_here:
        machine = measured_machine(config, begun)
        return box_of(machine, engine_facts(machine)), learned(machine), ()
    from snugly.machine.boxes import box as named_box  # here: most plans are for this machine
    from snugly.machine.boxes import box_of as figures_box

    if where.name is not None:
        if where != Elsewhere(name=where.name):
            raise UserError(
                "A box is given by its name or by its figures.",
                "--on was given together with --ram, --vram or --bandwidth.",
            )
        other, name = named_box(where.name), where.name
    else:
        cards = (where.vram_bytes,) if where.vram_bytes else ()
        ram = _HOST_BYTES if where.ram_bytes is None else where.ram_bytes
        other, name = figures_box(ram, cards, where.bandwidth), "that machine"
    assumed = [fact.how for fact in other.missing]
    if where.name is None and where.ram_bytes is None:
        assumed.append(f"RAM was not named: {format_bytes(_HOST_BYTES)} are assumed.")
    return box_of(other, box_facts(other), name), NOTHING_LEARNT, tuple(assumed)


def look(
    models: Sequence[str],
    need: Need,
    config: Settings,
    where: Elsewhere = Elsewhere(),
    types: Sequence[str] = (),
    begun: Clock | None = None,
) -> Outlook:
    """Everything that can be said of `models` (or of the whole catalogue) on a box.

    Raises: UserError, UnknownModel, BadModelFile, DownloadError.
    """
    check_cache(need)
    if need.context is not None and need.context < LEAST_CONTEXT:
        raise UserError(
            f"A context of {need.context:,} tokens is too short to be of use.",
            "The question, the chat template and the answer all have to fit into it.",
            f"Ask for --context {LEAST_CONTEXT} or more.",
        )
    box, taught, assumed = box_here_or(where, config, begun)
    candidates, remarks = _candidates(models, need, config, types)
    found = (search if models else survey)(box, candidates, need, taught)
    return Outlook(box, need, found, candidates, tuple(models), (*assumed, *remarks), taught)


def _candidates(
    models: Sequence[str], need: Need, config: Settings, types: Sequence[str]
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """What is to be looked through, and what had to be assumed of it."""
    if not models:
        every = offers.catalogue(need.task, Store(config.store))
        wanted = {name.upper() for name in types}
        return tuple(c for c in every if not wanted or c.file_type in wanted), ()
    found = [offers.named(text, need.task, config, types) for text in models]
    candidates = tuple(candidate for offer in found for candidate in offer.candidates)
    for candidate in candidates:
        check(candidate, need)
    remarks = [remark for offer in found for remark in offer.remarks]
    if not any(candidate.ref for candidate in candidates):
        remarks.append("To run it, a GGUF file of it has to be found or made (`snugly quantize`).")
    return candidates, tuple(remarks)
