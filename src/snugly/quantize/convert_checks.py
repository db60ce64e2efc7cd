"""What is refused or remarked on before a weight is read: matrices and second roundings."""

from snugly.errors import UserError
from snugly.model.quant_mixtures import NEED_MATRIX
from snugly.model.types import Tensor
from snugly.quantize.kernels import MATRIX_TYPES, READABLE
from snugly.quantize.reader import Source
from snugly.quantize.reader_imatrix import Imatrix

# What may be quantized without a word: the loss of a second rounding from 8 bits is far below
# that of the first to fewer (design: Q8_0 costs 1/20 of Q4_K_M's divergence).
_FINE_SOURCES = frozenset({"F32", "F16", "BF16", "F64", "Q8_0"})
_EMBEDDINGS = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})


def weighed_tensors(
    source: Source, tensors: tuple[Tensor, ...], imatrix: Imatrix | None
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Which of the tensors that change have a matrix, and a word when some have none."""
    if imatrix is None:
        return {}, ()
    changed = _changed(source, tensors)
    weighed: dict[str, int] = {}
    missing = []
    for tensor in changed:
        entry = imatrix.entries.get(tensor.name)
        experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
        if entry is None:
            missing.append(tensor.name)
        elif entry.length == tensor.shape[0] * experts:
            weighed[tensor.name] = experts
        elif tensor.name not in _EMBEDDINGS:
            raise UserError(
                f"The importance matrix belongs to another model: {tensor.name}.",
                f"It weighs {entry.length} columns; the tensor has {tensor.shape[0] * experts}.",
                "Make one of this model with llama-imatrix, or leave --imatrix out.",
            )
    if not weighed and changed:
        raise UserError(
            "The importance matrix belongs to another model.",
            f"It knows none of the {len(changed)} tensors that would be quantized.",
            "Make one of this model with llama-imatrix, or leave --imatrix out.",
        )
    absent = [name for name in missing if name not in (*_EMBEDDINGS, "output.weight")]
    remark = f"The importance matrix does not know {len(absent)} tensors, such as {absent[:1]}."
    return weighed, (remark,) if absent else ()


def _changed(source: Source, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    kinds = {item.tensor.name: item.tensor.ggml_type for item in source.tensors}
    return [tensor for tensor in tensors if kinds[tensor.name] != tensor.ggml_type]


def demand_matrix(
    source: Source, tensors: tuple[Tensor, ...], weighed: dict[str, int], mixture: str
) -> None:
    """Refuse garbage: some types are nothing without weights. `tensor_requires_imatrix`."""
    for tensor in _changed(source, tensors):
        needs = tensor.ggml_type in MATRIX_TYPES or (
            mixture == "Q2_K_S" and tensor.ggml_type == "Q2_K"
        )
        if needs and tensor.name in (*_EMBEDDINGS, "output.weight"):
            needs = tensor.ggml_type in ("IQ2_XXS", "IQ2_XS", "IQ1_S")  # ggml itself refuses
        if needs and tensor.name not in weighed:
            raise UserError(
                f"{tensor.name} cannot be written as {tensor.ggml_type} without an importance"
                " matrix.",
                "With so few bits the result would be garbage."
                + (" The matrix does not know this tensor." if weighed else ""),
                "Give one with --imatrix (llama-imatrix makes it), or choose more bits:"
                f" {'Q2_K' if mixture in NEED_MATRIX else 'Q3_K'} needs none.",
            )


def requantized(source: Source, tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    """A warning when weights were rounded before; an error where they cannot be read."""
    kinds = {item.tensor.name: item.kind for item in source.tensors}
    coarse: dict[str, int] = {}
    for tensor in _changed(source, tensors):
        kind = kinds[tensor.name]
        if kind not in READABLE:
            raise UserError(
                f"{tensor.name} is of type {kind}, which cannot be quantized again.",
                "There is no function that decodes it.",
                "Start from an F16, BF16 or Q8_0 file of the model.",
            )
        if kind not in _FINE_SOURCES:
            coarse[kind] = coarse.get(kind, 0) + 1
    if not coarse:
        return ()
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(coarse.items()))
    return (
        f"The source is quantized already ({counts} tensors): the loss adds up."
        " An F16, BF16 or Q8_0 file of the model gives a better result.",
    )
