"""Compute buffers: what llama.cpp keeps on each device for one micro-batch.

Rules as in `plan.graph`, held against llama.cpp's own accounting by bench/device_memory.py.
Source of who computes what: llama.cpp ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph),
src/llama-context.cpp (pipeline parallelism).
"""

from itertools import pairwise

from snugly.model.types import Build
from snugly.plan.batch import F32, Batch, Spread, batch_of, of_layers
from snugly.plan.graph import DEEP_LAYERS, Activations, state_room
from snugly.plan.profile import Profile
from snugly.plan.replay import replayed
from snugly.plan.taken_over import taken_over
from snugly.plan.types import Placement, Setup

# Backends that take large products over from the CPU, copying weights as they go, and that
# have the CPU work in memory they can reach (ggml-cuda.cu, ggml-vulkan.cpp, ggml-sycl.cpp:
# offload_op, get_host_buffer_type).
TAKES_OVER = frozenset({"cuda", "rocm", "vulkan", "sycl"})
# Backends that widen a quantized cache to f16 for flash attention (ggml-cuda/fattn.cu), and
# work on four micro-batches at once when several of them hold the whole model.
_CUDA_LIKE = frozenset({"cuda", "rocm"})
_COPIES = 4  # GGML_SCHED_MAX_COPIES
# Rows of the embedding that a later GPU keeps beyond the usual ones, where attention and
# feed-forward stand side by side (src/models/phi2.cpp, gptneox.cpp). Counted by the oracle.
_KEPT_LATER = {"phi2": 2, "gptneox": 1}
_OFFLOADED_FROM = 32  # tokens; below, products stay with the CPU (op_offload_min_batch_size)


def peak(
    work: Activations, batch: Batch, n_seq: int, row: int, state_row: int, less: int = 0
) -> int:
    """Bytes at the widest point of whole layers on one device.

    `row` is what is widest of plain rows, `state_row` of a layer with a state, `less` the
    elements per token that another device keeps.
    """
    tokens = batch.tokens
    points = [F32 * (row - less) * tokens]
    if batch.score_row:
        points.append((batch.score_row + F32 * (work.beside_scores - less)) * tokens)
    if batch.index_row:
        points.append((batch.index_row + F32 * (work.attention - less)) * tokens)
    if work.states.widest:
        points.append(state_room(work, tokens, n_seq, state_row))
    return max(points) + batch.ids * tokens


def compute_bytes(
    profile: Profile, setup: Setup, placement: Placement, over: Spread, backend: str
) -> list[int]:
    """Bytes of the compute buffers: RAM's first, then each GPU's."""
    kept = profile.remembered(setup)
    batch = batch_of(profile, setup, kept)
    work, n_seq = profile.work, setup.n_seq
    if not over.used:
        return [peak(work, batch, n_seq, work.whole, work.states.widest)] + [0] * len(
            placement.gpu_layers
        )
    piped = _piped(profile, placement, over, backend)
    taken = backend in TAKES_OVER and batch.tokens >= _OFFLOADED_FROM
    found = [_in_ram(profile, batch, n_seq, placement, over, taken, piped)]
    for index, (start, end) in enumerate(pairwise(over.starts)):
        seen = of_layers(profile, batch, start, end)
        size = _on_gpu(profile, setup, placement, over, seen, index, backend)
        if size and piped:
            size += _pipe_bytes(profile, seen, start)
        copies = _COPIES if piped else 1
        if size and profile.lends:
            size += _lent(profile, batch, start, end, placement, copies)
        if index and sum(placement.gpu_layers[:index]):
            size += _masks_handed(profile, seen, start, end, copies)
            size -= _per_layer(profile, batch, end - start, copies) if end > start else 0
        found.append(size)
    if taken:
        first = next(i for i, count in enumerate(placement.gpu_layers) if count) + 1
        found[first] = _of_first(profile, setup, placement, over, over.starts[first], found[first])
    return found


def _of_first(
    profile: Profile, setup: Setup, placement: Placement, over: Spread, end: int, own: int
) -> int:
    """The first GPU with what it takes over: replayed where that is known, else by rules.

    It holds layers up to `end`, and needs `own` bytes for those.
    """
    layers = over.starts[0]
    batch = batch_of(profile, setup, profile.remembered(setup))
    if layers and placement.kv_on_gpu:
        size = replayed(profile, batch, setup.n_seq, layers, end)
        if size is not None:
            return size if end > layers else max(size, own)
    return max(own, taken_over(profile, batch, setup.n_seq, over, end))


def _in_ram(
    profile: Profile,
    batch: Batch,
    n_seq: int,
    placement: Placement,
    over: Spread,
    taken: bool,
    piped: bool,
) -> int:
    """RAM beside GPUs: what a micro-batch brings, and what is left to the CPU."""
    work = profile.work
    inputs = _inputs(work, batch)
    ram = inputs if taken else _left_to_cpu(profile, batch, n_seq, over, inputs)
    if over.starts[0] > 0 or not placement.kv_on_gpu:
        ram = max(ram, inputs + _caches_in_ram(work, batch))
    if taken and over.starts[0] > 0 and work.states.widest:  # states in RAM are worked on there
        if work.states.in_ram:
            ram = max(ram, F32 * work.states.in_ram * batch.tokens)
        else:
            ram += state_room(work, batch.tokens, n_seq, work.states.widest) * 2 // 3
    hybrid = profile.n_stateful and work.states.chunk <= 1
    if taken and batch.score_row and hybrid and profile.attends(over.starts[0]):
        # Without flash attention the CPU works on the scores of some hybrids (LFM2, Jamba,
        # Nemotron-H), not of others (Granite): counted for each, to be safe, but for those of
        # gated delta nets (Qwen 3.5), whose attention has a gate, a product of its own.
        ram = max(ram, (batch.score_row + F32 * work.attention + batch.ids) * batch.tokens)
    if piped:
        once = 2 * work.embedding + work.place_row
        ram += (_COPIES - 1) * (inputs - F32 * once * batch.tokens)
    return ram


def _inputs(work: Activations, batch: Batch) -> int:
    """Bytes of what a micro-batch brings, in RAM: words and pictures, and both looked up."""
    rows = (2 * work.input_rows + 2) * work.embedding + work.place_row
    return batch.tokens * (F32 * rows + batch.ids)


def _caches_in_ram(work: Activations, batch: Batch) -> int:
    """Bytes in RAM of what goes into caches there: whole rows where they are parts of one.

    A convolution keeps the end of its row, which comes whole, beside one of the embedding.
    """
    row = work.fused_row * (1 if work.fused_row <= 2 * work.embedding else 2)
    if batch.widened:  # turned before they are kept, and no longer parts
        row = 0
    if work.states.convolved or work.short:
        row += work.embedding + work.states.convolved
    return F32 * row * batch.tokens


def _left_to_cpu(profile: Profile, batch: Batch, n_seq: int, over: Spread, inputs: int) -> int:
    """RAM where the CPU computes what lies there."""
    if over.starts[0] > 0:
        work = profile.work
        return peak(work, batch, n_seq, work.whole, work.states.widest)
    if over.experts_until:
        rows = profile.work.experts + profile.work.embedding
        return inputs + F32 * rows * batch.tokens
    return inputs


def _on_gpu(
    profile: Profile,
    setup: Setup,
    placement: Placement,
    over: Spread,
    batch: Batch,
    index: int,
    backend: str,
) -> int:
    """A GPU's own layers."""
    if not placement.gpu_layers[index]:
        return 0
    work, n_seq = profile.work, setup.n_seq
    if over.starts[index] == over.starts[index + 1]:  # the head alone, on what is asked for
        return F32 * n_seq * (profile.build.vocab_size + 2 * work.embedding)
    row = work.whole
    if over.experts_until >= over.starts[index + 1]:
        row = max(work.attention, work.routed_out + 4 * work.embedding)
    if over.starts[index] == profile.n_layers - 1:  # of the last layer only what is asked for
        row = work.fused_row + 4 * work.embedding if work.place_row else work.attention
    first = index == 0 and over.starts[0] == 0
    row -= work.deep
    deep = over.starts[index] < DEEP_LAYERS and work.deep_gpu
    if deep:
        row = max(row + deep, (4 * work.input_rows + 3) * work.embedding)
    size = peak(work, batch, n_seq, row, *_left(profile, first))
    kept = work.attention - work.deep + deep - 2 * work.embedding
    kept += (work.place_row + work.fused_row) // 2 if work.place_row else 0  # a row, and V's own
    beside = F32 * batch.tokens * kept + batch.ids * batch.tokens
    if not placement.kv_on_gpu:
        layer = profile.widest(batch.layer_kv, over.starts[index], over.starts[index + 1])
        if work.short:  # attention is left to the CPU, with its mask
            return size - batch.tokens * (F32 * 2 * work.embedding + batch.item * max(batch.sizes))
        size = max(size + F32 * work.embedding * batch.tokens, beside + layer)
    if batch.widened and backend in _CUDA_LIKE:
        layer = profile.widest(batch.widened, over.starts[index], over.starts[index + 1])
        size = max(size, beside + layer) if layer else size
    return size


def _left(profile: Profile, first: bool) -> tuple[int, int]:
    """A GPU's widest row of a layer with a state, and elements per token that RAM keeps for it.

    Its input is a copy of its own, so rows of the embedding are left to RAM: one where all
    layers are on GPUs (`first`), else three. Two where the place of a token is a row of its own.
    """
    work, states = profile.work, profile.work.states
    later = 3 - _KEPT_LATER.get(profile.build.architecture, 0)
    less = 2 if work.place_row else 1 if first else later
    handed = not first and (states.scan_in_ram or profile.n_stateful == profile.n_layers)
    return states.handed if handed else states.on_gpu, work.embedding * less


def _piped(profile: Profile, placement: Placement, over: Spread, backend: str) -> bool:
    """Whether several GPUs work on several micro-batches at once."""
    return (
        backend in _CUDA_LIKE
        and sum(count > 0 for count in placement.gpu_layers) > 1
        and sum(placement.gpu_layers) > profile.n_layers
        and placement.kv_on_gpu
        and not over.experts_until
    )


def _pipe_bytes(profile: Profile, batch: Batch, start: int) -> int:
    """Copies of the inputs for the other micro-batches, and of what one GPU hands the next.

    The graph is cut within a Mamba layer: what was projected, or convolved, goes along. In
    Mamba 1 two rows are normed beside what came in, and on the first GPU what was projected
    stands there once more than what a single GPU keeps.
    """
    work = profile.work
    with_state = work.states.projected > 0 and profile.build.layers[start].state_bytes > 0
    if start == 0:
        rows = (6 + 2 * (_COPIES - 1)) * work.embedding - _COPIES * work.place_row
        rows += _COPIES * (work.throughout + (work.input_rows - 1) * work.embedding)
        rows += (_COPIES - 1) * work.states.inner if with_state else 0
        rows += _more_piped(profile, with_state, 1)
    else:
        rows = (6 + _COPIES - 1) * work.embedding - work.place_row
        rows += _COPIES * (work.states.projected - work.embedding) if with_state else 0
        rows += _more_piped(profile, with_state, 3)
    return batch.tokens * (F32 * rows + (_COPIES - 1) * batch.ids)


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


def _lent(
    profile: Profile, batch: Batch, start: int, end: int, placement: Placement, copies: int
) -> int:
    """Caches of earlier layers that a GPU's own read, where they lie elsewhere: one for each.

    They come in together, for the graph is not cut between layers that keep nothing.
    """
    since = start if placement.kv_on_gpu else end
    return copies * profile.borrowed(batch.layer_kv, start, end, since)


def _per_layer(profile: Profile, batch: Batch, count: int, copies: int) -> int:
    """Bytes that a later GPU saves of what is made for all layers: it gets its own's alone."""
    whole = profile.work.per_layer
    return F32 * batch.tokens * (whole - copies * count * whole // profile.n_layers)


def _masks_handed(profile: Profile, batch: Batch, start: int, end: int, copies: int) -> int:
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


def output_bytes(build: Build, setup: Setup) -> int:
    """Bytes of the buffer that answers are read from: in RAM, one row of logits per slot."""
    return F32 * build.vocab_size * setup.n_seq
