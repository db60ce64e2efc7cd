"""What a placement costs: the lanes of its processors added up. Pure."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

from snugly.model.types import Build
from snugly.plan.speed_lanes import UBATCH, Back, Lane, lane, looks_back
from snugly.plan.speed_prices import Looking
from snugly.plan.speed_terms import overlap
from snugly.plan.types import Placement, Processor, Setup

# Weights that stay in RAM may cross to the GPU for a prompt: 16 lanes of PCIe 3 (16 GB/s less
# its protocol), as llama.cpp does for batches of 32 and more (ggml-cuda.cu, offload_op).
BUS_BYTES_PER_S, WORTH_MOVING = 12e9, 32
# Cells that attention looks over at a time (llama-kv-cache.cpp, get_n_kv), and from how many on
# an answer's are dealt to the threads in equal parts (ggml-cpu/ops.cpp, use_split_kv_path).
_CELLS, _DEALT = 256, 512
_HALF = 2.0  # bytes of an element in f16: other types are dealt by heads
_KEPT = 4096  # prepared builds of one box; a search holds fewer
_BOXES = 4  # whose builds are kept: a server plans on one, unless its rates are measured anew


class Lanes:
    """Of a build one per processor, worked out when it is asked for."""

    def __init__(self, build: Build, box: "_Box", setup: Setup) -> None:
        """`setup` decides what is laid out anew, and how attention is computed."""
        self._build, self._processors, self._twins = build, box.processors, box.twins
        self._repack, self._flash = setup.repack, setup.flash_attention
        self._made: dict[int, Lane] = {}

    def __len__(self) -> int:
        """How many processors there are."""
        return len(self._processors)

    def __getitem__(self, number: int) -> Lane:
        """That of one processor."""
        twin = self._twins[number]
        found = self._made.get(twin)
        if found is None:
            found = lane(self._build, self._processors[twin], self._repack, self._flash)
            self._made[twin] = found
        return found


@dataclass(frozen=True, slots=True)
class Ready:
    """What is worked out once for a build on some processors."""

    build: Build  # held, so that its id stays its own
    processors: tuple[Processor, ...]
    lanes: Lanes
    back: tuple[Back, ...]


@dataclass(frozen=True, slots=True)
class _Box:
    """Some processors, and the builds that are prepared on them."""

    processors: tuple[Processor, ...]
    twins: tuple[int, ...]  # of each the first that is like it: cards differ in their memory alone
    builds: dict[tuple[int, bool, bool], Ready]


_ready: dict[int, _Box] = {}  # by the id of the processors


def prepared(build: Build, processors: tuple[Processor, ...], setup: Setup) -> Ready:
    """The build with its sums on each processor; worked out once for each."""
    box = _ready.get(id(processors))
    if box is None:
        if len(_ready) >= _BOXES:
            _ready.clear()
        alike = [replace(processor, pool="") for processor in processors]
        twins = tuple(alike.index(processor) for processor in alike)
        box = _ready[id(processors)] = _Box(processors, twins, {})
    here = box.builds
    key = (id(build), setup.repack, setup.flash_attention)
    found = here.get(key)
    if found is None:
        if len(here) >= _KEPT:
            here.clear()
        lanes = Lanes(build, box, setup)
        found = here[key] = Ready(build, processors, lanes, _back(build))
    return found


_backs: dict[int, tuple[Build, tuple[Back, ...]]] = {}


def _back(build: Build) -> tuple[Back, ...]:
    """What is looked back on; the types of a model share their layers, and this."""
    found = _backs.get(id(build.layers))
    if found is None or found[0].layers is not build.layers:
        if len(_backs) >= _KEPT:
            _backs.clear()
        found = _backs[id(build.layers)] = build, looks_back(build, Counter(build.layers).items())
    return found[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a placement: of a token, of a prompt's token and micro-batch, of looking back."""

    token: float
    prompt: float
    ubatch: float
    looking: Looking
    stages: int  # GPUs that work on different micro-batches at the same time
    decode_spread: tuple[float, float]
    prefill_spread: tuple[float, float]
    place: str
    because: str


def cost_of(ready: Ready, setup: Setup, placement: Placement, tokens: int) -> Cost:
    """The costs of a placement, for a prompt of `tokens`.

    Raises: ValueError when the placement names more than there is.
    """
    if any(placement.gpu_layers):
        return _split(ready, setup, placement, tokens)
    return _whole(ready.lanes[0], ready.processors[0])


def _whole(at: Lane, processor: Processor) -> Cost:
    prices = at.prices
    return Cost(
        at.dense[-1] + at.experts[-1] + at.steps[-1] + at.head,
        at.prompt[-1] + at.prompt_experts[-1],
        at.read[-1] + at.read_experts[-1] + at.head_read,
        prices.looking, 1,
        prices.decode_spread, prices.prefill_spread,
        processor.kind, at.because,
    )  # fmt: skip


def _ranges(ready: Ready, placement: Placement) -> list[tuple[int, int, int]]:
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


def _split(ready: Ready, setup: Setup, placement: Placement, tokens: int) -> Cost:
    """Layers on several devices, one after the other: times add up."""
    layers = len(ready.build.weights)
    ranges = _ranges(ready, placement)
    token = prompt = ubatch = 0.0
    left_in_ram = placement.cpu_experts
    work = tokens, -(-tokens // setup.ubatch)
    looking = [0.0] * len(Looking._fields)
    helper = ready.lanes[next(number for number, _, _ in ranges if number)]
    for number, first, end in ranges:
        at, last = ready.lanes[number], min(end, layers)
        held = min(left_in_ram, last - first) if number else 0
        left_in_ram -= held
        token += _sum(at.dense, first, last) + _sum(at.steps, first, last)
        token += _sum(at.experts, first + held, last)
        own = _prompt_of(at, first, last, first + held)
        if number == 0:
            own = _cheaper(own, helper, ready, first, last, work)
        prompt += own[0]
        ubatch += own[1]
        if held:
            ram = ready.lanes[0]
            token += _sum(ram.experts, first, first + held) + 2 * held * at.prices.mixture
            aside = (_sum(ram.prompt_experts, first, first + held), 0.0)
            aside = _cheaper(aside, helper, ready, first, first + held, work, experts=True)
            prompt += aside[0]
            ubatch += aside[1]
        if end > layers:
            token += at.head
            ubatch += at.head_read
        where = at if placement.kv_on_gpu else ready.lanes[0]
        share = (last - first) / layers
        for place, price in enumerate(where.prices.looking):
            looking[place] += share * price
    used = [ready.lanes[number] for number, _, _ in ranges]
    hops = sum(max(a.prices.hop, b.prices.hop) for a, b in pairwise(used))
    return Cost(
        token + hops, prompt, ubatch, Looking(*looking),
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
    own: tuple[float, float], gpu: Lane, ready: Ready, first: int, last: int, work: tuple[int, int],
    experts: bool = False,
) -> tuple[float, float]:  # fmt: skip
    """What lies in RAM, for a prompt: computed there, or brought to the GPU each time."""
    tokens, batches = work
    if tokens < WORTH_MOVING:
        return own
    weights = ready.build.weights[first:last]
    moved = sum(n for w in weights for _, n in w.experts)
    token = _sum(gpu.prompt_experts, first, last)
    if not experts:
        moved += sum(n for w in weights for _, n in w.dense)
        token += _sum(gpu.prompt, first, last)
    there = (token, moved / BUS_BYTES_PER_S)
    return min(own, there, key=lambda cost: cost[0] * tokens + cost[1] * batches)


def _sum(sums: tuple[float, ...], first: int, last: int) -> float:
    return sums[last] - sums[first]


def look_back(ready: Ready, cost: Cost, depth: float, kv_bytes: float) -> float:
    """Seconds per token of reading the cache at `depth`."""
    return looked_back(ready.back, cost.looking, depth, kv_bytes)


def looked_back(
    back: tuple[Back, ...], prices: Looking, depth: float, element_bytes: float
) -> float:
    """The same, at these prices."""
    workers = prices.workers if element_bytes == _HALF else 1.0
    total = 0.0
    for window, narrow, wide, ops, heads in back:
        seen = depth if not window or depth < window else window
        if workers > 1:
            seen = _slowest(seen, depth, window, workers)
        byte = element_bytes * (narrow * prices.narrow_byte + wide * prices.wide_byte)
        total += seen * (byte + heads * prices.token_head + ops * prices.token_op)
    return total


def _slowest(seen: float, depth: float, window: int, workers: float) -> float:
    """Positions of the thread that has most to do, times the threads.

    Each has as many cells of the cache, which grows by steps; those not filled yet cost nothing.
    """
    filled = min(depth, window + UBATCH) if window else depth
    cells = -(-filled // _CELLS) * _CELLS
    return seen if cells < _DEALT else min(workers * seen, max(seen, cells))


def prompt_seconds(ready: Ready, cost: Cost, setup: Setup, tokens: int) -> float:
    """Seconds of a prompt of `tokens`, from an empty cache."""
    batches = -(-tokens // setup.ubatch)
    look = prompt_look(ready.back, cost.looking, tokens)
    seconds = tokens * (cost.prompt + look) + batches * cost.ubatch
    if cost.stages > 1:  # several GPUs, each on another micro-batch
        seconds *= overlap(batches, cost.stages, setup.batch // setup.ubatch)
    return seconds


def prompt_look(back: tuple[Back, ...], prices: Looking, tokens: int) -> float:
    """Seconds per token of a prompt of looking back on what is before it, half of it on average."""
    mean = tokens / 2
    return sum(
        (
            one.ops * prices.prompt_op
            + one.heads * prices.prompt_head
            + (one.narrow + one.wide) * prices.prompt_element
        )
        * (mean if not one.window or mean < one.window else one.window)
        for one in back
    )


def _widest(spreads: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in spreads), max(high for _, high in spreads)
