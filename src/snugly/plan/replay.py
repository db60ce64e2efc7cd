"""llama.cpp's allocator, replayed over the layers that the first GPU takes over from RAM.

What stands where depends on the holes that went before, which no closed rule follows in small
models. For a few plain architectures this lists what a layer takes and gives back, in order,
and puts it where ggml would. Sources: llama.cpp ggml/src/ggml-alloc.c (the smallest hole that
fits, of two alike the later one; else the end), ggml/src/ggml-backend.cpp (what a split copies
in), src/models/*.cpp (order). The order was read off ggml's allocator, made to tell each step.
"""

from collections.abc import Iterator

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Build, Bytes
from snugly.plan.batch import F32, Batch
from snugly.plan.profile import Profile

_ALIGN = 128  # bytes; ggml-cuda.cu, ggml_backend_cuda_buffer_type_get_alignment
_TURNED = 64  # the smallest turn of a quantized cache; llama-kv-cache.cpp, build_input_k_rot
# Steps: + takes, - gives back, ! takes once and keeps; y>x: y is the next layer's x.
_WORDS = "+mixed +looked +slots +x +kept -mixed -looked -slots"
_PLACED = "+x +place -place"  # the place of a token is a row of its own
_IN = " !mask +attended"
_GATED = "+n +wg +g -wg +wu +u -wu -n +s -g -u +wd +y -wd -s -o y>x"
_PLAIN = "+n +wu +u -wu -n +wd +y -wd -u"
_APART = (  # queries, keys and values by matrices of their own: as it is, with a turned cache
    "+n +wq {early} +q -wq {late} {ahead} +rq -q +wv +v -wv +wk +k -wk -n +rk -k -rk -v +ck +cv"
    + _IN + " -rq -ck -cv +wo +o -wo -attended -x " + _GATED,
    "+n +wq {early} {turn} +q -wq {late} {ahead} +rq -q +hq -rq +wv {vturn} +v -wv {vlate} +hv -v"
    " +wk +k -wk -n +rk -k +hk -rk -hk -hv +ck +cv" + _IN
    + " -hq -ck -cv +ho -attended +wo +o -wo -ho -x " + _GATED,
)  # fmt: skip
_FUSED = (
    "+n +wqkv +qkv -wqkv -n +ck +cv" + _IN + " -qkv -ck -cv +wo +o -wo -attended -x "
    + _PLAIN + " -o y>x",
    "+n +wqkv +qkv -wqkv -n +qbias !kturn !vturn -qbias +q +hq -q +v +hv -v +k -qkv +hk"
    " -k -hk -hv +ck +cv" + _IN + " -hq -ck -cv +ho -attended +wo +o -wo -ho -x "
    + _PLAIN + " -o y>x",
)  # fmt: skip
_BESIDE = (  # attention and feed-forward side by side
    "+n +wqkv +qkv -wqkv -n +qbias !pos -qbias +rq +rk -rk -qkv +ck +cv" + _IN + " -rq -ck -cv "
    + _PLAIN + " -x +wo +o -wo -attended -o y>x",
    "+n +wqkv +qkv -wqkv -n +qbias !pos !kturn !vturn -qbias +rq +hq -rq +v +hv -v +rk -qkv +hk"
    " -rk -hk -hv +ck +cv" + _IN + " -hq -ck -cv " + _PLAIN
    + " -x +ho -attended +wo +o -wo -ho -o y>x",
)  # fmt: skip
_BESIDE_APART = (  # the same, with matrices of their own
    "+n +wq {early} +q -wq {late} +rq -q +wv +v -wv +wk +k -wk +rk -k -rk -v +ck +cv" + _IN
    + " -rq -ck -cv +wo +o -wo -attended " + _PLAIN + " -y -x o>x",
    "+n +wq {early} {turn} +q -wq {late} +rq -q +hq -rq +wv {vturn} +v -wv {vlate} +hv -v +wk +k"
    " -wk +rk -k +hk -rk -hk -hv +ck +cv" + _IN
    + " -hq -ck -cv +ho -attended +wo +o -wo -ho " + _PLAIN + " -y -x o>x",
)  # fmt: skip
# SmolLM3 is missing: every fourth layer of it does without positions.
_STEPS = {
    "llama": (_WORDS, _APART), "qwen2": (_WORDS, _APART), "ernie4_5": (_WORDS, _APART),
    "seed_oss": (_WORDS, _APART), "gpt2": (_PLACED, _FUSED), "starcoder": (_PLACED, _FUSED),
    "gptneox": (_WORDS, _BESIDE), "phi2": (_WORDS, _BESIDE_APART),
}  # fmt: skip
# What comes in once comes with the first split that needs it: with the matrix of queries, with
# their bias, or with the frequencies of Llama 3.1 and later, which have a split of their own
# (and the matrix of values, from the second layer on, comes with it).
_AS_IS = {
    "early": "!pos",
    "turn": "!kturn",
    "vturn": "!vturn",
    "late": "",
    "vlate": "",
    "ahead": "",
}
_BIASED = dict.fromkeys(_AS_IS, "") | {
    "late": "+bias !pos !kturn -bias", "vlate": "+vbias !vturn -vbias",
}  # fmt: skip
_TUNED = _AS_IS | {"early": "", "turn": "", "late": "!pos !freqs !kturn"}
_WITH_BIAS = frozenset({"qwen2", "seed_oss", "phi2"})
_MATRICES = {
    "ffn_down": "wd", "attn_v": "wv", "attn_qkv": "wqkv", "attn_k": "wk", "attn_q": "wq",
    "attn_output": "wo", "ffn_gate": "wg", "ffn_up": "wu",
}  # fmt: skip
_MOST_KEPT = 256  # models in one setup
_kept: dict[tuple[object, ...], tuple[Build, tuple[tuple[int, int], ...]]] = {}
_State = tuple[int, tuple[tuple[int, int], ...], tuple[tuple[str, tuple[int, int]], ...]]


class _Room:
    """Blocks in use, and the holes between them."""

    def __init__(self) -> None:
        self.top = self.end = 0  # the most ever used; where the open end starts
        self.holes: list[tuple[int, int]] = []  # (offset, size), by offset
        self.used: dict[str, tuple[int, int]] = {}

    def take(self, name: str, size: int) -> None:
        """Put `size` bytes into the smallest hole that has room for them."""
        size = -(-size // _ALIGN) * _ALIGN
        best = -1
        for index, (_, free) in enumerate(self.holes):
            if free >= size and (best < 0 or free <= self.holes[best][1]):
                best = index
        if best < 0:
            self.used[name] = self.end, size
            self.end += size
            self.top = max(self.top, self.end)
            return
        offset, free = self.holes.pop(best)
        self.used[name] = offset, size
        if free > size:
            self.holes.insert(best, (offset + size, free - size))

    def give(self, name: str) -> None:
        """Give back what `name` took; holes side by side become one."""
        offset, size = self.used.pop(name)
        holes: list[tuple[int, int]] = []
        for hole in sorted([*self.holes, (offset, size)]):
            if holes and sum(holes[-1]) == hole[0]:
                holes[-1] = holes[-1][0], holes[-1][1] + hole[1]
            else:
                holes.append(hole)
        if holes and sum(holes[-1]) == self.end:
            self.end = holes.pop()[0]
        self.holes = holes

    def state(self) -> _State:
        """What is in use now."""
        return self.end, tuple(self.holes), tuple(sorted(self.used.items()))

    def resume(self, state: _State) -> None:
        """Go back to an earlier state; the most ever used starts anew."""
        self.end, holes, used = state
        self.top, self.holes, self.used = self.end, list(holes), dict(used)

    def run(self, steps: str, sizes: dict[str, int]) -> None:
        """Do all `steps` of one layer; what has no size is not there."""
        for step in steps.split():
            what, name = step[0], step[1:]
            if ">" in step:
                old, new = step.split(">")
                self.used[new] = self.used.pop(old)
            elif what == "-" and name in self.used:
                self.give(name)
            elif what != "-" and sizes.get(name) and name not in self.used:
                self.take(name, sizes[name])


def replayed(profile: Profile, batch: Batch, layers: int, own: bool) -> int | None:
    """Bytes of the first GPU's buffer when it takes over the first `layers` layers.

    `own`: whether it holds layers itself. None where the architecture has no list, or the
    model does not look like its own.
    """
    build, kinds = profile.build, profile.kinds
    if build.architecture not in _STEPS or batch.score_row or build.experts:
        return None
    if len(kinds) != 1 or kinds[0].window or not kinds[0].kv_heads or not _alike(build):
        return None
    key = (id(build), batch.tokens, batch.sizes, batch.widened, batch.layer_kv)
    found = _kept.get(key)
    if found is None or found[0] is not build:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        found = _kept[key] = build, tuple(_replay(profile, batch))
    return found[1][layers][own]


def _alike(build: Build) -> bool:
    """Whether the model has just the matrices that its architecture's list takes."""
    listed = {step[1:] for step in _STEPS[build.architecture][1][0].split() if step[:2] == "+w"}
    named = {name for name, _, _ in build.widths}
    return listed == {short for name, short in _MATRICES.items() if name in named}


def _replay(profile: Profile, batch: Batch) -> Iterator[tuple[int, int]]:
    """For each number of layers taken over, the most in use; and with a layer of its own after.

    From some layer on the holes repeat, and what a layer does with them is known.
    """
    start, first, later = _steps(profile, batch)
    sizes, room, most = _sizes(profile, batch), _Room(), 0
    matrices = {
        layer.dense: sizes | _matrices(profile, layer.dense) for layer in profile.build.weights
    }
    room.run(start, sizes)
    known: dict[tuple[_State, Bytes], tuple[_State, int]] = {}
    state = room.state()

    def after(dense: Bytes, steps: str) -> tuple[_State, int]:
        key = state, dense
        if key not in known:
            room.resume(state)
            # Its own matrices and caches are there.
            room.run(steps, matrices[dense] if dense else sizes | {"ck": 0, "cv": 0})
            known[key] = room.state(), room.top
        return known[key]

    for index, layer in enumerate(profile.build.weights):
        yield most, max(most, after((), later)[1] if index else 0)
        state, top = after(layer.dense, later if index else first)
        most = max(most, top)
    yield most, most


def _steps(profile: Profile, batch: Batch) -> tuple[str, str, str]:
    """What happens before the layers, in the first one, and in each other one."""
    kind = profile.build.architecture
    start, layer = _STEPS[kind]
    turned = _turned(profile, batch)
    tuned = any(name == "rope_freqs" for name, _, _ in profile.build.widths)
    words = _TUNED if tuned else _BIASED if kind in _WITH_BIAS else _AS_IS
    later = words | ({"ahead": "+wv"} if tuned else {})
    return start, layer[turned].format(**words), layer[turned].format(**later)


def _turned(profile: Profile, batch: Batch) -> bool:
    """Whether keys and values are turned before they are kept."""
    return bool(batch.widened) and profile.kinds[0].key_length % _TURNED == 0


def _sizes(profile: Profile, batch: Batch) -> dict[str, int]:
    """Bytes of everything but matrices, by its name in the steps."""
    kind, work = profile.kinds[0], profile.work
    wide = {name: (given, gives) for name, given, gives in profile.build.widths}
    token = F32 * batch.tokens
    row, inner = token * work.embedding, token * wide["ffn_down"][0]
    query = token * wide["attn_output"][0]
    key, value = (token * kind.kv_heads * n for n in (kind.key_length, kind.value_length))
    cells = batch.sizes[0]
    cache = batch.layer_kv[0]
    of_key = cache * kind.key_length // (kind.key_length + kind.value_length)
    names = {
        "mixed looked x kept place n o y": row,
        "q rq hq ho": query,
        "v hv": value,
        "k rk hk": key,
        "qkv": query + key + value,
        "g u s": inner,
        "pos": token,
        "slots": 2 * token,
        "bias": query // batch.tokens,
        "vbias": value // batch.tokens,
        "qbias": (query + key + value) // batch.tokens,
        "freqs": F32 * kind.key_length // 2,
        "mask": batch.item * cells * batch.tokens,
        "ck": of_key,
        "cv": cache - of_key,
        "attended": query + (batch.widened[0] if batch.widened else 0),
        "kturn": F32 * _turn(kind.key_length) ** 2 if _turned(profile, batch) else 0,
        "vturn": F32 * _TURNED**2,
    }
    return {name: size for listed, size in names.items() for name in listed.split()}


def _turn(length: int) -> int:
    """The largest power of two times 64 that divides a head."""
    size = _TURNED
    while length % (2 * size) == 0:
        size *= 2
    return size


def _matrices(profile: Profile, dense: Bytes) -> dict[str, int]:
    """Bytes of one layer's matrices, from the bytes of its types alone.

    A layer in several types: the one that adds up, with the larger type for what leads back
    and for values (llama-quant.cpp).
    """
    wide = {name: given * gives for name, given, gives in profile.build.widths}
    named = [(short, wide[name]) for name, short in _MATRICES.items() if name in wide]
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
