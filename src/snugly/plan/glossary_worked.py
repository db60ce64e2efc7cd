"""What glossary entries come to on this machine: the planner's functions, nothing typed in. Pure.

The example is Llama 3.1 8B, for llama.cpp publishes what each quantization of it costs; other
models come out of the catalogue.
"""

from collections.abc import Callable, Iterator

from snugly.model.build import build_of
from snugly.model.catalog import entries
from snugly.model.catalog_builds import builds
from snugly.model.footprint import footprint
from snugly.model.ggml_types import row_bytes
from snugly.model.quant_mixtures import MAIN_TYPES
from snugly.model.quant_size import in_type
from snugly.model.types import ModelSpec
from snugly.plan.glossary import losses
from snugly.plan.glossary_ground import NAME, USUAL, Ground, called, fits, nearest, usual
from snugly.plan.glossary_memory import MEMORY
from snugly.plan.glossary_speed import SPEED
from snugly.units import format_bytes, format_count


def worked(name: str, ground: Ground) -> tuple[str, ...]:
    """The lines for an entry's `worked`; none for "".

    Raises: KeyError for a name that there is nothing for.
    """
    word, *arguments = name.split()
    return tuple(_WORKED[word](ground, *arguments))


def names() -> frozenset[str]:
    """Every word that `worked` begins with."""
    return frozenset(_WORKED)


def _size(ground: Ground, billions: str, active: str = "") -> Iterator[str]:
    count = round(float(billions) * 1e9)
    sums = (("16 bits", "F16"), ("8 bits", "Q8_0"), ("4 bits", "Q4_K"))
    yield (
        f"{format_count(count)} parameters x bytes: "
        + ", ".join(
            f"{words} {count * row_bytes(kind, 256) / 256 / 1e9:.2f} GB" for words, kind in sums
        )
        + ", scales included."
    )
    entry = nearest(count, float(active or 0) * 1e9)
    build = usual(entry)
    yield (
        f"For example {called(entry)}: {format_count(build.n_params)} parameters, a file of"
        f" {format_bytes(build.file_bytes)} in {build.file_type}"
        f" ({8 * build.file_bytes / build.n_params:.2f} bits per weight)."
    )
    yield fits(ground, build)


def _parameters(ground: Ground) -> Iterator[str]:
    yield f"{NAME} has {ground.spec.n_params:,}."
    yield from _size(ground, f"{ground.spec.n_params / 1e9:.3f}")


def _type(ground: Ground, name: str) -> Iterator[str]:
    if ground.spec.experts == 0 and MAIN_TYPES.get(name) == "MXFP4":
        entry = next(e for e in entries() if any(b.file_type == "MXFP4" for b in builds(e)))
        build = next(b for b in builds(entry) if b.file_type == "MXFP4")
        yield (f"{called(entry)}, {format_count(build.n_params)} parameters: a file of"
               f" {format_bytes(build.file_bytes)}.")  # fmt: skip
        yield fits(ground, build)
        return
    spec = in_type(ground.spec, name)
    half = ground.spec.weight_bytes
    yield (
        f"{NAME} in {name}: a file of {format_bytes(spec.file_bytes)},"
        f" {8 * spec.weight_bytes / spec.n_params:.2f} bits per weight,"
        f" {spec.weight_bytes / half:.0%} of F16."
    )
    yield "Its tensors: " + ", ".join(f"{share:.0%} {kind}" for kind, share in _shares(spec)) + "."
    for loss in losses(name):
        yield (
            f"Measured on Llama 3 8B{' with an importance matrix' if loss.matrix else ''}:"
            f" perplexity {loss.perplexity:.3f} (F16 {losses('F16')[0].perplexity:.3f}),"
            f" mean KL divergence {loss.kld:.4f}."
        )
    yield fits(ground, build_of(spec))


def _shares(spec: ModelSpec) -> list[tuple[str, float]]:
    sizes: dict[str, int] = {}
    for tensor in spec.tensors:
        sizes[tensor.ggml_type] = sizes.get(tensor.ggml_type, 0) + tensor.n_bytes
    shares = [(kind, size / spec.weight_bytes) for kind, size in sizes.items()]
    return sorted((pair for pair in shares if pair[1] >= 0.005), key=lambda pair: -pair[1])


def _quantization(ground: Ground) -> Iterator[str]:
    for name in ("F16", "Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"):
        spec = in_type(ground.spec, name)
        yield (
            f"{NAME} in {name}: {format_bytes(spec.file_bytes)},"
            f" {8 * spec.weight_bytes / spec.n_params:.2f} bits per weight"
        )
    yield fits(ground, build_of(in_type(ground.spec, USUAL)))


def _loss(ground: Ground) -> Iterator[str]:
    yield "Llama 3 8B over WikiText-2, llama.cpp's own table:"
    for name in ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "IQ3_XXS",
                 "Q2_K", "IQ2_XXS", "IQ1_S"):  # fmt: skip
        loss = min(losses(name), key=lambda loss: loss.kld)
        size = in_type(ground.spec, name).file_bytes
        matrix = ", importance matrix" if loss.matrix else ""
        yield (
            f"{name}: {format_bytes(size)}, perplexity {loss.perplexity:.2f},"
            f" KL divergence {loss.kld:.4f}{matrix}"
        )


def _imatrix(ground: Ground) -> Iterator[str]:
    for name in ("Q4_K_M", "Q3_K_M", "Q2_K"):
        found = {loss.matrix: loss.kld for loss in losses(name)}
        yield (
            f"{name} of Llama 3 8B: KL divergence {found[False]:.4f} without, {found[True]:.4f}"
            f" with it ({1 - found[True] / found[False]:.0%} less)."
        )


def _letters(ground: Ground) -> Iterator[str]:
    for name in ("Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "IQ2_XXS", "IQ2_XS"):
        spec = in_type(ground.spec, name)
        mixed = ", ".join(f"{share:.0%} {kind}" for kind, share in _shares(spec))
        yield f"{NAME} in {name}: {format_bytes(spec.file_bytes)}, {mixed}"


def _in_transformers(*dtypes: str) -> Callable[[Ground], Iterator[str]]:
    def lines(ground: Ground) -> Iterator[str]:
        for dtype in dtypes:
            found = footprint(ground.tree, dtype)
            yield (
                f"{NAME} in {dtype}: transformers prints {found.printed_bytes / 1e9:.2f} GB,"
                f" it takes {found.true_bytes / 1e9:.2f} GB."
            )

    return lines


_WORKED: dict[str, Callable[..., Iterator[str]]] = {
    "size": _size,
    "parameters": _parameters,
    "type": _type,
    "quantization": _quantization,
    "loss": _loss,
    "imatrix": _imatrix,
    "letters": _letters,
    "nf4": _in_transformers("nf4", "nf4-dq"),
    "int8": _in_transformers("int8"),
    "fp8": _in_transformers("fp8"),
    "plain": _in_transformers("float32", "bfloat16"),
    **MEMORY,
    **SPEED,
}
