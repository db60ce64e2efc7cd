"""How fast a run will be: a roofline per device, with an interval. Pure."""

import math
from dataclasses import dataclass
from itertools import pairwise

from snugly.machine.types import NOT_TOLD, Fact, Origin
from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.types import Build
from snugly.plan.speed_lanes import Lane, lane, looks_back
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.types import Interval, Placement, Processor, Setup, Speed

# A disk whose rate nobody measured: between a spinning one and NVMe; data sheets of drives sold.
ASSUMED_DISK, _DISK_LOW, _DISK_HIGH = 1e9, 0.15e9, 3.5e9
# Weights that stay in RAM may cross to the GPU for a prompt: 16 lanes of PCIe 3 (16 GB/s less
# its protocol), as llama.cpp does for batches of 32 and more (ggml_backend_cuda offload_op).
_BUS = 12e9
_START_S = 0.3  # of the engine's process: `bench/startup.py` on two cores
_KEPT = 4096  # prepared builds; a search holds fewer

_WEIGHT_BYTES = {name: size / count for name, count, size in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is worked out once for a build on some processors."""

    build: Build  # held, so that its id stays its own
    processors: tuple[Processor, ...]
    lanes: tuple[Lane, ...]
    back: tuple[tuple[int, float, float], ...]


_ready: dict[tuple[int, int, bool, bool], _Ready] = {}


def _prepared(build: Build, processors: tuple[Processor, ...], setup: Setup) -> _Ready:
    key = (id(build), id(processors), setup.repack, setup.flash_attention)
    found = _ready.get(key)
    if found is None:
        if len(_ready) >= _KEPT:
            _ready.clear()
        lanes = tuple(lane(build, p, setup.repack, setup.flash_attention) for p in processors)
        found = _ready[key] = _Ready(build, processors, lanes, looks_back(build))
    return found


def predict(
    build: Build,
    setup: Setup,
    placement: Placement,
    processors: tuple[Processor, ...],
    prompt_tokens: int = 512,
    disk_rate: Fact[float] = NOT_TOLD,
    corrections: Corrections = NOTHING_LEARNT,
) -> Speed:
    """Speed of `build` under `setup`, with its layers where `placement` says.

    `processors` come from `processors_of`: first what computes over RAM, then one per GPU
    in the order of `Machine.pools[1:]`. `disk_rate` is in bytes per second. The full context
    is that of one of `setup.n_seq` sequences.

    Raises: ValueError when the placement names more GPUs or layers than there are.
    """
    ready = _prepared(build, processors, setup)
    if any(placement.gpu_layers):
        cost = _split(ready, setup, placement)
    else:
        cost = _whole(ready, ready.lanes[0])
    learnt = corrections.of(build, cost.place) if corrections.by_class else None
    decode_spread, prefill_spread = cost.decode_spread, cost.prefill_spread
    slower, slower_prompt = 1.0, 1.0
    if learnt:
        slower, decode_spread = learnt[0].onto(decode_spread)
        slower_prompt, prefill_spread = learnt[1].onto(prefill_spread)
    kv_bytes = (_WEIGHT_BYTES[setup.kv_type] + _WEIGHT_BYTES[setup.v_type or setup.kv_type]) / 2
    depth = setup.context / setup.n_seq
    decode = slower * cost.token
    deep = decode + slower * _back(ready, cost, depth, kv_bytes)
    ubatch = min(setup.ubatch, setup.context)
    prompt = slower_prompt * _prompt(ready, cost, setup.ubatch, prompt_tokens)
    one = (
        prompt
        if ubatch == prompt_tokens
        else slower_prompt * _prompt(ready, cost, setup.ubatch, ubatch)
    )
    return Speed(
        _rate(1 / decode, decode_spread),
        _rate(ubatch / one, prefill_spread),
        _rate(1 / deep, decode_spread),
        _time(prompt + decode, prefill_spread),
        prompt_tokens,
        _load(build.file_bytes, disk_rate),
        cost.because,
    )


def run_times(
    build: Build,
    setup: Setup,
    placement: Placement,
    processors: tuple[Processor, ...],
    prompt_tokens: int,
    completion_tokens: int,
) -> tuple[float, float]:
    """(decode, prefill) tokens per second of one run, at its true lengths, nothing learnt.

    What history keeps beside the measured rates, so that corrections are never taken twice.
    """
    ready = _prepared(build, processors, setup)
    cost = (
        _split(ready, setup, placement)
        if any(placement.gpu_layers)
        else _whole(ready, ready.lanes[0])
    )
    kv_bytes = (_WEIGHT_BYTES[setup.kv_type] + _WEIGHT_BYTES[setup.v_type or setup.kv_type]) / 2
    depth = prompt_tokens + completion_tokens / 2
    decode = cost.token + _back(ready, cost, depth, kv_bytes)
    prompt = max(1, prompt_tokens)
    return 1 / decode, prompt / _prompt(ready, cost, setup.ubatch, prompt)


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds of a placement: of a token, of a prompt's token and micro-batch, of looking back."""

    token: float
    prompt: float
    ubatch: float
    cache_byte: float  # per byte of cache of the whole model
    attention_op: float
    stages: int  # GPUs that work on different micro-batches at the same time
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]
    place: str
    because: str


_wholes: dict[int, tuple[Lane, _Cost]] = {}


def _whole(ready: _Ready, at: Lane) -> _Cost:
    found = _wholes.get(id(at))
    if found is not None and found[0] is at:
        return found[1]
    prices = at.prices
    cost = _Cost(
        at.dense[-1] + at.experts[-1] + at.steps[-1] + at.head,
        at.prompt[-1] + at.prompt_experts[-1],
        at.read[-1] + at.read_experts[-1] + at.head_read,
        prices.cache_byte, prices.attention_op, 1,
        prices.decode_spread, prices.prefill_spread,
        ready.processors[ready.lanes.index(at)].kind, at.because,
    )  # fmt: skip
    if len(_wholes) >= _KEPT:
        _wholes.clear()
    _wholes[id(at)] = (at, cost)
    return cost


def _ranges(ready: _Ready, placement: Placement) -> list[tuple[int, int, int]]:
    """(processor, first layer, end) of each part; layer L of L stands for the head."""
    layers = len(ready.build.weights)
    total = sum(placement.gpu_layers)
    if len(placement.gpu_layers) >= len(ready.lanes) or total > layers + 1:
        raise ValueError(f"{placement} does not go with {len(ready.lanes)} processors")
    at = layers + 1 - total
    found = [(0, 0, at)] if at else []
    for number, count in enumerate(placement.gpu_layers, 1):
        if count:
            found.append((number, at, at + count))
            at += count
    return found


def _split(ready: _Ready, setup: Setup, placement: Placement) -> _Cost:
    """Layers on several devices, one after the other: times add up."""
    layers = len(ready.build.weights)
    ranges = _ranges(ready, placement)
    token = prompt = ubatch = cache = attention = 0.0
    left_in_ram = placement.cpu_experts
    ram = ready.lanes[0]
    helper = next((ready.lanes[n] for n, _, _ in ranges if n), ram)
    for number, first, end in ranges:
        at, last = ready.lanes[number], min(end, layers)
        held = min(left_in_ram, last - first) if number else 0
        left_in_ram -= held
        token += _sum(at.dense, first, last) + _sum(at.steps, first, last)
        token += _sum(at.experts, first + held, last) + _sum(ram.experts, first, first + held)
        token += 2 * held * at.prices.mixture
        own = _prompt_of(at, first, last, first + held)
        if number == 0:
            own = _cheaper(own, helper, ready, first, last, setup.ubatch)
        aside = (_sum(ram.prompt_experts, first, first + held), 0.0)
        if held:
            aside = _cheaper(aside, helper, ready, first, first + held, setup.ubatch, experts=True)
        prompt += own[0] + aside[0]
        ubatch += own[1] + aside[1]
        if end > layers:
            token += at.head
            ubatch += at.head_read
        where = at if placement.kv_on_gpu else ram
        share = (last - first) / layers
        cache += share * where.prices.cache_byte
        attention += share * where.prices.attention_op
    used = [ready.lanes[number] for number, _, _ in ranges]
    hops = sum(max(a.prices.hop, b.prices.hop) for a, b in pairwise(used))
    return _Cost(
        token + hops, prompt, ubatch, cache, attention,
        sum(1 for number, _, _ in ranges if number) if ranges[0][0] else 1,
        _widest([one.prices.decode_spread for one in used]),
        _widest([one.prices.prefill_spread for one in used]),
        "+".join(ready.processors[number].kind for number, _, _ in ranges),
        "; ".join(dict.fromkeys(one.because for one in used)),
    )  # fmt: skip


def _prompt_of(at: Lane, first: int, last: int, experts_from: int) -> tuple[float, float]:
    """(per token, per micro-batch) of a range of layers, its experts from one layer on."""
    token = _sum(at.prompt, first, last) + _sum(at.prompt_experts, experts_from, last)
    once = _sum(at.read, first, last) + _sum(at.read_experts, experts_from, last)
    return token, once


def _cheaper(
    own: tuple[float, float], gpu: Lane, ready: _Ready, first: int, last: int, ubatch: int,
    experts: bool = False,
) -> tuple[float, float]:  # fmt: skip
    """What lies in RAM, for a prompt: computed there, or brought to the GPU each time."""
    if gpu is ready.lanes[0]:
        return own
    weights = ready.build.weights[first:last]
    moved = sum(n for w in weights for _, n in w.experts)
    token = _sum(gpu.prompt_experts, first, last)
    if not experts:
        moved += sum(n for w in weights for _, n in w.dense)
        token += _sum(gpu.prompt, first, last)
    there = (token, moved / _BUS)
    return min(own, there, key=lambda cost: cost[0] * ubatch + cost[1])


def _sum(sums: tuple[float, ...], first: int, last: int) -> float:
    return sums[last] - sums[first]


def _back(ready: _Ready, cost: _Cost, depth: float, kv_bytes: float) -> float:
    """Seconds per token of reading the cache at `depth`."""
    price = cost.cache_byte * kv_bytes
    return sum(
        row * price * (depth if not window or depth < window else window)
        for window, row, _ in ready.back
    )


def _prompt(ready: _Ready, cost: _Cost, ubatch: int, tokens: int) -> float:
    """Seconds of a prompt of `tokens`, from an empty cache."""
    batches = -(-tokens // ubatch)
    mean = tokens / 2
    look = sum(
        ops * (mean if not window or mean < window else window) for window, _, ops in ready.back
    )
    seconds = tokens * (cost.prompt + look * cost.attention_op) + batches * cost.ubatch
    if cost.stages > 1:  # several GPUs, each on another micro-batch
        seconds *= (batches + cost.stages - 1) / (batches * cost.stages)
    return seconds


def _rate(expected: float, spread: tuple[float, float]) -> Interval:
    """`spread` is of ln(actual time / predicted time)."""
    low, high = spread
    return Interval(expected * math.exp(-high), expected, expected * math.exp(-low))


def _time(expected: float, spread: tuple[float, float]) -> Interval:
    low, high = spread
    return Interval(expected * math.exp(low), expected, expected * math.exp(high))


def _widest(spreads: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in spreads), max(high for _, high in spreads)


def _load(n_bytes: int, rate: Fact[float]) -> Interval:
    value = rate.value or ASSUMED_DISK
    low, high = (_DISK_LOW, _DISK_HIGH)
    if rate.value is not None:
        slack = 1.3 if rate.origin is Origin.MEASURED else 2.0
        low, high = value / slack, value * slack
    return Interval(_START_S + n_bytes / high, _START_S + n_bytes / value, _START_S + n_bytes / low)
