"""What glossary entries on speed, use and training come to here. Pure."""

from collections.abc import Callable, Iterator

from snugly.model.build import build_of, weight_bytes
from snugly.model.catalog import entries
from snugly.model.footprint import footprint
from snugly.model.modules import Kind
from snugly.model.quant_size import in_type
from snugly.plan.glossary_ground import CONTEXT, NAME, USUAL, Ground, called, usual
from snugly.plan.speed import predict
from snugly.plan.speed_processors import processors_of
from snugly.plan.types import Placement, Setup
from snugly.units import format_bytes, format_count, format_seconds

_RANK = 16  # of LoRA in QLoRA's paper and most recipes: 8 to 64
_PROMPT = 2000  # tokens: a few pages
_TRAINING_BYTES = 16  # per parameter: see glossary.toml


def speed(ground: Ground) -> Iterator[str]:
    """The rate of this machine's memory, and what it comes to."""
    processors = processors_of(ground.machine, ground.engine)
    rate = processors[0].bandwidth_bytes_per_s
    if rate.value:
        yield (f"Memory here: {rate.value / 1e9:.0f} GB/s ({rate.origin.value}: {rate.how})."
               " `snugly machine --measure` times it.")  # fmt: skip
    for name in ("Q8_0", USUAL):
        build = build_of(in_type(ground.spec, name))
        told = predict(build, Setup(CONTEXT), Placement(), processors).decode_tps
        yield (
            f"{NAME} in {name}, {format_bytes(weight_bytes(build))}: expected"
            f" {told.expected:.1f} tokens/s on the CPU here ({told.low:.1f} to {told.high:.1f})."
        )


def prefill(ground: Ground) -> Iterator[str]:
    """The arithmetic of a prompt, and how long it takes here."""
    build = build_of(in_type(ground.spec, USUAL))
    work = 2 * build.n_params * _PROMPT
    yield (
        f"A prompt of {_PROMPT:,} tokens for {NAME}: 2 x {format_count(build.n_params)} x"
        f" {_PROMPT:,} = {format_count(work)} operations."
    )
    told = predict(build, Setup(CONTEXT), Placement(), processors_of(ground.machine, ground.engine),
                   _PROMPT).first_token_s  # fmt: skip
    yield (
        f"In {USUAL} on the CPU here that is expected to take {format_seconds(told.expected)}"
        f" ({format_seconds(told.low)} to {format_seconds(told.high)})."
    )


def threads(ground: Ground) -> Iterator[str]:
    """This machine's cores."""
    cpu = ground.machine.cpu
    yield (
        f"This machine: {cpu.physical_cores.or_else(0) or 'unknown'} physical cores,"
        f" {cpu.logical_cores.or_else(0) or 'unknown'} threads, {cpu.load.or_else(0.0):.1f} busy."
    )


def token(ground: Ground) -> Iterator[str]:
    """The size of a vocabulary."""
    yield f"{NAME} knows {ground.spec.vocab_size:,} tokens."


def embedding(ground: Ground) -> Iterator[str]:
    """What vectors take."""
    entry = next(e for e in entries() if "embed" in e.tasks)
    width = usual(entry).embedding_length
    yield (
        f"{called(entry)} makes {width:,} numbers of each text: {format_bytes(4 * width)} in"
        f" float32, so 100,000 passages take {format_bytes(400_000 * width)}."
    )


def lora(ground: Ground) -> Iterator[str]:
    """What an adapter takes."""
    matrices = [w for w in ground.tree.weights if w.kind is Kind.LINEAR]
    count = sum(_RANK * sum(weight.shape) for weight in matrices)
    yield (
        f"Rank {_RANK} beside all {len(matrices)} matrices of {NAME}: {format_count(count)}"
        f" parameters, {count / ground.tree.n_parameters:.2%} of the model,"
        f" {format_bytes(2 * count)} in 16 bits."
    )


def qlora(ground: Ground) -> Iterator[str]:
    """What the frozen model takes in NF4."""
    held = footprint(ground.tree, "nf4-dq").true_bytes
    half = footprint(ground.tree, "bfloat16").true_bytes
    yield (
        f"{NAME}: {held / 1e9:.2f} GB in NF4 with double quantization instead of"
        f" {half / 1e9:.2f} GB in bfloat16."
    )
    yield from lora(ground)


def tuning(ground: Ground) -> Iterator[str]:
    """What training everything takes."""
    yield f"All of {NAME}: {format_bytes(_TRAINING_BYTES * ground.tree.n_parameters)}."
    yield from lora(ground)


SPEED: dict[str, Callable[[Ground], Iterator[str]]] = {
    "speed": speed,
    "prefill": prefill,
    "threads": threads,
    "token": token,
    "embedding": embedding,
    "lora": lora,
    "qlora": qlora,
    "tuning": tuning,
}
