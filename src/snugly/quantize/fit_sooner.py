"""Of choices that lose as good as the same, the one that is written sooner. Pure.

Some types take ten times as long to write as others of their size: a search over codebooks.
"""

from dataclasses import replace

from snugly.quantize.fit import Fit, Fitter

# Million weights per second and core, with an importance matrix; mostly their ratios count.
# Source: `python bench/quantize_time.py writing` (EPYC 9005, libggml-python 0.20.2).
WRITING = {
    "IQ1_S": 7.1, "IQ1_M": 7.1, "IQ2_XXS": 3.5, "IQ2_XS": 2.0, "IQ2_S": 5.7, "Q2_K": 9.6,
    "IQ3_XXS": 2.9, "Q3_K": 31, "IQ3_S": 4.0, "MXFP4": 220, "IQ4_XS": 5.7, "Q4_K": 12,
    "IQ4_NL": 5.7, "Q4_0": 43, "Q4_1": 12, "Q5_K": 11, "Q5_0": 42, "Q5_1": 12, "Q6_K": 38,
    "Q8_0": 470, "F16": 500,
}  # fmt: skip
# What the time to write the whole in Q4_K is worth, in shares of the loss. A 1.5B of 4.1 to 5
# bits per weight then takes 2 to 12% less time and loses at most 0.5% more, one of 3.1 to 3.6
# bits 12 to 38% and at most 4% (`python bench/quantize_time.py sooner`).
_WORTH = 0.05
# Below 4 bits per weight the best choice takes three times as long as Q4_K. What goes beyond
# this many times is not waited for: time gets the lowest price that brings it down, and where
# that price brings it down too far, only as many tensors as it takes have to pay it. A 1.5B then
# takes under 360 s of processors from nothing to a measured file, three minutes of two cores.
_LONGEST = 1.2
_SHORT = 120.0  # seconds of a core that are always waited for: SmolLM2 in any types takes half
_HIGHEST = 3.2  # a price that few types of a search survive
_STEPS = 5  # halvings of the prices' logarithm, then of the tensors
_MORE = 2  # times the higher price, for these tensors
_USED = 0.998  # of the bytes; a choice that leaves more is not better for being quick


def sooner(fitter: Fitter, fit: Fit, *, patient: bool = False) -> Fit:
    """A choice of at most the bytes of `fit`, by loss and a little by the time to write it.

    One that takes too long is given up for one that loses more, unless `patient`.
    """
    found = _priced(fitter, fit, _WORTH) or fit
    most = max(_LONGEST * _whole(fitter, fit), _SHORT)
    if patient or seconds_of(found) <= most:
        return found
    low, high = _WORTH, _HIGHEST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        other = _priced(fitter, fit, middle)
        if other and seconds_of(other) > most:
            low = middle
        else:
            high, found = middle, other or found
    return _mixed(fitter, fit, (low, high), most, found)


def _mixed(fitter: Fitter, fit: Fit, prices: tuple[float, float], most: float, found: Fit) -> Fit:
    """The better of `found` and a choice where only some tensors pay the higher price."""
    low, high = prices
    sizes = {tensor.name: tensor.n_elements for tensor in fit.tensors}
    names = sorted(fit.recipe.exact, key=lambda name: sizes[name])  # embeddings last: a large step
    few, many = 0, len(names)
    for _ in range(_STEPS):
        count = (few + many) // 2
        hurry = dict.fromkeys(names[:count], _MORE * high / low)
        other = _priced(replace(fitter, hurry=hurry), fit, low)
        if other and seconds_of(other) > most:
            few = count
            continue
        many = count
        if other and (seconds_of(found) > most or other.predicted_kld < found.predicted_kld):
            found = other
    return found


def seconds_of(fit: Fit) -> float:
    """What a core takes to write a choice, by `WRITING`."""
    types = fit.recipe.exact
    return sum(tensor.n_elements / 1e6 / WRITING[types[tensor.name]]
               for tensor in fit.tensors if tensor.name in types)  # fmt: skip


def _priced(fitter: Fitter, fit: Fit, worth: float) -> Fit | None:
    """The choice where the time to write the whole in Q4_K is worth this share of the loss.

    None when it leaves bytes unused.
    """
    price = worth * fit.predicted_kld / _whole(fitter, fit)  # nats for a second
    prices = {kind: price / 1e6 / rate for kind, rate in WRITING.items()}
    found = fitter.of(replace(fitter, write_prices=prices).fit(fit.n_bytes).recipe.exact)
    return found if found.n_bytes >= _USED * fit.n_bytes else None


def _whole(fitter: Fitter, fit: Fit) -> float:
    """Seconds of a core for all that is chosen, in Q4_K."""
    weights = sum(item.tensor.n_elements for item in fitter.source.tensors
                  if item.tensor.name in fit.recipe.exact)  # fmt: skip
    return weights / 1e6 / WRITING["Q4_K"]
