"""How many bytes a run takes of each pool: weights, caches, compute buffers, overhead.

Weights and caches are exact; compute buffers follow llama.cpp's own layout
(`plan.buffers`); overhead is fitted (docs/plan.md). `bench/device_memory.py` prints this
beside llama.cpp's accounting, `bench/memory.py` beside what a process really took.
"""

from collections.abc import Sequence

from snugly.machine.types import Pool
from snugly.model.build import build_of
from snugly.model.types import Build, ModelSpec
from snugly.plan.batch import Spread, spread
from snugly.plan.buffers import TAKES_OVER, compute_bytes, output_bytes
from snugly.plan.cache import (
    CACHE_TYPE,
    CACHE_TYPES,
    CELL_STEP,
    CHECKPOINTS,
    cells,
    checkpoint_bytes,
    kv_bytes,
)
from snugly.plan.profile import Profile, profile_of
from snugly.plan.types import (
    EngineFacts,
    Estimate,
    Extras,
    Placement,
    PoolUse,
    Setup,
)
from snugly.units import GiB, KiB, MiB

__all__ = [
    "CACHE_TYPE", "CACHE_TYPES", "CELL_STEP", "CHECKPOINTS", "NOTHING_MORE", "PROJECTOR_ROOM",
    "cells",
    "checkpoint_bytes", "estimate", "kv_bytes", "overhead_bytes", "pool_uses", "repack_bytes",
]  # fmt: skip

NOTHING_MORE = Extras()
_ALLOWANCE = 4 * MiB  # allocator, threads, HTTP buffers: 2..5 MiB seen on four models
# Beside the projector's weights, for its graph: what Ollama leaves free for it
# (design notes; it depends on the picture's size, which a plan does not know).
PROJECTOR_ROOM = 1 * GiB


def pool_uses(
    build: Build,
    setup: Setup,
    placement: Placement,
    pools: Sequence[Pool],
    engine: EngineFacts,
    extras: Extras = NOTHING_MORE,
) -> tuple[PoolUse, ...]:
    """Peak bytes of a run in each pool, in the order of `pools`.

    `pools` are as in `Machine.pools`: RAM first, then the GPUs that `placement.gpu_layers`
    counts, in that order. Where GPUs outnumber their pools they take from the last one, so
    that a single pool means memory shared by CPU and GPU.

    Raises: ValueError when more layers are placed than there are, and for a cache type
    whose blocks do not divide a head.
    """
    profile = profile_of(build)
    over = spread(placement, profile.n_layers)
    last = len(pools) - 1
    weights, repack = _weights(profile, setup, over, engine)
    caches = _caches(profile, setup, placement, over)
    compute = compute_bytes(profile, setup, placement, over, engine.offloads_to)
    compute[0] += output_bytes(build, setup)
    overhead = _overheads(build, over, engine)
    more = _extras(profile, over, extras, engine)
    sums = [[0, 0, 0, 0, 0] for _ in pools]
    for device in range(len(weights)):
        parts = sums[min(device, last)]
        parts[0] += weights[device]
        parts[1] += caches[device]
        parts[2] += compute[device]
        parts[3] += more[device]
        parts[4] += overhead[device]
    return tuple(
        PoolUse(pool.name, parts[0], 0 if index else repack, *parts[1:])
        for index, (pool, parts) in enumerate(zip(pools, sums, strict=True))
    )


def _weights(
    profile: Profile, setup: Setup, over: Spread, engine: EngineFacts
) -> tuple[list[int], int]:
    """Bytes of weights per device, RAM first, and of the second copies in RAM."""
    dense, experts, starts = profile.dense, profile.experts, over.starts
    left = starts[0]  # layers in RAM
    on_gpu, in_ram = [], dense[left] + experts[left] + profile.embedding
    for index in range(len(starts) - 1):
        first, end = starts[index], starts[index + 1]
        kept = min(max(over.experts_until, first), end)  # experts before this one are in RAM
        in_ram += experts[kept] - experts[first]
        on_gpu.append(dense[end] - dense[first] + experts[end] - experts[kept])
    if over.used:
        on_gpu[over.head_on] += profile.output
    else:
        in_ram += profile.output - profile.tied
    repack = 0
    # A GPU's host memory comes before other layouts (llama-model.cpp, make_cpu_buft_list).
    if setup.repack and engine.repacks and not (over.used and engine.offloads_to in TAKES_OVER):
        of_dense, of_experts, of_head = profile.repacked(engine.repacks)
        repack = of_dense[left] + of_experts[max(left, over.experts_until)]
        repack += 0 if over.used else of_head
    return [in_ram, *on_gpu], repack


def _caches(profile: Profile, setup: Setup, placement: Placement, over: Spread) -> list[int]:
    """Bytes of caches and states per device, RAM first, with all snapshots in RAM."""
    kept = profile.remembered(setup)
    each = [0] * len(over.starts)
    each[0] = CHECKPOINTS * setup.n_seq * kept.snapshot_bytes
    for sums, size in zip(profile.of_kind, kept.bytes, strict=True):
        if not placement.kv_on_gpu:
            each[0] += size * sums[-1]
            continue
        each[0] += size * sums[over.starts[0]]
        for index in range(len(over.starts) - 1):
            each[index + 1] += size * (sums[over.starts[index + 1]] - sums[over.starts[index]])
    return each


def overhead_bytes(build: Build, engine: EngineFacts) -> int:
    """Bytes of the engine itself in RAM: code, tokenizer, the file's header, allowance.

    The tokenizer keeps about 0.21 KiB per token and 0.19 KiB per merge in hash tables. The
    header is mapped, and read once, with the rest.
    """
    tokenizer = 0.2125 * KiB * build.vocab_size + 0.19 * KiB * build.n_merges
    return engine.code_bytes + round(tokenizer) + profile_of(build).header + _ALLOWANCE


def _overheads(build: Build, over: Spread, engine: EngineFacts) -> list[int]:
    n_gpus = len(over.starts) - 1
    used = [over.starts[i] < over.starts[i + 1] or over.head_on == i for i in range(n_gpus)]
    ram = overhead_bytes(build, engine) + engine.gateway_bytes
    return [
        ram + sum(used) * engine.device_ram_bytes,
        *(engine.device_bytes if on else 0 for on in used),
    ]


def _extras(profile: Profile, over: Spread, extras: Extras, engine: EngineFacts) -> list[int]:
    """Bytes beside the model per device.

    The projector is on the first GPU, adapters with the layers they adapt, the drafter
    with the head.
    """
    found = [0] * len(over.starts)
    if extras is NOTHING_MORE:
        return found
    first = next(
        (i + 1 for i in range(len(over.starts) - 1) if over.starts[i] < over.starts[i + 1]), 0
    )
    if extras.projector_bytes:
        found[first] += extras.projector_bytes + PROJECTOR_ROOM
    layers = max(profile.n_layers, 1)
    held = [over.starts[i + 1] - over.starts[i] for i in range(len(over.starts) - 1)]
    for index, count in enumerate([layers - sum(held), *held]):
        found[index] += -(-extras.adapter_bytes * count // layers)
    if extras.draft is not None and extras.draft_setup is not None:
        drafted = _drafter(extras.draft, extras.draft_setup, over, engine)
        for index, size in enumerate(drafted):
            found[index] += size
    return found


def _drafter(draft: Build, setup: Setup, over: Spread, engine: EngineFacts) -> list[int]:
    counts = [0] * (len(over.starts) - 1)
    if over.used:
        counts[over.head_on] = len(draft.layers) + 1
    pools = [Pool(str(i), 0, 0) for i in range(len(counts) + 1)]
    uses = pool_uses(draft, setup, Placement(tuple(counts)), pools, engine)
    return [use.total_bytes - use.overhead_bytes for use in uses]


def repack_bytes(spec: ModelSpec, engine: EngineFacts) -> int:
    """Bytes of the second copy that the engine makes of matrices of some types, all in RAM.

    What is only looked up by row stays as it is: per-layer embeddings, and the token
    embedding unless it is the output head too (tied), which is multiplied.
    Source: llama.cpp ggml/src/ggml-cpu/repack.cpp, llama-model-loader.cpp (a duplicated
    token_embd is loaded as output).
    """
    dense, experts, head = profile_of(build_of(spec)).repacked(engine.repacks)
    return dense[-1] + experts[-1] + head


def estimate(
    spec: ModelSpec, context: int, ubatch: int, engine: EngineFacts, repack: bool = True
) -> Estimate:
    """Peak resident bytes of running `spec` with one sequence of `context` tokens in RAM."""
    setup = Setup(context, ubatch=ubatch, repack=repack)
    ram = (Pool("RAM", 0, 0),)
    return Estimate(pool_uses(build_of(spec), setup, Placement(), ram, engine))
