"""A build's sums over its layers, worked out once, so that a placement costs a few additions."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from snugly.model.build import loaded, weight_bytes
from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, AttentionKind, Build, Bytes, LayerWeights
from snugly.plan.cache import cells, layer_bytes, layer_snapshot
from snugly.plan.graph import Activations
from snugly.plan.shape import running, shape_of
from snugly.plan.types import Setup

_MOST_KEPT = 512  # profiles, and setups of one profile: a search over a catalogue needs fewer
_PLAIN = ("F32", "F16", "BF16")
_kept: dict[int, "Profile"] = {}


@dataclass(frozen=True, slots=True)
class Remembered:
    """What caches and states take in one setup; lists go over the kinds of layers."""

    sizes: tuple[int, ...]  # cells
    bytes: tuple[int, ...]  # of one layer
    snapshot_bytes: int  # of all layers, one snapshot
    widened: tuple[int, ...]  # bytes of the cache of one layer, were it f16


@dataclass(frozen=True, slots=True)
class Leading:
    """Bytes of the matrices of a feed-forward: the one that widens, the one that leads back.

    Mixed quantizations keep what leads back in a type of its own in some layers.
    """

    up: int
    down: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One build. Sums run over layers: entry i is the sum of the first i."""

    build: Build
    work: Activations
    n_layers: int
    kinds: tuple[Attention, ...]
    of_kind: tuple[tuple[int, ...], ...]  # for each kind, how many of the first i layers
    dense: tuple[int, ...]
    experts: tuple[int, ...]
    output: int
    embedding: int
    tied: int
    header: int  # bytes of the file that are no weights
    forward: Leading  # the largest matrices that every token reads
    routed: Leading  # the largest matrices of experts
    n_stateful: int  # layers with a state
    lends: tuple[int, ...]  # for each layer, the one whose cache it reads; empty: each its own
    first_lasting: int  # the first layer that keeps everything; others slide or have states
    _repacked: dict[frozenset[str], tuple[tuple[int, ...], tuple[int, ...], int]] = field(
        default_factory=dict
    )
    _remembered: dict[tuple[int, int, int, str, str | None, bool], Remembered] = field(
        default_factory=dict
    )

    def repacked(self, types: frozenset[str]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Bytes of `types` that are multiplied: sums of dense ones, of experts, of the head."""
        found = self._repacked.get(types)
        if found is None:
            weights = loaded(self.build)
            found = (
                running(_of(layer.dense, types) for layer in weights),
                running(_of(layer.experts, types) for layer in weights),
                _of(self.build.output, types),
            )
            self._repacked[types] = found
        return found

    def remembered(self, setup: Setup) -> Remembered:
        """What each kind of layer takes in `setup`.

        Raises: ValueError for a cache type whose blocks do not divide a head.
        """
        key = (setup.context, setup.ubatch, setup.n_seq, setup.kv_type, setup.v_type,
               setup.flash_attention)  # fmt: skip
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _MOST_KEPT:
                self._remembered.clear()
            counts = [sums[-1] for sums in self.of_kind]
            sizes = tuple(
                cells(kind, setup.context, setup.ubatch, setup.n_seq)
                if kind.cached or (kind.kv_heads and self.lends)
                else 0
                for kind in self.kinds
            )
            kinds = self.kinds
            # V in blocks cannot be turned, and llama.cpp refuses it (llama-context.cpp).
            if not setup.flash_attention and (setup.v_type or setup.kv_type) in _PLAIN:
                kinds = _evened(kinds)
            found = Remembered(
                sizes,
                tuple(layer_bytes(kind, setup) for kind in kinds),
                sum(count * layer_snapshot(kind, setup)
                    for kind, count in zip(self.kinds, counts, strict=True)),
                tuple(2 * size * kind.kv_heads * (kind.key_length + kind.value_length)
                      for kind, size in zip(self.kinds, sizes, strict=True)),
            )  # fmt: skip
            self._remembered[key] = found
        return found

    def around(self, layer: int, end: int) -> tuple[int, int]:
        """Bytes of the matrix that led back in the last layer with experts before `layer`.

        And of the largest matrix of experts from there up to `end`.
        """
        weights, kind = self.build.weights, _kind_of_experts(self.build)
        before = next((one.experts for one in reversed(weights[:layer]) if one.experts), ())
        after = [_experts(one, *kind) for one in {one.experts for one in weights[layer:end]}]
        return _experts(before, *kind).down, max(max(one.up, one.down) for one in after)

    def lasting(self, sizes: tuple[int, ...]) -> int:
        """Cells, of `sizes`, of layers that keep everything."""
        return max((size for size, kind in zip(sizes, self.kinds, strict=True)
                    if kind.kv_heads and not kind.window), default=0)  # fmt: skip

    def borrowed(self, each: tuple[int, ...], first: int, end: int, since: int) -> int:
        """Bytes of the caches before `since` that layers from `first` up to `end` read.

        Once for each that reads one and has none. `each`: bytes by kind of layer.
        """
        reads = enumerate(self.lends[first:end], first)
        lent = [source for layer, source in reads if source < min(since, layer)]
        return sum(each[self.kinds.index(self.build.layers[source])] for source in lent)

    def attends(self, end: int) -> bool:
        """Whether any of the first `end` layers has attention."""
        return any(kind.kv_heads and sums[end]
                   for kind, sums in zip(self.kinds, self.of_kind, strict=True))  # fmt: skip

    def widest(self, each: tuple[int, ...], first: int, end: int) -> int:
        """The most that any layer from `first` up to `end` has of `each` kind's bytes."""
        return max(
            (
                size
                for size, sums in zip(each, self.of_kind, strict=True)
                if sums[end] > sums[first]
            ),
            default=0,
        )


def _evened(kinds: tuple[Attention, ...]) -> tuple[Attention, ...]:
    """Without flash attention the values are kept turned, in rows as long as the longest layer's.

    A layer without attention has such a row too (Nemotron Super), except beside layers with
    states, where the cache is told which layers attend.
    Source: llama.cpp src/llama-kv-cache.cpp (v_trans, n_embd_v_gqa_max), src/llama-model.cpp
    (filter_attn).
    """
    most = max((kind.kv_heads * kind.value_length for kind in kinds), default=0)
    stateless = not any(kind.state_bytes for kind in kinds)

    def evened(kind: Attention) -> Attention:
        if kind.cached and kind.kv_heads and kind.value_length:
            return replace(kind, value_length=most // kind.kv_heads)
        if kind.cached and kind.kind is AttentionKind.NONE and stateless:
            return replace(kind, kv_heads=1, key_length=0, value_length=most)
        return kind

    return tuple(evened(kind) for kind in kinds)


def profile_of(build: Build) -> Profile:
    """The profile of a build, made once for as long as it is in use."""
    found = _kept.get(id(build))
    if found is not None and found.build is build:
        return found
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[id(build)] = made = _profile(build)
    return made


def _profile(build: Build) -> Profile:
    shape, weights = shape_of(build), loaded(build)
    sizes = {id(one): (_total(one.dense), _total(one.experts)) for one in _different(weights)}
    return Profile(
        build=build,
        work=shape.work,
        n_layers=len(build.layers),
        kinds=shape.kinds,
        of_kind=shape.of_kind,
        dense=running(sizes[id(layer)][0] for layer in weights),
        experts=running(sizes[id(layer)][1] for layer in weights),
        output=_total(build.output),
        embedding=_total(build.embedding),
        tied=build.tied_bytes,
        header=max(build.file_bytes - weight_bytes(build), 0),
        forward=_leading_dense(build),
        routed=_leading_experts(build),
        n_stateful=shape.n_stateful,
        lends=shape.lends,
        first_lasting=shape.first_lasting,
    )


def _different(weights: tuple[LayerWeights, ...]) -> Iterable[LayerWeights]:
    """Each once: most are the same object, and to hash one takes longer."""
    return {id(one): one for one in weights}.values()


def _total(weights: Bytes) -> int:
    return sum(n_bytes for _, n_bytes in weights)


def _of(weights: Bytes, types: frozenset[str]) -> int:
    return sum(n_bytes for kind, n_bytes in weights if kind in types)


def _leading_dense(build: Build) -> Leading:
    """Of all layers, the most of each."""
    inner = max(
        (
            (given * gives, given, gives)
            for name, given, gives in build.widths
            if "exps" not in name and "embd" not in name and name != "output"
        ),
        default=(0, 0, 0),
    )
    found = [_leading(layer.dense, *inner) for layer in _different(build.weights) if layer.dense]
    return Leading(max((one.up for one in found), default=0),
                   max((one.down for one in found), default=0))  # fmt: skip


def _leading(dense: Bytes, elements: int, given: int, gives: int) -> Leading:
    """One layer's, from the bytes of its types alone: each in a type that has room for it."""
    sizes = []
    for kind, n_bytes in dense:
        block = row_bytes(kind, 256)
        fits = n_bytes >= block * elements // 256 > 0
        if fits and kind not in _PLAIN:
            sizes.append((block * elements // 256, kind))
    if not sizes:
        kind = dense[0][0]
        size = row_bytes(kind, 256) * elements // 256
        return Leading(size, size)
    return Leading(sizes[0][0], max(size for size, _ in sizes))


def _kind_of_experts(build: Build) -> tuple[bool, bool]:
    """Whether what widens and its gate are one matrix, and whether there is a gate."""
    names = {name for name, _, _ in build.widths}
    fused = "ffn_gate_up_exps" in names
    return fused, fused or "ffn_gate_exps" in names


def _leading_experts(build: Build) -> Leading:
    """Of all layers, the most of each."""
    fused, gated = _kind_of_experts(build)
    found = [_experts(layer.experts, fused, gated) for layer in _different(build.weights)]
    return Leading(max((one.up for one in found), default=0),
                   max((one.down for one in found), default=0))  # fmt: skip


def _experts(experts: Bytes, fused: bool, gated: bool) -> Leading:
    """One layer's: three matrices of equal length, or one of two lengths and one; or two."""
    sizes = [n_bytes for kind, n_bytes in experts if kind != "F32"]
    if len(sizes) < 2:
        whole = sum(sizes)
        if not gated:
            return Leading(whole // 2, whole // 2)
        return Leading(whole * 2 // 3 if fused else whole // 3, whole // 3)
    return Leading(sizes[0] if fused or not gated else sizes[0] // 2, sizes[1])
