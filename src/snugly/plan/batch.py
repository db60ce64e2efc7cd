"""Which layers each device holds, and what comes with a micro-batch beside activations."""

from dataclasses import dataclass, replace

from snugly.plan.graph import mask_cells
from snugly.plan.profile import Profile, Remembered
from snugly.plan.types import Placement, Setup

F32, F16 = 4, 2
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
    item: int  # bytes of one cell of a mask
    sizes: tuple[int, ...]  # cells of the cache, by kind of layer


_MOST_KEPT = 4096
_kept: dict[int, tuple[Remembered, Batch]] = {}


def batch_of(profile: Profile, setup: Setup, kept: Remembered) -> Batch:
    """The widest micro-batch of `setup`, of which `kept` is what the profile remembers."""
    found = _kept.get(id(kept))
    if found is None or found[0] is not kept:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        found = _kept[id(kept)] = kept, _batch(profile, setup, kept)
    return found[1]


def _batch(profile: Profile, setup: Setup, kept: Remembered) -> Batch:
    tokens = min(setup.ubatch, setup.context)
    tokens = -(-tokens // setup.n_seq) * setup.n_seq
    longest = max(kept.sizes, default=0)
    item = F16 if setup.flash_attention else F32
    quantized = (setup.kv_type, setup.v_type or setup.kv_type) != ("F16", "F16")
    rows = profile.work.indexer if setup.n_seq == 1 else 0
    return Batch(
        tokens,
        item * mask_cells(profile.kinds, kept.sizes) + _ids(profile, setup),
        0 if setup.flash_attention else F32 * profile.work.scores * longest,
        F32 * rows * longest,
        kept.widened if quantized and setup.flash_attention else (),
        kept.bytes,
        item,
        kept.sizes,
    )


def _ids(profile: Profile, setup: Setup) -> int:
    """Bytes per token of what says where it stands.

    Without flash attention each element of V is told its own place, in 8 bytes, once for
    layers that keep everything and once for those that slide.
    Source: llama.cpp src/llama-kv-cache.cpp, build_input_v_idxs.
    """
    if setup.flash_attention:
        return _IDS
    kept = [kind for kind in profile.kinds if kind.cached and kind.kv_heads]
    most = max((kind.kv_heads * kind.value_length for kind in kept), default=0)
    return _IDS + 8 * most * len({bool(kind.window) for kind in kept})


def of_layers(profile: Profile, batch: Batch, first: int, end: int) -> Batch:
    """`batch` as layers from `first` up to `end` see it: with the masks that they use."""
    if all(sums[end] > sums[first] for sums in profile.of_kind):
        return batch
    seen = tuple(
        size if sums[end] > sums[first] else 0
        for size, sums in zip(batch.sizes, profile.of_kind, strict=True)
    )
    less = mask_cells(profile.kinds, batch.sizes) - mask_cells(profile.kinds, seen)
    return replace(batch, ids=batch.ids - batch.item * less)
