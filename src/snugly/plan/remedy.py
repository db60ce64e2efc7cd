"""What does not fit, and the smallest changes that would make it fit. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from snugly.errors import DoesNotFit
from snugly.plan.box import Box
from snugly.plan.memory import pool_uses
from snugly.plan.search import fits_at, place
from snugly.plan.setups import LEAST_CONTEXT, tightest
from snugly.plan.types import Candidate, Change, Need, Placement, Rejected
from snugly.units import format_bytes


def rejected(
    box: Box, candidate: Candidate, need: Need, siblings: Sequence[Candidate] = ()
) -> Rejected:
    """Why `candidate` does not fit, and what would help.

    `siblings` are the same model in other quantizations.
    """
    return Rejected(
        model_name=candidate.build.name,
        needed_bytes=_least(box, candidate, need),
        pools=box.pools,
        budgets=box.budgets,
        changes=tuple(changes(box, candidate, need, siblings)),
    )


def _least(box: Box, candidate: Candidate, need: Need) -> int:
    """Bytes that it takes at least, in RAM, at the context asked for or the shortest.

    A cache type that this model's heads cannot be kept in counts as F16.
    """
    build = candidate.build
    setup = tightest(need.context or LEAST_CONTEXT, need)
    try:
        uses = pool_uses(build, setup, Placement(), box.pools, box.engine)
    except ValueError:
        plain = replace(setup, kv_type="F16", v_type=None)
        uses = pool_uses(build, plain, Placement(), box.pools, box.engine)
    return sum(use.total_bytes for use in uses)


def changes(
    box: Box, candidate: Candidate, need: Need, siblings: Sequence[Candidate]
) -> Iterator[Change]:
    """Single changes that make it fit, the least felt first.

    An 8-bit cache costs next to nothing; half of the context is often spare; a smaller
    type costs quality; then a short context; last what is not ours to change.
    """
    for kind in ("Q8_0", "F16"):  # heads of some models are no whole blocks of 32
        if need.kv_type not in (None, kind) and fits_at(
            box, candidate, replace(need, kv_type=kind)
        ):
            yield Change(f"a KV cache in {kind.lower()}", f"--kv {kind.lower()}")
            break
    asked = need.context
    context = longest_context(box, candidate, need) if asked else 0
    shorter = Change(f"a context of {context:,} tokens", f"--context {context}")
    if asked and context * 2 >= asked:
        yield shorter
    smaller = _smaller(box, candidate, need, siblings)
    if smaller is not None:
        name = smaller.file_type
        yield Change(f"the quantization {name}", f"--type {name}")
    if asked and 0 < context and context * 2 < asked:
        yield shorter
    if need.budget_bytes is not None:
        free = replace(need, budget_bytes=None)
        if fits_at(box, candidate, free):
            more = format_bytes(_shortage(box, candidate, need))
            yield Change(f"a budget larger by {more}", "")
            return
    yield Change(f"{format_bytes(_shortage(box, candidate, need))} more free memory", "")


def _smaller(
    box: Box, candidate: Candidate, need: Need, siblings: Sequence[Candidate]
) -> Candidate | None:
    """The largest sibling that is smaller and fits."""
    small = [other for other in siblings if other.file_bytes < candidate.file_bytes]
    small.sort(key=lambda other: other.file_bytes, reverse=True)
    return next((other for other in small if fits_at(box, other, need)), None)


def _shortage(box: Box, candidate: Candidate, need: Need) -> int:
    """Bytes that are missing at least, all pools together."""
    wanted = _least(box, candidate, need)
    most = sum(box.budgets)
    if need.budget_bytes is not None:
        most = min(most, need.budget_bytes)
    return max(1, wanted - most)


def longest_context(box: Box, candidate: Candidate, need: Need) -> int:
    """The longest context that fits, in steps of 256 cells; 0: not even the shortest does.

    At most what the model was trained for; batches small, no second copy of the weights.
    """

    def fits(context: int) -> bool:
        return any(place(box, candidate, tightest(context, need), need))

    most = candidate.build.context_train
    if not fits(min(LEAST_CONTEXT, most)):
        return 0
    if fits(most):
        return most
    low, high = LEAST_CONTEXT // 256, -(-most // 256)  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * 256) else (low, middle)
    return low * 256


def refusal(no: Rejected) -> DoesNotFit:
    """The refusal as an error with its numbers."""
    free = " and ".join(f"{format_bytes(pool.free_bytes)} of {pool.name}" for pool in no.pools)
    kept = sum(pool.free_bytes for pool in no.pools) - sum(no.budgets)
    words = [change.words for change in no.changes]
    remedy = f"It would fit with {' or '.join(words)}."
    return DoesNotFit(
        f"{no.model_name} does not fit this machine.",
        f"It needs {format_bytes(no.needed_bytes)}; {free} is free, of which"
        f" {format_bytes(kept)} stays with the rest of the machine.",
        remedy,
    )
