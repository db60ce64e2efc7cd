"""Bytes of what a layer takes on the GPU that computes it, by its name in the steps."""

from collections.abc import Iterator

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, Bytes
from snugly.plan.batch import F32, Batch
from snugly.plan.profile import Profile
from snugly.plan.replay_steps import MATRICES

TURNED = 64  # the smallest turn of a quantized cache; llama-kv-cache.cpp, build_input_k_rot


def mask(kind: Attention) -> str:
    """The mask that layers of one kind look at."""
    return "!slid" if kind.window else "!mask"


def of_kind(kind: Attention, steps: str) -> str:
    """Layers that slide have a cache of their own, and what goes with it."""
    return steps.replace("turn", "turned").replace("idx", "idxs") if kind.window else steps


def sizes_of(profile: Profile, batch: Batch, n_seq: int, index: int) -> dict[str, int]:
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


def shared(profile: Profile, batch: Batch, turned: bool) -> dict[str, int]:
    """Bytes of what comes in once: masks, and turns of what slides and what does not."""
    sizes: dict[str, int] = {}
    for kind, cells in zip(profile.kinds, batch.sizes, strict=True):
        if kind.kv_heads:
            name = "slid" if kind.window else "mask"
            sizes[name] = batch.item * cells * batch.tokens
            sizes[of_kind(kind, "kturn")] = F32 * _turn(kind.key_length) ** 2 if turned else 0
            sizes[of_kind(kind, "vturn")] = F32 * TURNED**2
    return sizes


def _turn(length: int) -> int:
    """The largest power of two times 64 that divides a head."""
    size = TURNED
    while length % (2 * size) == 0:
        size *= 2
    return size


def matrices(profile: Profile, dense: Bytes, steps: list[str]) -> dict[str, int]:
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
