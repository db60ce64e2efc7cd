"""A file that is fast enough: speed is given a price, the lowest one that makes it so. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from snugly.errors import DoesNotFit
from snugly.model.ggml_types import TENSOR_TYPES
from snugly.quantize.fit import Fit, Fitter
from snugly.quantize.fit_box import Place

_STEPS = 16  # halvings of the logarithm of the price, over ten decades
_DECADES = (-4.0, 6.0)  # of a price, relative to all of the loss for all of the time


def seconds_by_type(fitter: Fitter, place: Place) -> dict[str, float]:
    """Expected seconds per weight and token of each type on the box, as the planner has them.

    A type that does not fit the box as a whole costs in proportion to its bytes.
    """
    found: dict[str, float] = {}
    names = [name for name in fitter.sensitivity.errors if name != fitter.table]
    weights = sum(item.tensor.n_elements for item in fitter.source.tensors
                  if item.tensor.name in names)  # fmt: skip
    for kind in sorted({kind for name in names for kind in fitter.sensitivity.errors[name]}):
        types = {name: kind if kind in tried else max(tried, key=_bits)
                 for name, tried in fitter.sensitivity.errors.items()}  # fmt: skip
        if speed := place.decode_tps(fitter.of(types)):
            found[kind] = 1 / speed / weights
    if not found:
        return {}
    slowest = max(found, key=_bits)
    every = {kind for tried in fitter.sensitivity.errors.values() for kind in tried}
    return {kind: found.get(kind, found[slowest] * _bits(kind) / _bits(slowest)) for kind in every}


def fast_enough(fitter: Fitter, place: Place, budget: int, least_tps: float) -> Fit:
    """The best file of at most `budget` bytes that is expected to decode so fast.

    Raises: DoesNotFit when none does; UserError as `Fitter.fit`.
    """
    best = fitter.fit(budget)
    if (place.decode_tps(best) or 0.0) >= least_tps:
        return best
    seconds = seconds_by_type(fitter, place)
    unit = best.predicted_kld * least_tps  # all of the loss for the time of a token
    found: Fit | None = None
    fastest = 0.0
    low, high = _DECADES
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fit = _priced(fitter, seconds, unit * 10**middle).fit(budget)
        speed = place.decode_tps(fit) or 0.0
        fastest = max(fastest, speed)
        if speed >= least_tps:
            found, high = fit, middle
        else:
            low = middle
    if found is None:
        raise DoesNotFit(
            f"No file of this size decodes {least_tps:g} tokens per second on {place.box.name}.",
            f"The fastest that was found is expected to reach {fastest:.1f}.",
            "Ask for less with --min-speed, give a smaller --budget, or take a smaller model.",
        )
    return found


def _priced(fitter: Fitter, seconds: Mapping[str, float], price: float) -> Fitter:
    return replace(fitter, prices={kind: price * each for kind, each in seconds.items()})


def _bits(kind: str) -> float:
    _, block, size = next(row for row in TENSOR_TYPES.values() if row[0] == kind)
    return 8 * size / block
