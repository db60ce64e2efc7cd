"""How fast a run will be: a roofline per device, with an interval. Pure."""

import math

from snugly.machine.types import NOT_TOLD, Fact, Origin
from snugly.model.types import Build
from snugly.plan.speed_cost import cost_of, look_back, prepared, prompt_seconds
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.speed_terms import bytes_per_weight
from snugly.plan.types import Interval, Placement, Processor, Setup, Speed

# A disk whose rate nobody measured: between a spinning one and NVMe; data sheets of drives sold.
ASSUMED_DISK, _DISK_LOW, _DISK_HIGH = 1e9, 0.15e9, 3.5e9
_START_S = 0.3  # of the engine's process: `bench/startup.py` on two cores


def _cell_bytes(setup: Setup) -> float:
    """Bytes of one element of the cache, K and V alike."""
    types = setup.kv_type, setup.v_type or setup.kv_type
    return sum(map(bytes_per_weight, types)) / 2


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
    ready = prepared(build, processors, setup)
    cost = cost_of(ready, setup, placement, prompt_tokens)
    learnt = corrections.of(build, cost.place) if corrections.by_class else None
    decode_spread, prefill_spread = cost.decode_spread, cost.prefill_spread
    slower, slower_prompt = 1.0, 1.0
    if learnt:
        slower, decode_spread = learnt[0].onto(decode_spread)
        slower_prompt, prefill_spread = learnt[1].onto(prefill_spread)
    kv_bytes = _cell_bytes(setup)
    depth = setup.context / setup.n_seq
    decode = slower * cost.token
    deep = decode + slower * look_back(ready, cost, depth, kv_bytes)
    ubatch = min(setup.ubatch, setup.context)
    prompt = slower_prompt * prompt_seconds(ready, cost, setup, prompt_tokens)
    one = prompt
    if ubatch != prompt_tokens:
        other = cost_of(ready, setup, placement, ubatch) if any(placement.gpu_layers) else cost
        one = slower_prompt * prompt_seconds(ready, other, setup, ubatch)
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
    ready = prepared(build, processors, setup)
    cost = cost_of(ready, setup, placement, prompt_tokens)
    kv_bytes = _cell_bytes(setup)
    depth = prompt_tokens + completion_tokens / 2
    decode = cost.token + look_back(ready, cost, depth, kv_bytes)
    prompt = max(1, prompt_tokens)
    return 1 / decode, prompt / prompt_seconds(ready, cost, setup, prompt)


def place_of(
    build: Build, setup: Setup, placement: Placement, processors: tuple[Processor, ...]
) -> str:
    """What computes: "cpu", "cuda", "cpu+cuda"; runs teach about others of the same place."""
    return cost_of(prepared(build, processors, setup), setup, placement, 1).place


def _rate(expected: float, spread: tuple[float, float]) -> Interval:
    """`spread` is of ln(actual time / predicted time)."""
    low, high = spread
    return Interval(expected * math.exp(-high), expected, expected * math.exp(-low))


def _time(expected: float, spread: tuple[float, float]) -> Interval:
    low, high = spread
    return Interval(expected * math.exp(low), expected, expected * math.exp(high))


def _load(n_bytes: int, rate: Fact[float]) -> Interval:
    value = rate.value or ASSUMED_DISK
    low, high = (_DISK_LOW, _DISK_HIGH)
    if rate.value is not None:
        slack = 1.3 if rate.origin is Origin.MEASURED else 2.0
        low, high = value / slack, value * slack
    return Interval(_START_S + n_bytes / high, _START_S + n_bytes / value, _START_S + n_bytes / low)
