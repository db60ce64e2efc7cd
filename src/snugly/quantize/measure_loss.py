"""What one model loses against another, place by place, and in a few figures with errors.

At every place of a text both models give each token a probability. The Kullback-Leibler
divergence (KLD) of the second from the first, in nats, is what is lost there. Pure.

Places of one chunk of text are not independent, so standard errors come from the spread
between chunks. Definitions as in llama.cpp tools/perplexity (README and perplexity.cpp), whose
own errors take every place for independent and are smaller.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
# Rows of logits that are worked on at once: 10 MiB for a vocabulary of 152,000, which stays
# in a processor's cache.
_ROWS = 16
_RESAMPLES = 400  # of the bootstrap; its own error is then 1/sqrt(2 * 400), 4% of a figure's
COLUMNS = ("kld", "nll_base", "nll", "same_top")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The places of one chunk of text, each a number per place. `COLUMNS` in order."""

    kld: Doubles
    nll_base: Doubles  # -log p of the token that follows, by the first model
    nll: Doubles  # and by the second
    same_top: Doubles  # 1 where both think the same token likeliest


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its standard error; `error` is NaN when there is one chunk."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Loss:
    """What the second model loses against the first on a text."""

    chunks: int
    places: int
    kld: Figure  # mean, nats per token
    kld_p99: Figure
    kld_p999: Figure
    kld_max: float
    same_top: Figure  # share of places, 0 to 1
    p_change: Figure  # mean change of the probability of the true next token
    p_change_rms: Figure
    perplexity_base: Figure
    perplexity: Figure
    perplexity_ratio: Figure  # second to first
    by_position: tuple[tuple[int, float, float], ...]  # first place, mean KLD, its error
    chunk_klds: tuple[float, ...]  # the mean of each chunk, so that two losses can be paired


def cut(tokens: Sequence[int], context: int, most: int) -> list[list[int]]:
    """Whole chunks of `context` tokens; `most` of them, spread over the text (0: all)."""
    count = len(tokens) // context
    picked: Iterator[int] = iter(range(count))
    if most and count > most:
        picked = (round(i * (count - 1) / max(most - 1, 1)) for i in range(most))
    return [list(tokens[i * context : (i + 1) * context]) for i in picked]


def losses(base: Floats, other: Floats, following: Sequence[int]) -> Chunk:
    """Compare logits [places, vocabulary] of both models; `following`: each place's next token.

    A model with more outputs than the other (padding of the vocabulary) is cut to the
    smaller; places without a next token (fewer `following` than rows) are left out.
    """
    width = min(base.shape[1], other.shape[1])
    parts = [
        _block(base[start : start + _ROWS, :width], other[start : start + _ROWS, :width],
               np.asarray(following[start : start + _ROWS], dtype=np.intp))
        for start in range(0, len(following), _ROWS)
    ]  # fmt: skip
    return joined(parts)


def _block(base: Floats, other: Floats, following: NDArray[np.intp]) -> Chunk:
    rows = np.arange(len(following))
    base, other = base[: len(following)], other[: len(following)]
    top_base, top = base.argmax(axis=1), other.argmax(axis=1)
    base = base - base[rows, top_base, None]
    other = other - other[rows, top, None]
    weights = np.exp(base)
    total_base = weights.sum(axis=1, dtype=np.float64)
    log_base, log_other = np.log(total_base), np.log(np.exp(other).sum(axis=1, dtype=np.float64))
    gap = np.einsum("ij,ij->i", weights, base - other, dtype=np.float64) / total_base
    kld = gap - log_base + log_other
    return Chunk(
        # Rounding in single precision leaves equal models at +-1e-7.
        np.maximum(kld, 0.0),
        log_base - base[rows, following],
        log_other - other[rows, following],
        (top_base == top).astype(np.float64),
    )


def joined(parts: Sequence[Chunk]) -> Chunk:
    """The places of all parts after each other."""
    return Chunk(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


def loss_of(chunks: Sequence[Chunk], first: int = 0, bins: int = 16) -> Loss:
    """The figures. `first`: position of each chunk's first place; chunks are of equal length.

    Raises: ValueError without a chunk.
    """
    if not chunks:
        raise ValueError("nothing was compared")
    every = joined(chunks)
    kld = np.stack([chunk.kld for chunk in chunks])
    p_change = np.stack([np.exp(-c.nll) - np.exp(-c.nll_base) for c in chunks])
    mse = _mean(np.square(p_change))
    rms = math.sqrt(mse.value)
    gap = _mean(np.stack([chunk.nll - chunk.nll_base for chunk in chunks]))
    return Loss(
        chunks=len(chunks),
        places=kld.size,
        kld=_mean(kld),
        kld_p99=_percentile(kld, 99),
        kld_p999=_percentile(kld, 99.9),
        kld_max=float(every.kld.max()),
        same_top=_mean(np.stack([chunk.same_top for chunk in chunks])),
        p_change=_mean(p_change),
        p_change_rms=Figure(rms, mse.error / (2 * rms) if rms else mse.error),
        perplexity_base=_exp(_mean(np.stack([chunk.nll_base for chunk in chunks]))),
        perplexity=_exp(_mean(np.stack([chunk.nll for chunk in chunks]))),
        perplexity_ratio=_exp(gap),
        by_position=_by_position(kld, first, bins),
        chunk_klds=tuple(float(mean) for mean in kld.mean(axis=1)),
    )


def _mean(values: Doubles) -> Figure:
    """The mean of [chunks, places], with the error of a mean of chunks."""
    means = values.mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return Figure(float(means.mean()), float(error))


def _exp(figure: Figure) -> Figure:
    value = math.exp(figure.value)
    return Figure(value, value * figure.error)


def _percentile(values: Doubles, percent: float) -> Figure:
    """A percentile over all places; its error by drawing whole chunks anew (bootstrap)."""
    count = len(values)
    value = float(np.percentile(values, percent))
    if count < 2:
        return Figure(value, math.nan)
    draw = np.random.default_rng(0)  # the same text gives the same errors
    again = [np.percentile(values[draw.integers(0, count, count)], percent)
             for _ in range(_RESAMPLES)]  # fmt: skip
    return Figure(value, float(np.std(again, ddof=1)))


def _by_position(kld: Doubles, first: int, bins: int) -> tuple[tuple[int, float, float], ...]:
    edges = np.linspace(0, kld.shape[1], min(bins, kld.shape[1]) + 1).round().astype(int)
    found = []
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        figure = _mean(kld[:, start:end])
        found.append((first + int(start), figure.value, figure.error))
    return tuple(found)
