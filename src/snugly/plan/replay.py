"""llama.cpp's allocator, replayed over the layers that the first GPU takes over from RAM.

What stands where depends on the holes that went before, which no closed rule follows in small
models. For a few plain architectures this does what a layer takes and gives back
(plan/replay_steps.py), in order, and puts it where ggml would (plan/room.py); then the GPU's own
layers, for what comes in for them comes with the last matrix taken over.
"""

from collections.abc import Iterator

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, Build, Bytes
from snugly.plan.batch import F32, Batch
from snugly.plan.profile import Profile
from snugly.plan.replay_steps import AS_IS, BIASED, LISTED, MATRICES, TUNED, WITH_BIAS, Listed
from snugly.plan.room import Room, State

_TURNED = 64  # the smallest turn of a quantized cache; llama-kv-cache.cpp, build_input_k_rot
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


class _Replay:
    """One model in one setup: what each layer takes and gives back, and what that needed."""

    def __init__(self, profile: Profile, batch: Batch, n_seq: int, kept_here: bool) -> None:
        self.kept_here = kept_here
        self.profile, self.layers = profile, profile.build.layers
        self.listed: Listed = LISTED[profile.build.architecture]
        self.cached = next(kind for kind in profile.kinds if kind.kv_heads)
        self.turned = bool(batch.widened) and self.cached.key_length % _TURNED == 0
        self.sizes = {
            kind: _sizes(profile, batch, n_seq, index) | _shared(profile, batch, self.turned)
            for index, kind in enumerate(profile.kinds)
        }
        self.room = Room()
        self.known: dict[tuple[State, Attention, Bytes, str], tuple[State, int]] = {}
        self.found: dict[tuple[int, int], int] = {}
        self.room.run(self.listed.start, self.sizes[self.cached])
        self.before = [(self.room.state(), self.room.top)]  # each layer, all taken over

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

    def _after(self, state: State, index: int, layers: int, end: int) -> tuple[State, int]:
        """The room after one layer, and the most that was in use."""
        own = index >= layers
        kind, dense = self.layers[index], () if own else self.profile.build.weights[index].dense
        steps = self._steps(index, layers, end)
        key = state, kind, dense, steps
        if key not in self.known:
            here = dict.fromkeys(_HERE + _CACHES * self.kept_here if own else (), 0)
            named = self._whole(kind).split()
            sizes = self.sizes[kind] | _matrices(self.profile, dense, named) | here
            self.room.resume(state)
            self.room.run(steps, sizes)
            self.known[key] = self.room.state(), self.room.top
        return self.known[key]

    def _steps(self, index: int, layers: int, end: int) -> str:
        """What one layer does, of which the first `layers` are taken over."""
        kind, listed = self.layers[index], self.listed
        stateful = self._stateful(index + 1)
        left = self._left(index, layers)
        copied = _COPIED if self.kept_here and stateful and layers <= index + 1 < end else ""
        words = self._words(index, kind) | {
            "next": copied and f"{copied} +next {'' if self._looks_up(index + 2, end) else '-rs'}",
            "cache": "" if left else f"+ck +cv {_mask(kind)} {copied} +attended",
            "back": "+back" if left else "",
            "placed": "" if self._attends(index + 1, max(layers, end)) else _PLACED,
            "over": "" if self._masked(kind, index + 1, layers, end) else f"-{_mask(kind)[1:]}",
            "handed": self._handed(layers, end) if index + 1 == layers < end else "",
        }
        steps = self._whole(kind)
        if index + 1 == len(self.layers):
            steps = steps.removesuffix(listed.forward)
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

    def _words(self, index: int, kind: Attention) -> dict[str, str]:
        architecture = self.profile.build.architecture
        tuned = any(name == "rope_freqs" for name, _, _ in self.profile.build.widths)
        words = TUNED if tuned else BIASED if architecture in WITH_BIAS else AS_IS
        words = words | {"mask": _mask(kind)} | ({"ahead": "+wv"} if tuned and index else {})
        return {key: _of(kind, steps) for key, steps in words.items()}

    def _handed(self, layers: int, end: int) -> str:
        """What comes in for the GPU's own layers."""
        if not self.kept_here:  # then the graph is cut in each layer
            return ""
        kinds = dict.fromkeys(kind for kind in self.layers[layers:end] if kind.kv_heads)
        places = "!pos" in self.listed.attends or "{early}" in self.listed.attends
        place = "!pos " if places else ""
        turned = "!kturn !vturn " if self.turned else ""
        return " ".join(
            place + _of(kind, f"{turned}!kidx !vidx") + " " + _mask(kind) for kind in kinds
        )


def _mask(kind: Attention) -> str:
    return "!slid" if kind.window else "!mask"


def _of(kind: Attention, steps: str) -> str:
    """Layers that slide have a cache of their own, and what goes with it."""
    return steps.replace("turn", "turned").replace("idx", "idxs") if kind.window else steps


def _sizes(profile: Profile, batch: Batch, n_seq: int, index: int) -> dict[str, int]:
    """Bytes of everything but matrices in layers of one kind, by its name in the steps."""
    kind, work = profile.kinds[index], profile.work
    wide = {name: (given, gives) for name, given, gives in profile.build.widths}
    token = F32 * batch.tokens
    row, inner = token * work.embedding, token * wide["ffn_down"][0]
    query = token * wide["attn_output"][0]
    key, value = (token * kind.kv_heads * n for n in (kind.key_length, kind.value_length))
    cache = batch.layer_kv[index]
    of_key = cache * kind.key_length // max(kind.key_length + kind.value_length, 1)
    state = n_seq * max(kind.state_bytes for kind in profile.kinds)
    names = {
        "mixed looked x kept place n o y bx co": row,
        "q rq nq hq ho back": query,
        "v hv": value,
        "k rk nk hk": key,
        "qkv": query + key + value,
        "g s": inner,
        "u": token * wide["ffn_up"][1],
        "pos scale": token,
        "slots kidx vidx kidxs vidxs": 2 * token,
        "rs": F32 * n_seq,
        "bias": query // batch.tokens,
        "vbias": value // batch.tokens,
        "qbias": (query + key + value) // batch.tokens,
        "norm": F32 * work.embedding,
        "qn": F32 * kind.key_length,
        "freqs": F32 * kind.key_length // 2,
        "ck": of_key,
        "cv": cache - of_key,
        "attended": query + (batch.widened[index] if batch.widened else 0),
        "st next": state,
        "bcx": token * wide.get("shortconv.in_proj", (0, 0))[1],
        "cc": row + state,
        "wc": F32 * wide.get("shortconv.conv", (0, 0))[0] * work.embedding,
    }
    return {name: size for listed, size in names.items() for name in listed.split()}


def _shared(profile: Profile, batch: Batch, turned: bool) -> dict[str, int]:
    """Bytes of what comes in once: masks, and turns of what slides and what does not."""
    sizes: dict[str, int] = {}
    for kind, cells in zip(profile.kinds, batch.sizes, strict=True):
        if kind.kv_heads:
            name = "slid" if kind.window else "mask"
            sizes[name] = batch.item * cells * batch.tokens
            sizes[_of(kind, "kturn")] = F32 * _turn(kind.key_length) ** 2 if turned else 0
            sizes[_of(kind, "vturn")] = F32 * _TURNED**2
    return sizes


def _turn(length: int) -> int:
    """The largest power of two times 64 that divides a head."""
    size = _TURNED
    while length % (2 * size) == 0:
        size *= 2
    return size


def _matrices(profile: Profile, dense: Bytes, steps: list[str]) -> dict[str, int]:
    """Bytes of one layer's matrices, from the bytes of its types alone; none if there are none.

    A layer in several types: the one that adds up, with the larger type for what leads back
    and for values (llama-quant.cpp).
    """
    wide = {name: given * gives for name, given, gives in profile.build.widths}
    taken = {step[1:] for step in steps}
    named = [
        (short, wide[name]) for name, short in MATRICES.items() if name in wide and short in taken
    ]
    if not dense:
        return {short: 0 for short, _ in named}
    types = sorted(
        ((row_bytes(kind, 256), n_bytes) for kind, n_bytes in dense if kind != "F32"),
        reverse=True,
    )
    found = next(_spread(named, types), None)
    if found is not None:
        return found
    whole = sum(n_bytes for _, n_bytes in types)
    elements = sum(size for _, size in named)
    return {short: whole * size // elements for short, size in named}


def _spread(named: list[tuple[str, int]], types: list[tuple[int, int]]) -> Iterator[dict[str, int]]:
    """Each way to give every matrix one of `types`, with nothing left of any."""
    if not named:
        if not any(left for _, left in types):
            yield {}
        return
    (short, elements), *others = named
    for index, (block, left) in enumerate(types):
        size = elements * block // 256
        if size <= left:
            rest = [*types[:index], (block, left - size), *types[index + 1 :]]
            for found in _spread(others, rest):
                yield found | {short: size}
