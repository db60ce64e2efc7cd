"""A build's sums over its layers, worked out once, so that a placement costs a few additions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from snugly.model.build import weight_bytes
from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, Build, Bytes, LayerWeights
from snugly.plan.cache import cells, layer_bytes, layer_snapshot
from snugly.plan.graph import Activations, activations
from snugly.plan.types import Setup

_MOST_KEPT = 512  # profiles, and setups of one profile: a search over a catalogue needs fewer
_kept: dict[int, "Profile"] = {}


@dataclass(frozen=True, slots=True)
class Remembered:
    """What caches and states take in one setup; lists go over the kinds of layers."""

    sizes: tuple[int, ...]  # cells
    bytes: tuple[int, ...]  # of one layer
    snapshot_bytes: int  # of all layers, one snapshot
    widened: tuple[int, ...]  # bytes of the cache of one layer, were it f16


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
    widest_dense: int  # bytes of the largest matrix that every token reads
    widest_experts: int  # bytes of the largest matrix of experts
    _repacked: dict[frozenset[str], tuple[tuple[int, ...], tuple[int, ...], int]] = field(
        default_factory=dict
    )
    _remembered: dict[tuple[int, int, int, str, str | None], Remembered] = field(
        default_factory=dict
    )

    def repacked(self, types: frozenset[str]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Bytes of `types` that are multiplied: sums of dense ones, of experts, of the head."""
        found = self._repacked.get(types)
        if found is None:
            weights = _loaded(self.build)
            found = (
                _sums(_of(layer.dense, types) for layer in weights),
                _sums(_of(layer.experts, types) for layer in weights),
                _of(self.build.output, types),
            )
            self._repacked[types] = found
        return found

    def remembered(self, setup: Setup) -> Remembered:
        """What each kind of layer takes in `setup`.

        Raises: ValueError for a cache type whose blocks do not divide a head.
        """
        key = (setup.context, setup.ubatch, setup.n_seq, setup.kv_type, setup.v_type)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _MOST_KEPT:
                self._remembered.clear()
            counts = [sums[-1] for sums in self.of_kind]
            sizes = tuple(
                cells(kind, setup.context, setup.ubatch, setup.n_seq) if kind.cached else 0
                for kind in self.kinds
            )
            found = Remembered(
                sizes,
                tuple(layer_bytes(kind, setup) for kind in self.kinds),
                sum(count * layer_snapshot(kind, setup)
                    for kind, count in zip(self.kinds, counts, strict=True)),
                tuple(2 * size * kind.kv_heads * (kind.key_length + kind.value_length)
                      for kind, size in zip(self.kinds, sizes, strict=True)),
            )  # fmt: skip
            self._remembered[key] = found
        return found

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
    kinds = tuple(dict.fromkeys(build.layers))
    fused = any(name == "ffn_gate_up_exps" for name, _, _ in build.widths)
    weights = _loaded(build)
    return Profile(
        build=build,
        work=activations(build),
        n_layers=len(build.layers),
        kinds=kinds,
        of_kind=tuple(_sums(layer == kind for layer in build.layers) for kind in kinds),
        dense=_sums(_total(layer.dense) for layer in weights),
        experts=_sums(_total(layer.experts) for layer in weights),
        output=_total(build.output),
        embedding=_total(build.embedding),
        tied=build.tied_bytes,
        header=max(build.file_bytes - weight_bytes(build), 0),
        widest_dense=_widest_dense(build),
        widest_experts=max(
            (_widest_experts(layer.experts, fused) for layer in build.weights), default=0
        ),
    )


def _loaded(build: Build) -> tuple[LayerWeights, ...]:
    """Weights of each layer that is loaded: not of the last ones where they only draft.

    llama.cpp skips those unless it is told to draft with them (load_mtp); the file has them.
    """
    count = len(build.weights)
    if any(name.startswith("nextn.") for name, _, _ in build.widths):
        while count and not build.layers[count - 1].cached:
            count -= 1
    return build.weights[:count] + (LayerWeights(()),) * (len(build.weights) - count)


def _sums(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(accumulate(values, initial=0))


def _total(weights: Bytes) -> int:
    return sum(n_bytes for _, n_bytes in weights)


def _of(weights: Bytes, types: frozenset[str]) -> int:
    return sum(n_bytes for kind, n_bytes in weights if kind in types)


def _widest_dense(build: Build) -> int:
    """Bytes of the largest matrix, in the type that most of its layer is kept in."""
    inner = max(
        (
            given * gives
            for name, given, gives in build.widths
            if "exps" not in name and "embd" not in name and name != "output"
        ),
        default=0,
    )
    kinds = {layer.dense[0][0] for layer in build.weights if layer.dense}
    return max((row_bytes(kind, 256) * inner // 256 for kind in kinds), default=0)  # fmt: skip


def _widest_experts(experts: Bytes, fused: bool) -> int:
    """Bytes of the largest of three matrices of equal size, or of two where two are `fused`.

    What leads back often has a type of its own.
    """
    sizes = [n_bytes for kind, n_bytes in experts if kind != "F32"]
    if len(sizes) < 2:
        return sum(sizes) * (2 if fused else 1) // 3
    return max(sizes[0] if fused else sizes[0] // 2, sizes[1])
