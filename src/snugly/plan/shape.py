"""What all types of one model share in a plan, worked out once for them. Pure."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from snugly.model.types import Attention, Build
from snugly.plan.graph import Activations, activations, lends

_MOST_KEPT = 512


def running(values: Iterable[int]) -> tuple[int, ...]:
    """Sums of the first i values, from none of them to all."""
    return tuple(accumulate(values, initial=0))


class Shape(NamedTuple):
    """Layers and activations; `profile.Profile` says what each is."""

    build: Build  # held, so that the id of its layers stays their own
    work: Activations
    kinds: tuple[Attention, ...]
    of_kind: tuple[tuple[int, ...], ...]
    n_stateful: int
    lends: tuple[int, ...]
    first_lasting: int


_BY_TYPE = frozenset(
    ("file_type", "file_bytes", "n_params", "weights", "embedding", "output", "tied_bytes")
)
_shared = attrgetter(*(one.name for one in fields(Build) if one.name not in _BY_TYPE))
_shapes: dict[int, Shape] = {}


def shape_of(build: Build) -> Shape:
    """The shape of a build."""
    found = _shapes.get(id(build.layers))
    if found is not None and _shared(found.build) == _shared(build):
        return found
    if len(_shapes) >= _MOST_KEPT:
        _shapes.clear()
    layers, kinds = build.layers, tuple(dict.fromkeys(build.layers))
    found = _shapes[id(build.layers)] = Shape(
        build=build,
        work=activations(build),
        kinds=kinds,
        of_kind=tuple(
            running(layer is kind or layer == kind for layer in layers) for kind in kinds
        ),
        n_stateful=sum(layer.state_bytes > 0 for layer in layers),
        lends=lends(build),
        first_lasting=next(
            (i for i, kind in enumerate(layers) if kind.kv_heads and not kind.window), 0
        ),
    )
    return found
