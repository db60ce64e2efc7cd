"""How good a model is at a task, on one scale per task, and what a quantization leaves of it.

Scales, all from 0 to 100: for chat, summarize, translate and reason that of MMLU-Pro; for code
and complete three parts HumanEval and one part that, for HumanEval hardly tells good models
apart; for embed and rerank that of MTEB (English). Figures are the publishers' own: a point or
two means nothing, and tasks do not compare.
Pure. The fitted numbers: `python scripts/catalog.py quality` prints them and how far off they are.
"""

import math
import re
from typing import NamedTuple

from snugly.model.catalog import Entry

# MMLU-Pro = slope x MMLU + constant, over the entries that have both; four choices saturate
# earlier than ten. Not below what guessing gets.
MMLU_SLOPE, MMLU_CONSTANT, CHANCE = 1.38, -49.4, 10.0
# logit(MMLU-Pro) from doublings of size and months since Llama 2, over all that have a figure.
PER_DOUBLING, PER_MONTH, AT_START = 0.394, 0.0757, -2.53
# logit(HumanEval) from logit(MMLU-Pro), and more for models made for code.
CODE_SLOPE, CODE_CONSTANT, CODE_BONUS = 0.79, 1.33, 0.76
_CODE_SHARE = 0.75  # of HumanEval in the scale for code: judgement, no fit
# An estimate of general ability is lowered by how far it is off on average, so that of two
# models that seem alike the one with a published figure goes first.
DOUBT = 7.0
# MTEB from doublings above a billion parameters.
MTEB_PER_DOUBLING, MTEB_AT_BILLION = 2.11, 69.6
_START = 2023 * 12 + 7  # July 2023

# Share of what Llama 3 8B Instruct answers above guessing that is left, (MMLU - 25) /
# (65.20 - 25): matt-c1/llama-3-quant-comparison, GGUF made with importance matrices. Marked *:
# not measured there, placed between its neighbours by its KL divergence in llama.cpp's
# tools/perplexity/README.md.
_KEPT_BY_8B = {
    "Q8_0": 1.0, "Q6_K": 0.997, "Q5_K_M": 0.993, "Q5_K_S": 0.992,
    "Q5_1": 0.990, "Q5_0": 0.988,  # *
    "Q4_K_M": 0.986, "Q4_K_S": 0.985, "IQ4_XS": 0.980, "IQ4_NL": 0.978,
    "Q4_1": 0.952, "Q4_0": 0.952,  # *
    "Q3_K_M": 0.943, "Q3_K_L": 0.942, "IQ3_M": 0.934, "IQ3_S": 0.924, "IQ3_XS": 0.900,
    "IQ3_XXS": 0.884, "Q3_K_S": 0.849, "IQ2_M": 0.810, "Q2_K": 0.769,
    "Q2_K_S": 0.735,  # *
    "IQ2_S": 0.721, "IQ2_XS": 0.621, "IQ2_XXS": 0.460, "IQ1_M": 0.095, "IQ1_S": 0.037,
}  # fmt: skip
_8B = 8.03e9
# -log(kept) = slope x KLD^power through the nine of these that llama.cpp's tools/perplexity/
# README.md has the KL divergence of, Q6_K (0.0055) to IQ2_XXS (0.812); off by at most 0.010
# above IQ2. So a loss that was measured becomes a share.
KLD_SLOPE, KLD_POWER = 0.873, 1.10
# The same source on Llama 3 70B: from IQ3_M to IQ2_XXS the logarithm of what is kept is 0.28
# times as much, 8.8 times the size. Below 8B it is extrapolation, in keeping with Qwen3 in
# 4 bits, which loses 10 times as much of MMLU at 0.6B as at 14B (arXiv:2505.02214).
LOSS_PER_SIZE = 0.58


class Quality(NamedTuple):
    """`value` of 100, and in words where it comes from; "estimated" begins what nobody measured."""

    value: float
    basis: str


def quality_of(entry: Entry, task: str) -> Quality:
    """How good the unquantized model is at `task`, one of `catalog.TASKS`.

    From published figures; else from others by a fitted line; else an estimate from size and
    age. Off on average by 3 points where MMLU stands for MMLU-Pro, by 6 where HumanEval is
    taken from general ability, by 7 for an estimate (by twice as much in one of ten).
    0 for a task that the model is not made for.
    """
    if task not in entry.tasks:
        return Quality(0.0, "not made for it")
    if task in ("embed", "rerank"):
        return _retrieval(entry)
    return _code(entry) if task in ("code", "complete") else _general(entry)


def quality_kept(type_name: str, n_params: int) -> float:
    """Which part of its quality a model of `n_params` keeps in a quantization, from 0 to 1.

    1 for unquantized types, for MXFP4, in which gpt-oss was trained, and for names of which
    nothing is known. A mixture counts with all its parameters. Names such as Q4_K_L or
    UD-Q4_K_XL count as the mixture that they begin with. Source: `_KEPT_BY_8B`.
    """
    name = type_name.upper().removeprefix("UD-")
    if name not in _KEPT_BY_8B:  # publishers' names: Q2_K_L, Q4_K_XL, Q6_K_L
        stem = re.sub(r"_X?L$", "", name)
        name = f"{stem}_M" if f"{stem}_M" in _KEPT_BY_8B else stem
    kept = _KEPT_BY_8B.get(name, 1.0)
    return float(kept ** ((_8B / max(1, n_params)) ** LOSS_PER_SIZE))


def quality_kept_at(kld: float) -> float:
    """Which part of its quality a model keeps that was measured to lose `kld`, from 0 to 1.

    `kld` in nats per token, of the quantized model's predictions from the unquantized one's.
    """
    return math.exp(-KLD_SLOPE * max(kld, 0.0) ** KLD_POWER)


def _published(entry: Entry, *benchmarks: str) -> Quality | None:
    for figure in entry.figures:
        if figure.benchmark in benchmarks:
            return Quality(figure.value, f"{figure.benchmark} {figure.value:g}, {figure.source}")
    return None


def _general(entry: Entry) -> Quality:
    if (found := _published(entry, "MMLU-Pro")) is not None:
        return found
    if (found := _published(entry, "MMLU")) is not None:
        value = max(CHANCE, MMLU_SLOPE * found.value + MMLU_CONSTANT)
        return Quality(round(value, 1), f"from {found.basis}")
    effective = math.sqrt(entry.n_params * entry.n_active) / 1e9
    logit = PER_DOUBLING * math.log2(effective) + PER_MONTH * _age(entry) + AT_START
    return Quality(max(CHANCE, round(_percent(logit) - DOUBT, 1)), "estimated from size and age")


def _code(entry: Entry) -> Quality:
    general = _general(entry)
    human_eval = _published(entry, "HumanEval")
    if human_eval is None:
        made_for_code = entry.tasks[0] in ("code", "complete")
        logit = CODE_SLOPE * _logit(general.value) + CODE_CONSTANT + CODE_BONUS * made_for_code
        basis = general.basis.removeprefix("estimated from ")
        human_eval = Quality(_percent(logit), f"estimated from {basis}")
    value = _CODE_SHARE * human_eval.value + (1 - _CODE_SHARE) * general.value
    return Quality(round(value, 1), human_eval.basis)


def _retrieval(entry: Entry) -> Quality:
    if (found := _published(entry, "MTEB", "MTEB-v1")) is not None:
        return found
    value = MTEB_AT_BILLION + MTEB_PER_DOUBLING * math.log2(entry.n_params / 1e9)
    return Quality(round(value, 1), "estimated from size")


def _age(entry: Entry) -> int:
    year, month = entry.released.split("-")
    return int(year) * 12 + int(month) - _START


def _logit(percent: float) -> float:
    return math.log(percent / (100 - percent))


def _percent(logit: float) -> float:
    return 100 / (1 + math.exp(-logit))
