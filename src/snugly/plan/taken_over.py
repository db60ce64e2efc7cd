"""What the first GPU needs to compute layers, or experts, whose weights lie in RAM.

CUDA and its like take over large products: the scheduler cuts the graph before every matrix
that lies elsewhere and copies it in; its room is given back after the product and reused where
what follows fits. What does not fit goes behind it, and so what stays (masks) can keep a hole
from being used twice. Sources: llama.cpp ggml/src/ggml-backend.cpp (split_graph, pass 5),
ggml/src/ggml-alloc.c (best fit); every rule was read off the allocator's own list of what
stands where at the widest point (docs/memory.md says how).
"""

from collections.abc import Iterator

from snugly.plan.batch import F32, Batch, Spread, of_layers
from snugly.plan.graph import state_room
from snugly.plan.profile import Profile


def taken_over(profile: Profile, batch: Batch, n_seq: int, over: Spread, end: int) -> int:
    """Bytes of the first GPU's buffer at the widest point of what it takes over.

    It holds layers itself from there up to `end`.
    """
    attends = _attends_there(profile, over.starts[0])
    batch = of_layers(profile, batch, 0 if attends else over.starts[0], end)
    sizes = [0]
    if over.experts_until or profile.experts[over.starts[0]]:
        sizes.append(_experts(profile, batch, over))
    if over.starts[0] > 0:
        rows = profile.work.throughout + _padded(profile)
        beside = F32 * rows * batch.tokens
        sizes += [beside + size for size in _layers(profile, batch, over, attends)]
        if profile.work.states.widest:
            sizes.append(_with_state(profile, batch, n_seq))
    return max(sizes) + batch.ids * batch.tokens


def _attends_there(profile: Profile, end: int) -> bool:
    """Whether the GPU that takes the first `end` layers over takes any attention over.

    Where what comes next in the graph is the state of a layer in RAM, which is looked up
    between attention and the product after it, attention stays in RAM; not before a mixture
    (llama-graph.cpp, build_moe_ffn: all before it comes first), nor that of gated delta
    nets' models, which has a gate in between.
    """
    there = profile.work.states.chunk > 1
    pending = False  # attention that nothing comes after yet
    for kind, weights in zip(profile.build.layers[:end], profile.build.weights[:end], strict=True):
        there |= pending and bool(kind.kv_heads)
        pending = (pending and not kind.state_bytes) or bool(kind.kv_heads)
        there |= pending and bool(weights.experts)
    return there or pending


def _with_state(profile: Profile, batch: Batch, n_seq: int) -> int:
    """Widest point of a layer with a state.

    In Mamba 1 the scan is left to the CPU. The matrix that projects and the row that it reads
    leave a hole; up to three rows (convolved, scanned, the gate) move in, where they fit.
    """
    work, states = profile.work, profile.work.states
    if not states.scan_in_ram:
        return state_room(work, batch.tokens, n_seq, states.widest)
    row, inner = (F32 * size * batch.tokens for size in (work.embedding, states.inner))
    hole = profile.forward.up + row
    return row + hole + (5 - min(hole // inner, 3)) * inner + n_seq * states.n_bytes


def _padded(profile: Profile) -> int:
    """Elements per token of pictures' rows: padded, and put together with the words'."""
    rows = profile.work.input_rows
    return 2 * rows * profile.work.embedding if rows > 1 else 0


def _experts(profile: Profile, batch: Batch, over: Spread) -> int:
    """One matrix at a time; without a gate two, for the one that leads back is mostly larger.

    Where the first layers slide or have states, the mask of those that keep everything comes
    in behind the matrix that led back in the layer before, and stays: the next large one has
    to go behind it. Not with
    biases among the experts, which cut the graph between the two (gpt-oss).
    """
    work, matrices = profile.work, profile.routed
    rows = work.routed + work.routed_out + 3 * work.embedding
    if work.input_rows > 1 and over.starts[0] == 0:
        rows += 3 * (work.input_rows + 1) * work.embedding
    largest = max(matrices.up, matrices.down)
    size = largest + F32 * rows * batch.tokens
    if not work.experts_gated:
        size += min(matrices.up, matrices.down)
    late = profile.first_lasting
    if over.starts[0] < late < over.experts_until and not work.experts_biased:
        before, after = profile.around(late, over.experts_until)
        fits = after + F32 * (work.routed + 2 * work.embedding) * batch.tokens <= before
        if _stays_behind(profile, batch) and not fits:
            size = max(size, before + after + F32 * 5 * work.embedding * batch.tokens)
    return size


def _stays_behind(profile: Profile, batch: Batch) -> bool:
    """Whether a mask is too long for what a row of the embedding leaves free."""
    mask = batch.item * profile.lasting(batch.sizes)
    return mask >= F32 * profile.work.embedding


def _layers(profile: Profile, batch: Batch, over: Spread, attends: bool) -> Iterator[int]:
    """Widest points of whole layers: in the feed-forward, and where a cache is copied in."""
    work, matrices = profile.work, profile.forward
    row, inner = (F32 * size * batch.tokens for size in (work.embedding, work.forward))
    cache = profile.widest(batch.layer_kv, 0, over.starts[0]) if attends else 0
    plain = work.forward > 0 and not work.gated
    # A matrix that fits where cache, or a row, was copied in costs nothing of its own.
    pinned = _stays_behind(profile, batch)
    below = cache if pinned and matrices.up > cache else 0
    # Biases, and gated delta nets between, move what stands before it: the copy of V finds no
    # room where it was a layer before.
    again = cache // 2 if pinned and (plain or work.states.chunk > 1) else 0
    up = matrices.up if matrices.up > row else 0
    if plain:
        behind = matrices.down if matrices.down > matrices.up else 0
        yield 6 * row + below + up + inner + behind
    else:
        moved = 0 if inner <= matrices.up else inner
        yield 5 * row + below + max(matrices.up + 2 * inner + moved, inner + matrices.down)
    wide = F32 * (work.attention - work.deep - work.throughout) * batch.tokens
    yield wide + (matrices.up if work.latent else 0)
    if not attends:
        return
    if batch.widened:  # turned before it is kept: one row more
        widened = profile.widest(batch.widened, 0, over.starts[0])
        yield 7 * row + F32 * work.gate * batch.tokens + cache + again + widened
    else:
        yield 6 * row + cache + again
    if batch.score_row:
        yield (batch.score_row + F32 * work.beside_scores) * batch.tokens + cache
