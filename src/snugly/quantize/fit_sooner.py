"""Of choices that lose as good as the same, the one that is written sooner. Pure.

Some types take ten times as long to write as others of their size: a search over codebooks.
"""

from dataclasses import replace

from snugly.quantize.fit import Fit, Fitter

# Million weights per second and core, with an importance matrix; only their ratios count.
# Source: `python bench/quantize_time.py writing` (EPYC 9005, libggml-python 0.20.2).
WRITING = {
    "IQ1_S": 7.1, "IQ1_M": 7.1, "IQ2_XXS": 3.5, "IQ2_XS": 2.0, "IQ2_S": 5.7, "Q2_K": 9.6,
    "IQ3_XXS": 2.7, "Q3_K": 31, "IQ3_S": 3.6, "MXFP4": 49, "IQ4_XS": 5.7, "Q4_K": 12,
    "IQ4_NL": 5.7, "Q4_0": 43, "Q4_1": 12, "Q5_K": 11, "Q5_0": 42, "Q5_1": 12, "Q6_K": 38,
    "Q8_0": 350, "F16": 500,
}  # fmt: skip
# What the time to write the whole in Q4_K is worth, in shares of the loss. A 1.5B of 3.6 to 5
# bits per weight then takes 2 to 16% less time and loses at most 0.4% more; at 0.1 it is 11 to
# 48% and up to 8% (`python bench/quantize_time.py sooner`).
_WORTH = 0.05
_USED = 0.998  # of the bytes; a choice that leaves more is not better for being quick


def sooner(fitter: Fitter, fit: Fit) -> Fit:
    """A choice of at most the bytes of `fit`, by loss and a little by the time to write it."""
    types = fit.recipe.exact
    weights = {item.tensor.name: item.tensor.n_elements for item in fitter.source.tensors}
    whole = sum(weights[name] for name in types) / WRITING["Q4_K"]
    price = _WORTH * fit.predicted_kld / whole  # nats for a million-th of a second
    hurried = replace(fitter, write_prices={kind: price / rate for kind, rate in WRITING.items()})
    found = fitter.of(hurried.fit(fit.n_bytes).recipe.exact)
    return found if found.n_bytes >= _USED * fit.n_bytes else fit
