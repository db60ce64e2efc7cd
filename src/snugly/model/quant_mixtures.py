"""The named quantizations ("Q4_K_M", ...): their main type, and what replaces it.

Source: llama.cpp src/llama-quant.cpp, `llama_ftype_get_default_type` and
`tensor_type_fallback` (vendored in llama-cpp-python 0.3.36).
"""

from dataclasses import dataclass

from snugly.errors import UserError

# mixture -> the type of every tensor that no rule names
MAIN_TYPES: dict[str, str] = {
    "IQ1_S": "IQ1_S", "IQ1_M": "IQ1_M", "TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0", "Q1_0": "Q1_0",
    "Q2_0": "Q2_0",
    "IQ2_XXS": "IQ2_XXS", "IQ2_XS": "IQ2_XS", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S",
    "Q2_K_S": "Q2_K", "Q2_K": "Q2_K",
    "IQ3_XXS": "IQ3_XXS", "IQ3_XS": "IQ3_S", "IQ3_S": "IQ3_S", "IQ3_M": "IQ3_S",
    "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K",
    "IQ4_XS": "IQ4_XS", "IQ4_NL": "IQ4_NL", "MXFP4_MOE": "MXFP4",
    "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K",
    "Q5_0": "Q5_0", "Q5_1": "Q5_1", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K", "Q8_0": "Q8_0", "F16": "F16", "BF16": "BF16", "F32": "F32",
}  # fmt: skip

UNQUANTIZED = frozenset({"F16", "BF16", "F32"})

# llama-quantize refuses to write these without an importance matrix: most of their tensors
# are of a type that is garbage without one. Counterpart: `tensor_requires_imatrix`.
NEED_MATRIX = frozenset({
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S",
})  # fmt: skip

# Names that llama-quantize takes for others. Source: tools/quantize/quantize.cpp.
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

# Publishers' names for a mixture whose embeddings and output are kept in Q8_0:
# `llama-quantize --output-tensor-type q8_0 --token-embedding-type q8_0`. Older cards kept
# them in F16 instead; pass embeddings="F16" for those. Source: the model cards of
# bartowski (one shape in Q4_K_L: 6.10 GB on an older card, 5.09 on a newer).
COMMUNITY: dict[str, str] = {
    "Q2_K_L": "Q2_K", "Q3_K_XL": "Q3_K_L", "Q4_K_L": "Q4_K_M", "Q5_K_L": "Q5_K_M",
    "Q6_K_L": "Q6_K",
}  # fmt: skip

# What a tensor becomes when its rows are not whole blocks of the wanted type.
_FALLBACKS = {
    **dict.fromkeys(
        ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"
    ),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mixture:
    """One named quantization: the rules it follows, its main type, its embeddings' type."""

    name: str  # "Q4_K_M"; for "Q4_K_L" also "Q4_K_M", with embeddings "Q8_0"
    main: str
    embeddings: str | None  # kept in this type, with the output; None: by the rules


def mixture_of(type_name: str, embeddings: str | None = None) -> Mixture:
    """The mixture of a name such as "Q4_K_M", "q4_k", or a publisher's "Q4_K_L".

    Raises: UserError for a name that says nothing about each tensor's type.
    """
    name = _ALIASES.get(type_name.upper(), type_name.upper())
    if name in COMMUNITY:
        return mixture_of(COMMUNITY[name], embeddings or "Q8_0")
    if name not in MAIN_TYPES:
        known = ", ".join(MAIN_TYPES | COMMUNITY)
        raise UserError(
            f"The quantization {type_name!r} is not known.",
            "Its types per tensor are not given by llama.cpp's rules"
            + (": they were chosen tensor by tensor." if name.startswith("UD-") else "."),
            f"Use one of {known}; or give the file itself, whose header says its size.",
        )
    return Mixture(name, MAIN_TYPES[name], embeddings)


def fitting_type(wanted: str, row: int, blocks: dict[str, int]) -> str:
    """`wanted`, or what llama-quantize takes when rows of `row` weights are no whole blocks.

    `blocks` gives the weights per block of each type.

    Raises: UserError where llama-quantize gives up (Q1_0 has nothing to fall back on).
    """
    if row % blocks[wanted] == 0:
        return wanted
    smaller = _FALLBACKS.get(wanted, wanted)
    if smaller == wanted and blocks[wanted] > 32:
        raise UserError(
            f"This model cannot be quantized to {wanted}.",
            f"It has rows of {row} weights, which are not whole blocks of {blocks[wanted]}.",
            "Choose another quantization, such as Q4_K_M.",
        )
    return smaller if row % blocks[smaller] == 0 else "F16"


def fixed_type(wanted: str, row: int, blocks: dict[str, int]) -> str:
    """`wanted`, which was asked for by name, so that nothing may stand in for it.

    Raises: UserError when there is no such type, or rows are no whole blocks of it.
    """
    if wanted not in blocks or row % blocks[wanted]:
        raise UserError(
            f"Embeddings and output cannot be kept in {wanted}.",
            f"Rows of {row} weights are not whole blocks of {blocks[wanted]}."
            if wanted in blocks
            else "There is no such type.",
            "Use Q8_0, which takes rows of any multiple of 32, or F16.",
        )
    return wanted
