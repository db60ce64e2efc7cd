"""One model on one processor: seconds per layer, summed up so that any range is a difference.

Two kinds of processor. By data sheet (`speed_prices`): the terms of `speed_terms` times the
coefficients of its backend. Timed here (`speed_kernels`): the rates of the engine's own
kernels for each tensor type.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from snugly.model.build import loaded
from snugly.model.types import Attention, Build, Outline
from snugly.plan.speed_kernels import timed
from snugly.plan.speed_prices import Prices, by_sheet
from snugly.plan.speed_terms import attention_ops, cache_row, experts_share, touched
from snugly.plan.types import Processor

_ENDS = ("output", "token_embd")
UBATCH = 512  # of which a mixture's prompt surely touches every expert that will be touched


@dataclass(frozen=True, slots=True)
class Lane:
    """Running sums over the layers, one entry more than layers; the head stands apart."""

    prices: Prices
    dense: tuple[float, ...]
    experts: tuple[float, ...]
    steps: tuple[float, ...]
    prompt: tuple[float, ...]
    prompt_experts: tuple[float, ...]
    read: tuple[float, ...]  # the layer's own time per micro-batch included
    read_experts: tuple[float, ...]
    head: float
    head_read: float
    because: str


def lane(build: Build, processor: Processor, repack: bool, flash: bool) -> Lane:
    """The sums for one build on one processor."""
    prices = prices_of(processor, repack, flash)
    share = experts_share(build)
    whole = touched(share, UBATCH)
    length = mean_row(build)
    memo: dict[int, tuple[float, ...]] = {}
    rows = []
    for layer in loaded(build):
        row = memo.get(id(layer))
        if row is None:
            row = memo[id(layer)] = (
                prices.token(layer.dense, None) + prices.rows(layer.dense) / length,
                prices.token(layer.experts, share) + share * prices.rows(layer.experts) / length
                if layer.experts
                else 0.0,
                prices.step + (prices.mixture if layer.experts else 0.0),
                prices.prompt(layer.dense, None) + prices.flow * build.embedding_length,
                prices.prompt(layer.experts, share) if layer.experts else 0.0,
                prices.read(layer.dense) + prices.prompt_step,
                whole * prices.read(layer.experts) if layer.experts else 0.0,
            )
        rows.append(row)
    dense, experts, steps, prompt, prompt_experts, read, read_experts = (
        tuple(accumulate(column, initial=0.0)) for column in zip(*rows, strict=True)
    )
    head = prices.token(build.output, None)
    head += prices.rows(build.output) / max(1, build.embedding_length)
    head_read = prices.read(build.output)
    return Lane(
        prices, dense, experts, steps, prompt, prompt_experts, read, read_experts,
        head, head_read, _because(processor),
    )  # fmt: skip


def mean_row(build: Build) -> float:
    """Weights in a row of a layer's matrices, on the average of their rows.

    Of a build that tells no matrices the width of its embedding.
    """
    found = [(given, gives) for name, given, gives in build.widths if name not in _ENDS]
    rows = sum(gives for _, gives in found)
    return sum(a * b for a, b in found) / rows if rows else float(max(1, build.embedding_length))


class Back(NamedTuple):
    """What is looked back on per position, of the layers of one window."""

    window: int  # positions, 0 for all
    narrow: float  # elements of cache, of heads 64 wide
    wide: float  # the same, of heads of 128; what lies between is shared out
    ops: float
    heads: float


_KEPT = 64  # prices of processors; a box has a few
_prices: dict[tuple[int, bool, bool], tuple[Processor, Prices]] = {}


def prices_of(processor: Processor, repack: bool, flash: bool) -> Prices:
    """By the kernels that were timed here, else by data sheet. Worked out once for each."""
    key = id(processor), repack, flash
    found = _prices.get(key)
    if found is None or found[0] is not processor:
        if len(_prices) >= _KEPT:
            _prices.clear()
        made = timed(processor, repack) if processor.kernels else by_sheet(processor, flash)
        found = _prices[key] = processor, made
    return found[1]


def _because(processor: Processor) -> str:
    if processor.kernels:
        return f"{processor.name}: rates of the engine's kernels, measured here"
    rate = processor.bandwidth_bytes_per_s
    if rate.value is None:
        return f"{processor.name}: its memory's rate is not known and taken as slow"
    return f"{processor.name}: memory at {rate.value / 1e9:.0f} GB/s ({rate.how})"


def looks_back(build: Build | Outline, kinds: Iterable[tuple[Attention, int]]) -> tuple[Back, ...]:
    """What is looked back on, per position, by window.

    `kinds` of the build's layers, and how many there are of each.
    """
    found: dict[int, list[float]] = {}
    for layer, count in kinds:
        sums = found.setdefault(layer.window or 0, [0.0, 0.0, 0.0, 0.0])
        ops, row = attention_ops(build, layer), count * cache_row(layer)
        narrow = min(1.0, max(0.0, (128 - layer.key_length) / 64))
        sums[0] += narrow * row
        sums[1] += (1.0 - narrow) * row
        sums[2] += count * ops
        sums[3] += count * build.n_heads if ops else 0
    return tuple(Back(window, *sums) for window, sums in found.items() if any(sums))
