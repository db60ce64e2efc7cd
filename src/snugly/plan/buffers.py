"""Compute buffers: what llama.cpp keeps on each device for one micro-batch.

Rules as in `plan.graph`, held against llama.cpp's own accounting by bench/device_memory.py.
Source of who computes what: llama.cpp ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph),
src/llama-context.cpp (pipeline parallelism).
"""

from itertools import pairwise

from snugly.model.types import Build
from snugly.plan.batch import F32, Batch, Spread, batch_of, of_layers
from snugly.plan.graph import DEEP_LAYERS, Activations, state_room
from snugly.plan.handed import (
    COPIES,
    CUDA_LIKE,
    at_once,
    lent,
    masks_handed,
    per_layer,
    pipe_bytes,
)
from snugly.plan.profile import Profile
from snugly.plan.replay import replayed
from snugly.plan.taken_over import taken_over
from snugly.plan.types import Placement, Setup

# Backends that take large products over from the CPU, copying weights as they go, and that
# have the CPU work in memory they can reach (ggml-cuda.cu, ggml-vulkan.cpp, ggml-sycl.cpp:
# offload_op, get_host_buffer_type).
TAKES_OVER = frozenset({"cuda", "rocm", "vulkan", "sycl"})
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
    piped = at_once(profile, placement, over, backend)
    taken = backend in TAKES_OVER and batch.tokens >= _OFFLOADED_FROM
    found = [_in_ram(profile, batch, n_seq, placement, over, taken, piped)]
    for index, (start, end) in enumerate(pairwise(over.starts)):
        seen = of_layers(profile, batch, start, end)
        size = _on_gpu(profile, setup, placement, over, seen, index, backend)
        if size and piped:
            size += pipe_bytes(profile, seen, start)
        copies = COPIES if piped else 1
        if size and profile.lends:
            size += lent(profile, batch, start, end, placement, copies)
        if index and sum(placement.gpu_layers[:index]):
            size += masks_handed(profile, seen, start, end, copies)
            size -= per_layer(profile, batch, end - start, copies) if end > start else 0
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
    if layers:
        size = replayed(profile, batch, setup.n_seq, layers, end, placement.kv_on_gpu)
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
            ram = max(ram, _states_in_ram(work, batch, n_seq, inputs))
    hybrid = profile.n_stateful and work.states.chunk <= 1
    if taken and batch.score_row and hybrid and profile.attends(over.starts[0]):
        # Without flash attention the CPU works on the scores of some hybrids (LFM2, Jamba,
        # Nemotron-H), not of others (Granite): counted for each, to be safe, but for those of
        # gated delta nets (Qwen 3.5), whose attention has a gate, a product of its own.
        ram = max(ram, (batch.score_row + F32 * work.attention + batch.ids) * batch.tokens)
    if piped:
        once = 2 * work.embedding + work.place_row
        ram += (COPIES - 1) * (inputs - F32 * once * batch.tokens)
    return ram


def _states_in_ram(work: Activations, batch: Batch, n_seq: int, inputs: int) -> int:
    """Bytes in RAM beside states that lie there, while a GPU does the products.

    A gated delta net hands over what its convolution reads, when only the inputs are left. In
    Mamba 2 the scan is there: it reads three views of what was convolved, each copied whole.
    """
    states = work.states
    convolved = F32 * states.convolved
    if states.chunk > 1:
        kept = F32 * 2 * work.embedding + batch.ids
        return kept * batch.tokens + convolved * (batch.tokens + (states.taps - 1) * n_seq)
    scanned = F32 * (work.embedding + states.inner) * batch.tokens + n_seq * states.n_bytes // 2
    return inputs + 3 * convolved * batch.tokens + scanned


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
    if work.states.projected or work.short:
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
    kept = work.attended - work.deep + deep - 2 * work.embedding
    kept += (work.place_row + work.fused_row) // 2 if work.place_row else 0  # a row, and V's own
    beside = F32 * batch.tokens * kept + batch.ids * batch.tokens
    if not placement.kv_on_gpu:
        layer = profile.widest(batch.layer_kv, over.starts[index], over.starts[index + 1])
        if work.short:  # attention is left to the CPU, with its mask
            return size - batch.tokens * (F32 * 2 * work.embedding + batch.item * max(batch.sizes))
        size = max(size + F32 * work.embedding * batch.tokens, beside + layer)
    if batch.widened and backend in CUDA_LIKE:
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


def output_bytes(build: Build, setup: Setup) -> int:
    """Bytes of the buffer that answers are read from: in RAM, one row of logits per slot."""
    return F32 * build.vocab_size * setup.n_seq
