"""Which of several models serves a person best here, and which one would be worth fetching."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snugly.machine.types import Machine
from snugly.model.catalog import Entry
from snugly.model.catalog_quality import quality_of
from snugly.model.types import ModelSpec
from snugly.plan.choose import pool_for, reserve_bytes
from snugly.plan.types import EngineFacts, Plan
from snugly.units import GiB, MiB

SLOWEST_TPS = 5.0  # about the pace of slow reading; slower than this nobody waits for
# A guess for where nothing was measured: half of what two channels of DDR4-3200 have by
# their data sheet (51 GB/s). The full planner replaces it by a fitted roofline.
ASSUMED_BANDWIDTH = 25e9
# Of the copy rate that `--measure` finds, decoding reached 0.77 with a 1.5B and 0.40 with
# a 0.5B in Q4_K_M on two cores of Zen 5 (bench/bandwidth.py, docs/performance.md).
DECODE_SHARE = 0.6
# A suggestion leaves room for being wrong about the pace.
_SUGGESTED_TPS = 1.5 * SLOWEST_TPS
# Q4_K_M of 57 dense models of 1 to 72 billion parameters takes 0.60 to 0.66 bytes per
# parameter (a test derives it); used only where no list states a file's size.
_BYTES_PER_PARAMETER = 0.62
_USUAL_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A model that is not here, would fit, and is larger than what is. Bytes are estimates."""

    entry: Entry
    file_bytes: int
    needed_bytes: int


def bandwidth(machine: Machine) -> float:
    """Bytes per second that decoding can count on: from what was measured here, or assumed."""
    if machine.rates is None:
        return ASSUMED_BANDWIDTH
    known = [rate.value for _, rate in machine.rates.bandwidth_bytes_per_s if rate.value]
    return max(known) * DECODE_SHARE if known else ASSUMED_BANDWIDTH


def active_bytes(spec: ModelSpec) -> int:
    """Bytes of weights that one token reads: of a mixture, only the experts that it uses."""
    lookup = {"token_embd.weight"} if not spec.tied_embeddings else set()
    total = 0
    for tensor in spec.tensors:
        if tensor.name in lookup:
            continue
        if spec.experts and "_exps" in tensor.name:
            total += tensor.n_bytes * spec.experts_used // spec.experts
        else:
            total += tensor.n_bytes
    return total


def best(candidates: Sequence[tuple[ModelSpec, Plan]], machine: Machine) -> int | None:
    """Index of the candidate to run when nobody named one; None when there is none.

    The largest that decodes at a readable pace; if none does, the fastest.
    Models that cannot chat are never chosen.
    """
    rate = bandwidth(machine)
    pace = {
        i: rate / max(1, active_bytes(spec))
        for i, (spec, _) in enumerate(candidates)
        if spec.is_causal
    }
    if not pace:
        return None
    talks = {i for i in pace if candidates[i][0].chat_template} or set(pace)
    readable = [i for i in talks if pace[i] >= SLOWEST_TPS]
    if readable:
        return max(readable, key=lambda i: (candidates[i][0].n_params, pace[i]))
    return max(talks, key=lambda i: pace[i])


def better(
    entries: Iterable[Entry], machine: Machine, engine: EngineFacts, than_params: int
) -> Suggestion | None:
    """The best chat model of the catalogue that would fit and keep a readable pace.

    Best by `quality_of`, among those larger than what is here. Its size is taken with both
    copies of the weights, so a suggestion does not disappoint.
    """
    pool = pool_for(machine, engine)
    budget = pool.free_bytes - reserve_bytes(pool)
    slowest = bandwidth(machine) / _SUGGESTED_TPS
    fitting = []
    for entry in entries:
        size = entry.file_bytes or round(entry.n_params * _BYTES_PER_PARAMETER)
        if "chat" not in entry.tasks or entry.n_params <= than_params or size > slowest:
            continue
        needed = 2 * size + _kv_bytes(entry) + 200 * MiB
        if needed <= budget and size + 1 * GiB <= machine.disk.free_bytes.or_else(0):
            fitting.append(Suggestion(entry, size, needed))
    return max(fitting, key=lambda s: quality_of(s.entry, "chat").value, default=None)


def _kv_bytes(entry: Entry) -> int:
    context = min(_USUAL_CONTEXT, entry.context_train)
    return 2 * sum(
        layer.kv_heads
        * (layer.key_length + layer.value_length)
        * min(context, layer.window or context)
        for layer in entry.attention
    )
