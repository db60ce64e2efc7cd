"""What the parts of a model cost on one processor, and those prices by data sheet. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from snugly.model.types import Bytes
from snugly.plan.speed_table import coefficients
from snugly.plan.speed_terms import (
    Rates,
    cache_term,
    decode_terms,
    fill_term,
    flow_term,
    prefill_terms,
    read_term,
)
from snugly.plan.types import Processor

Price = Callable[[Bytes, float | None], float]
_US = 1e-6
_PROBE = 1 << 30  # bytes: a whole number of blocks of every type
# Products of bytes for one of f32, as the instruction sets define them: dotprod and VNNI, i8mm.
_DOT, _I8MM = 4, 8


class Looking(NamedTuple):
    """Prices of looking back on one position, in seconds."""

    narrow_byte: float  # of the cache of heads 64 wide, which is read in snatches
    wide_byte: float  # of heads of 128 and more
    token_head: float  # per head, in answers
    token_op: float  # per operation
    prompt_head: float  # the same for a prompt's tokens
    prompt_op: float
    prompt_element: float  # of the cache, of a tile of queries one's share
    workers: float  # threads among which an answer's cells are dealt in equal parts, used or not


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of one processor: of a part of the model, and of what comes per layer."""

    token: Price  # a part, for one token of an answer
    prompt: Price  # a part, per token of a prompt
    read: Callable[[Bytes], float]  # a part, once per micro-batch
    rows: Callable[[Bytes], float]  # a part's rows, times the weights in one row
    looking: Looking
    flow: float  # per layer, token of a prompt and element of the embedding
    step: float  # per layer and token
    mixture: float  # the same, more, where there are experts
    prompt_step: float  # per layer and micro-batch
    hop: float  # from this device to the next
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]


def priced(price: Price) -> Price:
    """The same from the price of a byte of each type, of which it is the sum."""
    dense: dict[str, float] = {}
    experts: dict[str, float] = {}

    def total(part: Bytes, share: float | None) -> float:
        known, whole = (dense, None) if share is None else (experts, 1.0)
        seconds = 0.0
        for name, n_bytes in part:
            one = known.get(name)
            if one is None:
                one = known[name] = price(((name, _PROBE),), whole) / _PROBE
            seconds += one * n_bytes
        return seconds if share is None else share * seconds

    return total


def rates_of(processor: Processor) -> Rates:
    """Rates that are not known are slow ones, so that nothing is promised on them."""
    matrix = processor.f16_flops.or_else(processor.vector_flops.or_else(1e12))
    vector = processor.vector_flops.or_else(matrix / 4)
    flat = matrix
    if processor.kind == "cpu" and matrix <= _I8MM * vector:  # AMX has more, for all types
        matrix = min(matrix, _DOT * vector)
    return Rates(processor.bandwidth_bytes_per_s.or_else(20e9), vector, matrix, flat)


def by_sheet(processor: Processor, flash: bool) -> Prices:
    """By the data sheet of the processor, times the coefficients of its backend."""
    rates, table = rates_of(processor), coefficients(processor.kind)
    decode, prefill = tuple(table.decode.values()), tuple(table.prefill.values())

    def token(part: Bytes, share: float | None) -> float:
        return _dot(decode, decode_terms(part, rates, share))

    def prompt(part: Bytes, share: float | None) -> float:
        return _dot(prefill, prefill_terms(part, rates, share))

    def read(part: Bytes) -> float:
        filled = table.prefill["fill"] * fill_term(part, rates)
        return filled + table.prefill["read"] * read_term(part, rates)

    cache = table.decode["cache" if flash else "plain"] / rates.bandwidth
    tiled = table.prefill["cache"] * cache_term(1, rates) if flash else 0.0
    attention = table.prefill["attention" if flash else "plain"] / rates.matrix
    return Prices(
        priced(token),
        priced(prompt),
        read,
        lambda part: 0.0,
        Looking(cache, cache, 0.0, 0.0, 0.0, attention, tiled, 1.0),
        table.prefill["flow"] * flow_term(1, rates),
        table.decode["layer"] * _US,
        table.decode["mixture"] * _US,
        table.prefill["layer"] * _US,
        table.decode["hop"] * _US,
        table.decode_spread,
        table.prefill_spread,
    )


def _dot(coefficients: tuple[float, ...], terms: tuple[float, ...]) -> float:
    return sum(c * t for c, t in zip(coefficients, terms, strict=True))
