"""The largest file of a model that a box holds together with its cache. Pure."""

from dataclasses import dataclass, replace

from snugly.errors import DoesNotFit
from snugly.model.build import build_of
from snugly.model.types import ModelSpec
from snugly.plan.box import Box
from snugly.plan.candidates import candidate_of
from snugly.plan.choose import check
from snugly.plan.search import best_way
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.types import Fit as Way
from snugly.plan.types import Need
from snugly.quantize.fit import Fit, Fitter
from snugly.units import format_bytes

_STEPS = 14  # halvings: the room between nothing and everything in 1/16,384


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is to run, and for what."""

    box: Box
    need: Need
    spec: ModelSpec  # of the source
    learned: Corrections = NOTHING_LEARNT

    @property
    def most_bytes(self) -> int:
        """What weights, cache and computing may take together."""
        free = sum(self.box.budgets)
        return min(free, self.need.budget_bytes or free)

    def way(self, fit: Fit) -> Way | None:
        """How a file would run there; None where it does not fit."""
        weights = sum(tensor.n_bytes for tensor in fit.tensors)
        spec = replace(self.spec, tensors=fit.tensors, weight_bytes=weights,
                       file_bytes=fit.n_bytes, file_type=fit.recipe.to)  # fmt: skip
        candidate = candidate_of(build_of(spec), self.spec.path)
        check(candidate, self.need)
        return best_way(self.box, candidate, self.need, self.learned)

    def decode_tps(self, fit: Fit) -> float | None:
        """Expected tokens per second, where the file fits."""
        way = self.way(fit)
        return way.speed.decode_tps.expected if way else None


def no_way(place: Place, least: int) -> DoesNotFit:
    """The error for a model that does not fit in its smallest types, of `least` bytes."""
    return DoesNotFit(
        f"No quantization of {place.spec.name} fits with this context on {place.box.name}.",
        f"The smallest file takes {format_bytes(least)} besides its cache;"
        f" {format_bytes(place.most_bytes)} may be taken.",
        "Ask for a smaller --context, or take a smaller model.",
    )


def largest(fitter: Fitter, place: Place) -> Fit:
    """The best file that fits, with weights, cache and what computing takes.

    Raises: DoesNotFit when not even the smallest does; UserError for an impossible context.
    """
    lowest, highest = fitter.bounds()
    best = fitter.fit(lowest)
    if place.way(best) is None:
        raise no_way(place, best.n_bytes)
    top = fitter.fit(highest)
    if place.way(top) is not None:
        return top
    for _ in range(_STEPS):
        middle = (lowest + highest) // 2
        fit = fitter.fit(middle)
        if place.way(fit) is not None:
            lowest, best = middle, fit
        else:
            highest = middle
    return best
