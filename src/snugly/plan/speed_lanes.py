"""One model on one processor: seconds per layer, summed up so that any range is a difference.

Two kinds of processor. By data sheet: the terms of `speed_terms` times the coefficients of
its backend. Timed here: the rates of the engine's own kernels for each tensor type.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

from snugly.machine.types import Kernel
from snugly.model.build import loaded
from snugly.model.types import Attention, Build, Bytes, Outline
from snugly.plan.speed_table import coefficients, kernels
from snugly.plan.speed_terms import (
    FAMILIES,
    Rates,
    attention_ops,
    cache_row,
    decode_terms,
    experts_share,
    family,
    prefill_terms,
    read_term,
    touched,
    weights_in,
)
from snugly.plan.types import Processor

UBATCH = 512  # of which a mixture's prompt surely touches every expert that will be touched
_US = 1e-6
# The kernels that stand for types that were not timed, slowest of the family first.
_STANDS_FOR = {
    "float": ("F16",), "q8": ("Q8_0",), "k": ("Q5_0", "Q5_K", "Q4_K"),
    "low": ("Q3_K", "Q2_K"), "grid": ("IQ3_S", "IQ2_XXS", "Q3_K"),
}  # fmt: skip


Price = Callable[[Bytes, float | None], float]


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of one processor: of a part of the model, and of what comes per layer."""

    token: Price  # a part, for one token of an answer
    prompt: Price  # a part, per token of a prompt
    read: Callable[[Bytes], float]  # a part, once per micro-batch
    cache_byte: float
    token_head: float  # of attention: per head and position looked back on, in answers
    token_op: float  # per operation
    prompt_head: float  # the same for a prompt's tokens
    prompt_op: float
    step: float  # per layer and token
    mixture: float  # the same, more, where there are experts
    prompt_step: float  # per layer and micro-batch
    hop: float  # from this device to the next
    prompt_hop: float
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]


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
    memo: dict[int, tuple[float, ...]] = {}
    rows = []
    for layer in loaded(build):
        row = memo.get(id(layer))
        if row is None:
            row = memo[id(layer)] = (
                prices.token(layer.dense, None),
                prices.token(layer.experts, share) if layer.experts else 0.0,
                prices.step + (prices.mixture if layer.experts else 0.0),
                prices.prompt(layer.dense, None),
                prices.prompt(layer.experts, share) if layer.experts else 0.0,
                prices.read(layer.dense) + prices.prompt_step,
                whole * prices.read(layer.experts) if layer.experts else 0.0,
            )
        rows.append(row)
    dense, experts, steps, prompt, prompt_experts, read, read_experts = (
        tuple(accumulate(column, initial=0.0)) for column in zip(*rows, strict=True)
    )
    head, head_read = prices.token(build.output, None), prices.read(build.output)
    return Lane(
        prices, dense, experts, steps, prompt, prompt_experts, read, read_experts,
        head, head_read, _because(processor),
    )  # fmt: skip


# By window: its length or 0, elements of cache, operations and heads per position.
Back = tuple[tuple[int, float, float, float], ...]
_PROBE = 1 << 30  # bytes: a whole number of blocks of every type
_KEPT = 64  # prices of processors; a box has a few
_prices: dict[tuple[int, bool, bool], tuple[Processor, Prices]] = {}


def prices_of(processor: Processor, repack: bool, flash: bool) -> Prices:
    """By the kernels that were timed here, else by data sheet. Worked out once for each."""
    key = id(processor), repack, flash
    found = _prices.get(key)
    if found is None or found[0] is not processor:
        if len(_prices) >= _KEPT:
            _prices.clear()
        made = _timed(processor, repack) if processor.kernels else _by_sheet(processor, flash)
        found = _prices[key] = processor, made
    return found[1]


def _priced(price: Price) -> Price:
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
    return Rates(
        processor.bandwidth_bytes_per_s.or_else(20e9),
        processor.vector_flops.or_else(matrix / 4),
        matrix,
    )


def _by_sheet(processor: Processor, flash: bool) -> Prices:
    rates, table = rates_of(processor), coefficients(processor.kind)
    decode, prefill = tuple(table.decode.values()), tuple(table.prefill.values())

    def token(part: Bytes, share: float | None) -> float:
        return _dot(decode, decode_terms(part, rates, share))

    def prompt(part: Bytes, share: float | None) -> float:
        return _dot(prefill, prefill_terms(part, rates, share))

    return Prices(
        _priced(token),
        _priced(prompt),
        lambda part: table.prefill["read"] * read_term(part, rates),
        table.decode["cache" if flash else "plain"] / rates.bandwidth,
        0.0,
        0.0,
        0.0,
        table.prefill["attention" if flash else "plain"] / rates.matrix,
        table.decode["layer"] * _US,
        table.decode["mixture"] * _US,
        table.prefill["layer"] * _US,
        table.decode["hop"] * _US,
        table.prefill["hop"] * _US,
        table.decode_spread,
        table.prefill_spread,
    )


def _timed(processor: Processor, repack: bool) -> Prices:
    table = kernels()
    rates = {(k.ggml_type, k.repacked): k for k in processor.kernels}

    def kernel(type_name: str) -> Kernel:
        found = (repack and rates.get((type_name, True))) or rates.get((type_name, False))
        return found or _stand_in(type_name, processor.kernels)

    def token(part: Bytes, share: float | None) -> float:
        used = (1.0 if share is None else share) / table.read
        return used * sum(n / kernel(name).read_bytes_per_s for name, n in part)

    def prompt(part: Bytes, share: float | None) -> float:
        used = (1.0 if share is None else share) * 2 / table.ops
        return used * sum(
            weights_in(((name, n),))[family(name)] / kernel(name).ops_per_s for name, n in part
        )

    head, op = _attention(rates, lambda k: k.read_bytes_per_s)
    prompt_head, prompt_op = _attention(rates, lambda k: k.ops_per_s)
    return Prices(
        _priced(token),
        _priced(prompt),
        lambda part: 0.0,
        table.cache / kernel("F16").read_bytes_per_s,
        table.attention * head,
        table.attention * op,
        table.attention * prompt_head,
        table.attention * prompt_op,
        table.layers * processor.layer_seconds,
        0.0,
        table.prompt_layers * processor.layer_seconds,
        0.0,
        0.0,
        table.decode_spread,
        table.prefill_spread,
    )


def _attention(
    timed: dict[tuple[str, bool], Kernel], rate: Callable[[Kernel], float]
) -> tuple[float, float]:
    """(seconds per head and position, per operation), from heads of two widths.

    A head of width w takes 4 w operations per position.
    """
    found = [timed.get((f"ATTENTION{width}", False)) for width in (64, 128)]
    if found[0] is None or found[1] is None:
        half = timed.get(("F16", False))
        return 0.0, 1 / half.ops_per_s if half else 1e-10
    narrow, wide = 256 / rate(found[0]), 512 / rate(found[1])
    slope = max(0.0, wide - narrow) / 256
    return max(0.0, narrow - 256 * slope), slope


def _stand_in(type_name: str, timed: Iterable[Kernel]) -> Kernel:
    weights = [kernel for kernel in timed if not kernel.ggml_type.startswith("ATTENTION")]
    plain = {kernel.ggml_type: kernel for kernel in weights if not kernel.repacked}
    wanted = family(type_name)
    order = (*_STANDS_FOR[wanted], *(n for name in FAMILIES for n in _STANDS_FOR[name]))
    found = next((plain[name] for name in order if name in plain), None)
    return found or min(weights, key=lambda kernel: kernel.read_bytes_per_s)


def _dot(coefficients: tuple[float, ...], terms: tuple[float, ...]) -> float:
    return sum(c * t for c, t in zip(coefficients, terms, strict=True))


def _because(processor: Processor) -> str:
    if processor.kernels:
        return f"{processor.name}: rates of the engine's kernels, measured here"
    rate = processor.bandwidth_bytes_per_s
    if rate.value is None:
        return f"{processor.name}: its memory's rate is not known and taken as slow"
    return f"{processor.name}: memory at {rate.value / 1e9:.0f} GB/s ({rate.how})"


def looks_back(build: Build | Outline, kinds: Iterable[tuple[Attention, int]]) -> Back:
    """What is looked back on, per position.

    `kinds` of the build's layers, and how many there are of each.
    """
    found: dict[int, list[float]] = {}
    for layer, count in kinds:
        sums = found.setdefault(layer.window or 0, [0.0, 0.0, 0.0])
        ops = attention_ops(build, layer)
        sums[0] += count * cache_row(layer)
        sums[1] += count * ops
        sums[2] += count * build.n_heads if ops else 0
    return tuple(
        (window, row, ops, heads) for window, (row, ops, heads) in found.items() if row or ops
    )
