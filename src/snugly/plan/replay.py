"""llama.cpp's allocator, replayed over the layers that the first GPU takes over from RAM.

What stands where depends on the holes that went before, which no closed rule follows in small
models. For a few plain architectures this does what a layer takes and gives back
(plan/replay_steps.py), in order, and puts it where ggml would (plan/room.py); then the GPU's own
layers, for what comes in for them comes with the last matrix taken over.
"""

from typing import NamedTuple

from snugly.model.types import Attention, Build, Bytes
from snugly.plan.batch import Batch
from snugly.plan.profile import Profile
from snugly.plan.replay_sizes import TURNED, mask, matrices, of_kind, shared, sizes_of
from snugly.plan.replay_steps import (
    AS_IS,
    BIASED,
    LISTED,
    MATRICES,
    NO_PLACE,
    TUNED,
    WITH_BIAS,
    Listed,
)
from snugly.plan.room import Room, State

_COPIED = "!rs"  # says which states to look up (llama-graph.cpp, build_inp_rs); a few bytes
_PLACED = "-pos -kidx -vidx -kturn"  # when the last layer with attention is done with it
# What need not be copied in for a layer of the GPU's own.
_HERE = ("wc", "norm", "qn", "bias", "vbias", "qbias")
_CACHES = ("ck", "cv")
_MOST_KEPT = 256  # models in one setup
_kept: dict[tuple[object, ...], tuple[Build, "_Replay"]] = {}


def replayed(
    profile: Profile, batch: Batch, n_seq: int, layers: int, end: int, kept_here: bool = True
) -> int | None:
    """Bytes of the first GPU's buffer when it takes over the first `layers` layers.

    It holds the layers from there up to `end` itself, and what those remember if `kept_here`;
    else that is in RAM. None where the architecture has no list,
    or the model does not look like its own.
    """
    build = profile.build
    if build.architecture not in LISTED or batch.score_row or build.experts:
        return None
    key = (id(build), n_seq, kept_here, batch.tokens, batch.sizes, batch.widened, batch.layer_kv)
    found = _kept.get(key)
    if found is None or found[0] is not build:
        if not _listed(profile):
            return None
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        found = _kept[key] = build, _Replay(profile, batch, n_seq, kept_here)
    return found[1].most(layers, end)


def _listed(profile: Profile) -> bool:
    """Whether the model has just the layers and matrices that its architecture's list takes."""
    build = profile.build
    listed = LISTED[build.architecture]
    if not all(kind.kv_heads or (kind.state_bytes and listed.state) for kind in profile.kinds):
        return False
    if listed.state and build.layers[0].kv_heads:  # what comes in is looked up elsewhere then
        return False
    steps = " ".join((listed.attends, listed.forward, listed.state)).split()
    named = {name for name, _, _ in build.widths}
    taken = {step[1:] for step in steps if step[:2] == "+w"} & set(MATRICES.values())
    return taken == {short for name, short in MATRICES.items() if name in named}


class _Where(NamedTuple):
    """What of a layer's steps depends on where it lies."""

    kind: Attention
    next: str  # what the state of the next layer needs
    copied: str
    left: bool  # attention, to the CPU
    attends: bool  # any layer after it
    masked: bool  # any after it looks at the same mask
    handed: str
    is_first: bool
    is_last: bool
    is_placed: bool


class _Replay:
    """One model in one setup: what each layer takes and gives back, and what that needed."""

    def __init__(self, profile: Profile, batch: Batch, n_seq: int, kept_here: bool) -> None:
        self.kept_here = kept_here
        self.profile, self.layers = profile, profile.build.layers
        self.listed: Listed = LISTED[profile.build.architecture]
        self.cached = next(kind for kind in profile.kinds if kind.kv_heads)
        self.turned = bool(batch.widened) and self.cached.key_length % TURNED == 0
        self.sizes = {
            kind: sizes_of(profile, batch, n_seq, index) | shared(profile, batch, self.turned)
            for index, kind in enumerate(profile.kinds)
        }
        self.room = Room()
        # Of each layer: which of the model's sorts it is of.
        numbers: dict[tuple[Attention, Bytes], int] = {}
        weights = profile.build.weights
        self.sorts = [
            numbers.setdefault((kind, of_layer.dense), len(numbers))
            for kind, of_layer in zip(self.layers, weights, strict=True)
        ]
        self.written: dict[_Where, str] = {}
        # States by number: each is looked up in every layer, and long.
        self.states: list[State] = []
        self.numbers: dict[State, int] = {}
        # State, kind or sort of layer, steps: state after it, and the most in use.
        self.known: dict[tuple[int, Attention | int, str], tuple[int, int]] = {}
        self.found: dict[tuple[int, int], int] = {}
        self.room.run(self.listed.start, self.sizes[self.cached])
        self.before = [(self._number(), self.room.top)]  # each layer, all taken over

    def most(self, layers: int, end: int) -> int:
        """The most in use when `layers` are taken over and those up to `end` are its own."""
        if (layers, end) not in self.found:
            self.found[layers, end] = self._most(layers, end)
        return self.found[layers, end]

    def _most(self, layers: int, end: int) -> int:
        while len(self.before) < layers:
            state, most = self.before[-1]
            state, top = self._after(state, len(self.before) - 1, len(self.layers), 0)
            self.before.append((state, max(most, top)))
        state, most = self.before[layers - 1]
        for index in range(layers - 1, end if end > layers else layers):
            state, top = self._after(state, index, layers, end)
            most = max(most, top)
        return most

    def _number(self) -> int:
        """The room as it is now, by its number."""
        state = self.room.state()
        found = self.numbers.setdefault(state, len(self.states))
        if found == len(self.states):
            self.states.append(state)
        return found

    def _after(self, state: int, index: int, layers: int, end: int) -> tuple[int, int]:
        """The room after one layer, and the most that was in use."""
        own = index >= layers
        kind = self.layers[index]
        steps = self._steps(index, layers, end)
        key = state, kind if own else self.sorts[index], steps
        found = self.known.get(key)
        if found is None:
            dense = () if own else self.profile.build.weights[index].dense
            here = dict.fromkeys(_HERE + _CACHES * self.kept_here if own else (), 0)
            named = self._whole(kind).split()
            sizes = self.sizes[kind] | matrices(self.profile, dense, named) | here
            self.room.resume(self.states[state])
            self.room.run(steps, sizes)
            found = self.known[key] = self._number(), self.room.top
        return found

    def _steps(self, index: int, layers: int, end: int) -> str:
        """What one layer does, of which the first `layers` are taken over."""
        kind, stateful = self.layers[index], self._stateful(index + 1)
        copied = _COPIED if self.kept_here and stateful and layers <= index + 1 < end else ""
        each = NO_PLACE.get(self.profile.build.architecture, 0)
        where = _Where(
            kind,
            next=copied and f"{copied} +next {'' if self._looks_up(index + 2, end) else '-rs'}",
            copied=copied,
            left=self._left(index, layers),
            attends=self._attends(index + 1, max(layers, end)),
            masked=self._masked(kind, index + 1, layers, end),
            handed=self._handed(layers, end) if index + 1 == layers < end else "",
            is_first=index == 0,
            is_last=index + 1 == len(self.layers),
            is_placed=not each or (index + 1) % each != 0,
        )
        found = self.written.get(where)
        if found is None:
            found = self.written[where] = self._written(where)
        return found

    def _written(self, where: "_Where") -> str:
        kind, over = where.kind, where.masked
        words = self._words(where.is_first, kind) | {
            "next": where.next,
            "cache": "" if where.left else f"+ck +cv {mask(kind)} {where.copied} +attended",
            "back": "+back" if where.left else "",
            "placed": "" if where.attends else _PLACED,
            "over": "" if over else f"-{mask(kind)[1:]}",
            "last_k": "" if over else of_kind(kind, "-kturn"),
            "last_v": "" if over else of_kind(kind, "-vturn"),
            "handed": where.handed,
        }
        steps = self._whole(kind)
        if where.is_last:
            steps = steps.removesuffix(self.listed.forward)
        if not where.is_placed:
            steps = steps.replace("+rq -q", "q>rq").replace("+rk -k", "k>rk")
        return steps.format(**words)

    def _stateful(self, index: int) -> bool:
        return index < len(self.layers) and not self.layers[index].kv_heads

    def _looks_up(self, first: int, end: int) -> bool:
        return any(self._stateful(index) for index in range(first, end))

    def _attends(self, first: int, end: int) -> bool:
        return any(layer.kv_heads for layer in self.layers[first:end])

    def _left(self, index: int, layers: int) -> bool:
        """Whether attention is left to the CPU.

        The state of a layer in RAM is looked up there before the layer before it gives what its
        attention gave, and so attention stays in RAM, too.
        """
        return self._stateful(index + 1) and (index + 1 < layers or not self.kept_here)

    def _masked(self, kind: Attention, first: int, layers: int, end: int) -> bool:
        """Whether any layer from `first` on looks at the mask of `kind`."""
        return any(
            self.layers[index].kv_heads
            and bool(self.layers[index].window) == bool(kind.window)
            and not self._left(index, layers)
            for index in range(first, max(layers, end))
        )

    def _whole(self, kind: Attention) -> str:
        listed = self.listed
        steps = (
            (listed.turned if self.turned else listed.attends) if kind.kv_heads else listed.state
        )
        return f"{steps} {listed.forward}"

    def _words(self, is_first: bool, kind: Attention) -> dict[str, str]:
        architecture = self.profile.build.architecture
        tuned = any(name == "rope_freqs" for name, _, _ in self.profile.build.widths)
        words = TUNED if tuned else BIASED if architecture in WITH_BIAS else AS_IS
        words = words | {"mask": mask(kind)} | ({"ahead": "+wv"} if tuned and not is_first else {})
        return {key: of_kind(kind, steps) for key, steps in words.items()}

    def _handed(self, layers: int, end: int) -> str:
        """What comes in for the GPU's own layers."""
        if not self.kept_here:  # then the graph is cut in each layer
            return ""
        kinds = dict.fromkeys(kind for kind in self.layers[layers:end] if kind.kv_heads)
        places = "!pos" in self.listed.attends or "{early}" in self.listed.attends
        place = "!pos " if places else ""
        turned = "!kturn !vturn " if self.turned else ""
        return " ".join(
            place + of_kind(kind, f"{turned}!kidx !vidx") + " " + mask(kind) for kind in kinds
        )
