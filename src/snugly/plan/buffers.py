"""Compute buffers: what llama.cpp keeps on each device for one micro-batch.

Rules as in `plan.graph`, held against llama.cpp's own accounting by bench/device_memory.py.
Source of who computes what: llama.cpp ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph),
src/llama-context.cpp (pipeline parallelism).
"""

from dataclasses import dataclass

from snugly.model.types import Build
from snugly.plan.graph import Activations, mask_cells, state_room
from snugly.plan.profile import Profile, Remembered
from snugly.plan.types import Placement, Setup

# Backends that take large products over from the CPU, copying weights as they go, and that
# have the CPU work in memory they can reach (ggml-cuda.cu, ggml-vulkan.cpp, ggml-sycl.cpp:
# offload_op, get_host_buffer_type).
TAKES_OVER = frozenset({"cuda", "rocm", "vulkan", "sycl"})
# Backends that widen a quantized cache to f16 for flash attention (ggml-cuda/fattn.cu), and
# work on four micro-batches at once when several of them hold the whole model.
_CUDA_LIKE = frozenset({"cuda", "rocm"})
_COPIES = 4  # GGML_SCHED_MAX_COPIES
_OFFLOADED_FROM = 32  # tokens; below, products stay with the CPU (op_offload_min_batch_size)
_F32, _F16 = 4, 2
_IDS = 36  # bytes per token: its number, its position, where its K and V go, and outputs


@dataclass(frozen=True, slots=True)
class Spread:
    """Which layers each GPU holds: from `starts[i]` up to `starts[i + 1]`; RAM has the rest."""

    starts: tuple[int, ...]  # one more than there are GPUs
    head_on: int  # the GPU with the output head; -1: none
    experts_until: int  # routed experts of the layers before this one are in RAM

    @property
    def used(self) -> bool:
        """Whether any GPU holds anything."""
        return self.head_on >= 0


def spread(placement: Placement, n_layers: int) -> Spread:
    """The layers of each GPU; llama.cpp gives them the last ones, the head being one more.

    Raises: ValueError when more layers are placed than there are.
    """
    total = sum(placement.gpu_layers)
    if total > n_layers + 1:
        raise ValueError(f"{total} layers are placed on GPUs; there are {n_layers + 1}")
    start = n_layers + 1 - total
    starts, head_on = [min(start, n_layers)], -1
    for index, count in enumerate(placement.gpu_layers):
        start += count
        if count and start > n_layers:
            head_on = index
        starts.append(min(start, n_layers))
    until = min(starts[0] + placement.cpu_experts, n_layers) if placement.cpu_experts else 0
    return Spread(tuple(starts), head_on, until)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: how many tokens, and bytes of what comes with each."""

    tokens: int
    ids: int  # bytes per token that are not activations: masks, positions
    score_row: int  # bytes of one row of scores where flash attention is off, else 0
    index_row: int  # bytes of an indexer's rows
    widened: tuple[int, ...]  # of one layer's cache in f16, where it is something else; or empty
    layer_kv: tuple[int, ...]  # bytes of one layer's cache; both lists go by kind of layer


def batch_of(profile: Profile, setup: Setup, kept: Remembered) -> Batch:
    """The widest micro-batch of `setup`."""
    tokens = min(setup.ubatch, setup.context)
    tokens = -(-tokens // setup.n_seq) * setup.n_seq
    longest = max(kept.sizes, default=0)
    item = _F16 if setup.flash_attention else _F32
    quantized = (setup.kv_type, setup.v_type or setup.kv_type) != ("F16", "F16")
    rows = profile.work.indexer if setup.n_seq == 1 else 0
    return Batch(
        tokens,
        item * mask_cells(profile.kinds, kept.sizes) + _IDS,
        0 if setup.flash_attention else _F32 * profile.work.scores * longest,
        _F32 * rows * longest,
        kept.widened if quantized and setup.flash_attention else (),
        kept.bytes,
    )


def peak(work: Activations, batch: Batch, n_seq: int, row: int, less: int = 0) -> int:
    """Bytes at the widest point of whole layers on one device.

    `row` is what is widest of plain rows, `less` the elements per token that another
    device keeps.
    """
    tokens = batch.tokens
    points = [_F32 * (row - less) * tokens]
    if batch.score_row:
        points.append((batch.score_row + _F32 * (work.beside_scores - less)) * tokens)
    if batch.index_row:
        points.append((batch.index_row + _F32 * (work.attention - less)) * tokens)
    if work.recurrent:
        points.append(state_room(work, tokens, n_seq))
    return max(points) + batch.ids * tokens


def compute_bytes(
    profile: Profile, setup: Setup, placement: Placement, over: Spread, backend: str
) -> list[int]:
    """Bytes of the compute buffers: RAM's first, then each GPU's."""
    kept = profile.remembered(setup)
    batch = batch_of(profile, setup, kept)
    work, n_seq = profile.work, setup.n_seq
    if not over.used:
        return [peak(work, batch, n_seq, work.whole)] + [0] * len(placement.gpu_layers)
    taken = backend in TAKES_OVER and batch.tokens >= _OFFLOADED_FROM
    inputs = batch.tokens * (4 * _F32 * work.embedding + batch.ids)
    ram = inputs if taken else _left_to_cpu(profile, batch, n_seq, over, inputs)
    if taken and over.starts[0] > 0 and work.recurrent:  # states in RAM are worked on there
        ram += state_room(work, batch.tokens, n_seq) * 2 // 3
    piped = _piped(profile, placement, over, backend)
    if piped:
        ram += (_COPIES - 1) * (inputs - 2 * batch.tokens * _F32 * work.embedding)
    found = [ram]
    for index in range(len(placement.gpu_layers)):
        size = _on_gpu(profile, setup, placement, over, batch, index, backend)
        if size and piped:
            size += _pipe_bytes(work, batch, index == 0)
        found.append(size)
    first = next(i for i, count in enumerate(placement.gpu_layers) if count) + 1
    if taken:
        found[first] = max(found[first], _taken_over(profile, batch, n_seq, over))
    return found


def _left_to_cpu(profile: Profile, batch: Batch, n_seq: int, over: Spread, inputs: int) -> int:
    """RAM where the CPU computes what lies there."""
    if over.starts[0] > 0:
        return peak(profile.work, batch, n_seq, profile.work.whole)
    if over.experts_until:
        rows = profile.work.experts + profile.work.embedding
        return inputs + _F32 * rows * batch.tokens
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
    """A GPU's own layers.

    Its input is a copy of its own, so rows of the embedding are left to RAM: one where all
    layers are on GPUs, else three.
    """
    if not placement.gpu_layers[index]:
        return 0
    work, n_seq = profile.work, setup.n_seq
    if over.starts[index] == over.starts[index + 1]:  # the head alone, on what is asked for
        return _F32 * n_seq * (profile.build.vocab_size + 2 * work.embedding)
    row = work.whole
    if over.experts_until >= over.starts[index + 1]:
        row = max(work.attention, work.routed_out + 4 * work.embedding)
    if over.starts[index] == profile.n_layers - 1:  # of the last layer only what is asked for
        row = work.attention
    first = index == 0 and over.starts[0] == 0
    size = peak(work, batch, n_seq, row, work.embedding * (1 if first else 3))
    beside = _F32 * batch.tokens * (work.attention - 2 * work.embedding) + batch.ids * batch.tokens
    if not placement.kv_on_gpu:
        layer = profile.widest(batch.layer_kv, over.starts[index], over.starts[index + 1])
        size = max(size + _F32 * work.embedding * batch.tokens, beside + layer)
    if batch.widened and backend in _CUDA_LIKE:
        layer = profile.widest(batch.widened, over.starts[index], over.starts[index + 1])
        size = max(size, beside + layer)
    return size


def _taken_over(profile: Profile, batch: Batch, n_seq: int, over: Spread) -> int:
    """The first GPU's buffer where it computes layers that lie in RAM.

    One matrix at a time is copied beside what it is multiplied with.
    """
    work, tokens = profile.work, batch.tokens
    sizes = [0]
    if over.experts_until or profile.experts[over.starts[0]]:
        rows = work.routed + work.routed_out + 3 * work.embedding
        # Where layers with a state lie between, two matrices are on their way (counted).
        times = 2 if over.experts_until and work.recurrent else 1
        sizes.append(times * profile.widest_experts + _F32 * rows * tokens)
    if over.starts[0] > 0:
        rows = work.whole - work.forward
        # A row of the feed-forward moves into the room of the copy before, where it fits.
        room = 0 if _F32 * work.forward * tokens <= profile.widest_dense else work.forward
        sizes.append(profile.widest_dense + _F32 * (rows + room + work.embedding) * tokens)
        cache = profile.widest(batch.layer_kv, 0, over.starts[0])
        if batch.widened:  # the copy before it is widened takes the feed-forward's room
            cache = max(cache - _F32 * work.forward * tokens, 0)
            cache += profile.widest(batch.widened, 0, over.starts[0])
        sizes.append(cache + _F32 * rows * tokens)
        if work.recurrent:
            sizes.append(state_room(work, tokens, n_seq))
        if batch.score_row:
            sizes.append((batch.score_row + _F32 * work.beside_scores) * tokens)
    return max(sizes) + batch.ids * tokens


def _piped(profile: Profile, placement: Placement, over: Spread, backend: str) -> bool:
    """Whether several GPUs work on several micro-batches at once."""
    return (
        backend in _CUDA_LIKE
        and sum(count > 0 for count in placement.gpu_layers) > 1
        and sum(placement.gpu_layers) > profile.n_layers
        and placement.kv_on_gpu
        and not over.experts_until
    )


def _pipe_bytes(work: Activations, batch: Batch, first: bool) -> int:
    """Copies of the inputs for the other micro-batches, and of what one GPU hands the next."""
    rows = 2 if first else 1
    inputs = batch.tokens * (rows * _F32 * work.embedding + batch.ids)
    rows = 6 * work.embedding + (_COPIES * work.throughout if first else 0)
    return (_COPIES - 1) * inputs + batch.tokens * _F32 * rows


def output_bytes(build: Build, setup: Setup) -> int:
    """Bytes of the buffer that answers are read from: in RAM, one row of logits per slot."""
    return _F32 * build.vocab_size * setup.n_seq
