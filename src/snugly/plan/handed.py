"""What goes from one device to the next, and several GPUs that work on micro-batches at once.

Rules read off llama.cpp's own accounting, as in `plan.buffers`. Source: llama.cpp
ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph), src/llama-context.cpp (pipeline
parallelism).
"""

from snugly.plan.batch import F32, Batch, Spread
from snugly.plan.profile import Profile
from snugly.plan.types import Placement

# Backends that widen a quantized cache to f16 for flash attention (ggml-cuda/fattn.cu), and
# work on four micro-batches at once when several of them hold the whole model.
CUDA_LIKE = frozenset({"cuda", "rocm"})
COPIES = 4  # GGML_SCHED_MAX_COPIES


def at_once(profile: Profile, placement: Placement, over: Spread, backend: str) -> bool:
    """Whether several GPUs work on several micro-batches at once."""
    return (
        backend in CUDA_LIKE
        and sum(count > 0 for count in placement.gpu_layers) > 1
        and sum(placement.gpu_layers) > profile.n_layers
        and placement.kv_on_gpu
        and not over.experts_until
    )


def pipe_bytes(profile: Profile, batch: Batch, start: int) -> int:
    """Copies of the inputs for the other micro-batches, and of what one GPU hands the next.

    The graph is cut within a Mamba layer: what was projected, or convolved, goes along. In
    Mamba 1 two rows are normed beside what came in, and on the first GPU what was projected
    stands there once more than what a single GPU keeps.
    """
    work = profile.work
    with_state = work.states.projected > 0 and profile.build.layers[start].state_bytes > 0
    if start == 0:
        rows = (6 + 2 * (COPIES - 1)) * work.embedding - COPIES * work.place_row
        rows += COPIES * (work.throughout + (work.input_rows - 1) * work.embedding)
        rows += (COPIES - 1) * work.states.inner if with_state else 0
        rows += _more_piped(profile, with_state, 1)
    else:
        rows = (6 + COPIES - 1) * work.embedding - work.place_row
        rows += COPIES * (work.states.projected - work.embedding) if with_state else 0
        rows += _more_piped(profile, with_state, 3)
    # In LFM2 what attention gave is handed over to be turned.
    if work.short and max(batch.widened, default=0) > F32 * batch.tokens * (
        work.whole - work.attended
    ):
        rows += COPIES * work.embedding
    return batch.tokens * (F32 * rows + (COPIES - 1) * batch.ids)


def _more_piped(profile: Profile, with_state: bool, copies: int) -> int:
    """Elements per token of a layer with a state that only several micro-batches keep.

    `copies`: rows of the embedding that a single one leaves to another device.
    """
    work, states = profile.work, profile.work.states
    if states.scan_in_ram:
        more = 2 * work.embedding if copies > 1 else states.handed - states.on_gpu + states.inner
        return more if with_state else 0
    if profile.build.experts:  # they are wider
        return 0
    every = profile.n_stateful == profile.n_layers
    return states.widest - (states.handed if copies > 1 and every else states.on_gpu)


def lent(
    profile: Profile, batch: Batch, start: int, end: int, placement: Placement, copies: int
) -> int:
    """Caches of earlier layers that a GPU's own read, where they lie elsewhere: one for each.

    They come in together, for the graph is not cut between layers that keep nothing.
    """
    since = start if placement.kv_on_gpu else end
    return copies * profile.borrowed(batch.layer_kv, start, end, since)


def per_layer(profile: Profile, batch: Batch, count: int, copies: int) -> int:
    """Bytes that a later GPU saves of what is made for all layers: it gets its own's alone."""
    whole = profile.work.per_layer
    return F32 * batch.tokens * (whole - copies * count * whole // profile.n_layers)


def masks_handed(profile: Profile, batch: Batch, start: int, end: int, copies: int) -> int:
    """Masks in f32 that a later GPU gets from the first, one for each layer with an indexer.

    Each layer makes a view of its own, and each view is copied (src/models/minimax-m3.cpp,
    msa_mf). One is counted with the indexer's rows.
    """
    if not batch.index_row or not profile.work.mask_each:
        return 0
    count = sum(
        sums[end] - sums[start]
        for kind, sums in zip(profile.kinds, profile.of_kind, strict=True)
        if kind.index_key
    )
    return F32 * max(batch.sizes) * batch.tokens * max(copies * count - 1, 0)
