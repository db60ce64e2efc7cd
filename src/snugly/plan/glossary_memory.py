"""What glossary entries on memory come to here: caches, contexts, buffers, pools. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from snugly.model.build import build_of, weight_bytes
from snugly.model.catalog import Entry, entries
from snugly.model.quant_size import in_type
from snugly.model.types import AttentionKind
from snugly.plan.box import reserve_bytes
from snugly.plan.cache import kv_bytes
from snugly.plan.glossary_ground import (
    CONTEXT,
    NAME,
    UBATCH,
    USUAL,
    Ground,
    called,
    first_with,
    fits,
    in_ram,
    longest,
    usual,
)
from snugly.units import format_bytes, format_count

_LONG = 32768
_SHORT = 4096  # windows of Gemma 2 and 3, Phi-3, gpt-oss; Llama 4's chunks are longer


def _fame(entry: Entry) -> tuple[bool, int]:
    """Of several the one whose name says how many are active, then the smallest."""
    return "-a" in entry.tag, -entry.n_params


def kv_cache(ground: Ground) -> Iterator[str]:
    """Bytes per token, and of three contexts."""
    spec = ground.spec
    layer, count = spec.layers[0], len(spec.layers)
    token = kv_bytes(spec, CONTEXT, UBATCH) // CONTEXT
    yield (
        f"{NAME}: {count} layers x {layer.kv_heads} heads x ({layer.key_length} +"
        f" {layer.value_length}) x 2 bytes = {format_bytes(token)} for each token."
    )
    for context in (CONTEXT, _LONG, spec.context_train):
        plain, small = (format_bytes(kv_bytes(spec, context, UBATCH, kind))
                        for kind in ("F16", "Q8_0"))  # fmt: skip
        yield f"{context:,} tokens: {plain} in f16, {small} in q8_0."


def context(ground: Ground) -> Iterator[str]:
    """What the model was trained for, and what fits here."""
    build = build_of(in_type(ground.spec, USUAL))
    yield f"{NAME} was trained for {build.context_train:,} tokens."
    best = longest(ground, build)
    pool = ground.machine.ram
    yield (
        f"In {USUAL} on the CPU here {best:,} tokens fit:"
        f" {format_bytes(in_ram(ground, build, best).total_bytes)} of"
        f" {format_bytes(pool.free_bytes)} of RAM that is free."
        if best
        else f"In {USUAL} it does not fit into the {format_bytes(pool.free_bytes)} of RAM that"
        " is free."
    )


def gqa(ground: Ground) -> Iterator[str]:
    """The cache with shared heads and without."""
    spec = ground.spec
    whole = tuple(replace(layer, kv_heads=spec.n_heads) for layer in spec.layers)
    yield (
        f"{NAME}: {spec.n_heads} heads share {spec.layers[0].kv_heads} sets. {_LONG:,} tokens"
        f" take {format_bytes(kv_bytes(spec, _LONG, UBATCH))} instead of"
        f" {format_bytes(kv_bytes(replace(spec, layers=whole), _LONG, UBATCH))}."
    )


def sliding(ground: Ground) -> Iterator[str]:
    """The cache of a model with windows, and without them."""
    entry, build = first_with(lambda layer: 0 < (layer.window or 0) <= _SHORT)
    windowed = sum(bool(layer.window) for layer in build.layers)
    window = next(layer.window for layer in build.layers if layer.window)
    small = kv_bytes(build, _LONG, UBATCH)
    full = kv_bytes(build, _LONG, UBATCH, swa_full=True)
    yield (
        f"{called(entry)}: {windowed} of {len(build.layers)} layers see the last"
        f" {window:,} tokens. {_LONG:,} tokens take {format_bytes(small)}; without windows"
        f" {format_bytes(full)}."
    )


def mla(ground: Ground) -> Iterator[str]:
    """The cache of a model with latent attention."""
    entry, build = first_with(lambda layer: layer.kind is AttentionKind.LATENT)
    size = kv_bytes(build, _LONG, UBATCH)
    yield (
        f"{called(entry)}: {build.layers[0].key_length} numbers per token and layer;"
        f" {_LONG:,} tokens take {format_bytes(size)}."
    )


def ram(ground: Ground) -> Iterator[str]:
    """This machine's RAM and what is free."""
    pool = ground.machine.ram
    yield (
        f"This machine has {format_bytes(pool.total_bytes)}, of which"
        f" {format_bytes(pool.free_bytes)} is free; a plan leaves"
        f" {format_bytes(reserve_bytes(pool))} to everything else."
    )
    yield fits(ground, build_of(in_type(ground.spec, USUAL)))


def vram(ground: Ground) -> Iterator[str]:
    """This machine's graphics cards."""
    pools = ground.machine.pools[1:]
    if not pools:
        yield "This machine has no graphics card with memory of its own that could be found."
    for pool in pools:
        yield (
            f"{pool.name}: {format_bytes(pool.total_bytes)}, of which"
            f" {format_bytes(pool.free_bytes)} is free."
        )
    build = build_of(in_type(ground.spec, USUAL))
    yield f"The weights of {NAME} in {USUAL} take {format_bytes(weight_bytes(build))}."


def unified(ground: Ground) -> Iterator[str]:
    """Whether a GPU shares the RAM here."""
    shared = [gpu for gpu in ground.machine.gpus if gpu.unified.or_else(False)]
    if not shared:
        yield "This machine's memory is not known to be shared with a GPU."
    for gpu in shared:
        limit = gpu.total_bytes.value
        yield f"{gpu.label} shares the RAM" + (
            f" and may take {format_bytes(limit)}." if limit else "."
        )


def offload(ground: Ground) -> Iterator[str]:
    """What a layer takes."""
    build = build_of(in_type(ground.spec, USUAL))
    one = max(sum(size for _, size in layer.dense) for layer in build.weights)
    yield (
        f"{NAME} in {USUAL}: {len(build.layers)} layers of at most {format_bytes(one)} each,"
        f" and the cache of {CONTEXT:,} tokens of"
        f" {format_bytes(kv_bytes(build, CONTEXT, UBATCH) // len(build.layers))} beside each."
    )
    for pool in ground.machine.pools[1:]:
        yield f"{pool.name} has {format_bytes(pool.free_bytes)} free."


def flash(ground: Ground) -> Iterator[str]:
    """Buffers with flash attention and without."""
    build = build_of(in_type(ground.spec, USUAL))
    for context in (CONTEXT, _LONG):
        on, off = (
            in_ram(ground, build, context, flash_attention=flash).compute_bytes
            for flash in (True, False)
        )
        yield (
            f"{NAME}, {context:,} tokens, micro-batches of {UBATCH}: buffers of"
            f" {format_bytes(on)} with flash attention, {format_bytes(off)} without."
        )


def repack(ground: Ground) -> Iterator[str]:
    """What the engine here copies."""
    if not ground.engine.repacks:
        yield "The engine here keeps no second copies."
        return
    kinds = ", ".join(sorted(ground.engine.repacks))
    build = build_of(in_type(ground.spec, USUAL))
    use = in_ram(ground, build, CONTEXT)
    yield (
        f"Here it does so for {kinds}: {NAME} in {USUAL} takes"
        f" {format_bytes(use.repack_bytes)} beside its {format_bytes(use.weights_bytes)}."
    )


def moe(ground: Ground) -> Iterator[str]:
    """A mixture of the catalogue: stored, active, experts."""
    entry = max((e for e in entries() if e.n_active < e.n_params), key=_fame)
    build = usual(entry)
    experts = sum(size for layer in build.weights for _, size in layer.experts)
    yield (
        f"{called(entry)}: {format_count(entry.n_params)} parameters,"
        f" {format_count(entry.n_active)} active; {build.experts_used} of {build.experts} experts"
        " per token."
    )
    yield (
        f"In {build.file_type} {format_bytes(weight_bytes(build))}, of which"
        f" {format_bytes(experts)} are experts and"
        f" {format_bytes(weight_bytes(build) - experts)} everything else."
    )
    yield fits(ground, build)


def gguf(ground: Ground) -> Iterator[str]:
    """What is in the example's file."""
    spec = in_type(ground.spec, USUAL)
    header = spec.file_bytes - spec.weight_bytes
    yield (
        f"{NAME} in {USUAL}: {len(spec.tensors)} tensors, {format_bytes(spec.weight_bytes)},"
        f" behind a header of about {format_bytes(header)}, most of it the vocabulary."
    )


MEMORY: dict[str, Callable[[Ground], Iterator[str]]] = {
    "kv_cache": kv_cache,
    "context": context,
    "gqa": gqa,
    "sliding": sliding,
    "mla": mla,
    "ram": ram,
    "vram": vram,
    "unified": unified,
    "offload": offload,
    "flash": flash,
    "repack": repack,
    "moe": moe,
    "gguf": gguf,
}
