"""What a transformers model takes in each dtype: what the library prints, and the truth. Pure.

`get_memory_footprint()` adds up parameters and buffers. bitsandbytes keeps its scales beside
the parameters, where that sum does not see them; they take memory all the same.

Sources: transformers 5.23 modeling_utils.py (get_memory_footprint, _get_dtype_plan),
quantizers/base.py (get_keys_to_not_convert), integrations/bitsandbytes.py and
finegrained_fp8.py; bitsandbytes 0.50.2 functional.py and nn/modules.py.
"""

import math
import re
from dataclasses import dataclass

from snugly.errors import UserError
from snugly.model.module_tree import ModuleTree
from snugly.model.modules import Kind, Weight

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "bool": 1}
_FOUR_BITS = ("nf4", "nf4-dq", "fp4", "fp4-dq")
DTYPES = ("float32", "float16", "bfloat16", "int8", *_FOUR_BITS, "fp8")
REST = "bfloat16"  # what a quantized model keeps everything else in, as people load it

_BLOCK = 64  # weights that share a scale; bitsandbytes functional.py, quantize_4bit
_NESTED = 256  # scales that share a scale under double quantization
_CODE_BYTES = 16 * 4  # the sixteen values of a 4-bit type, one copy for each tensor
_NESTED_CODE_BYTES = 256 * 4  # the values of the scales' 8-bit type, one copy for each tensor
_OFFSET_BYTES = 4  # the mean that is taken off the scales
_FP8_TILE = 128  # FineGrainedFP8Config.weight_block_size is (128, 128)

_TOWER = re.compile(r"^model\.(vision_tower|visual)\.")
_PROJECTOR = re.compile(
    r"^model\.(multi_modal_projector|embed_vision|visual\.(merger|deepstack_merger_list))\."
)
_OUTER = re.compile(
    r"^(model|transformer|backbone|gpt_neox)\."
    r"((language_model|vision_tower|visual|multi_modal_projector)\.)?((encoder|transformer)\.)?"
)
_LAYER = re.compile(r"^(layers|h|blocks)\.\d+\.")


@dataclass(frozen=True, slots=True)
class Group:
    """Weights of one kind that are kept in one type."""

    part: str  # "language model", "vision tower" or "projector"
    kind: str
    dtype: str
    modules: str  # their names, layers as *
    parameters: int
    printed_bytes: int
    scale_bytes: int  # scales, codes and offsets that the printed sum leaves out


@dataclass(frozen=True, slots=True)
class Footprint:
    """One model in one dtype. `true_bytes` are `printed_bytes` and all scales."""

    dtype: str
    class_name: str
    parameters: int
    printed_bytes: int  # model.get_memory_footprint()
    true_bytes: int
    groups: tuple[Group, ...]


def footprint(tree: ModuleTree, dtype: str) -> Footprint:
    """What this model takes in one of DTYPES.

    Raises: UserError for another dtype, and for fp8 where transformers cannot.
    """
    if dtype not in DTYPES:
        raise UserError(
            f"{dtype!r} is not a dtype that can be counted.",
            f"There are {', '.join(DTYPES)}.",
        )
    if dtype not in possible(tree):
        raise UserError(
            f"{tree.class_name} cannot be loaded in fp8.",
            "transformers' FP8Experts know no biases, and its experts have some.",
            "Take bfloat16, or run it as a GGUF in MXFP4.",
        )
    sums: dict[tuple[str, Kind, str], list[int]] = {}
    names: dict[tuple[str, Kind, str], dict[str, None]] = {}
    for weight in tree.weights:
        held, printed, scales = _held(weight, dtype, tree)
        key = (_part(weight.name), weight.kind, held)
        sums[key] = [
            a + b for a, b in zip(sums.get(key, [0, 0, 0]), (weight.n_elements, printed, scales),
                                  strict=True)
        ]  # fmt: skip
        names.setdefault(key, {})[_short(weight)] = None
    groups = tuple(
        Group(key[0], key[1].value, key[2], ", ".join(names[key]), *counts)
        for key, counts in sums.items()
    )
    printed = sum(group.printed_bytes for group in groups)
    return Footprint(
        dtype, tree.class_name, tree.n_parameters, printed,
        printed + sum(group.scale_bytes for group in groups), groups,
    )  # fmt: skip


def possible(tree: ModuleTree) -> tuple[str, ...]:
    """The DTYPES that transformers can load this model in: fp8 not where experts have biases."""
    biased = any(w.kind is Kind.EXPERTS and w.name.endswith("_bias") for w in tree.weights)
    return tuple(dtype for dtype in DTYPES if dtype != "fp8" or not biased)


def _held(weight: Weight, dtype: str, tree: ModuleTree) -> tuple[str, int, int]:
    """The type a weight is kept in, its bytes as printed, and bytes of scales beside it."""
    n = weight.n_elements
    # The output head is a kind of its own: no quantizer of transformers touches it by default.
    matrix = weight.kind is Kind.LINEAR
    if matrix and dtype in _FOUR_BITS:
        return dtype, (n + 1) // 2, _four_bit_scales(n, dtype.endswith("-dq"))
    if matrix and dtype == "int8":
        # SCB, a float32 for each output.
        return dtype, n, 4 * weight.shape[1 if weight.inputs_first else 0]
    if dtype == "fp8" and (matrix and not weight.inputs_first or weight.kind is Kind.EXPERTS):
        # Here the scales are parameters, so they are printed.
        return dtype, n + _fp8_scales(weight), 0
    kept = weight.dtype or _plain(weight, dtype if dtype in _BYTES else REST, tree)
    return kept, n * _BYTES[kept], 0


def _plain(weight: Weight, dtype: str, tree: ModuleTree) -> str:
    kept = tree.float32 if dtype != "float32" else ()
    if dtype == "float16":
        kept += tree.float32_in_float16
    return "float32" if set(kept) & set(weight.name.split(".")) else dtype


def _four_bit_scales(n: int, double: bool) -> int:
    scales = -(-n // _BLOCK)
    if not double:
        return 4 * scales + _CODE_BYTES
    nested = -(-scales // _NESTED)
    return scales + 4 * nested + _CODE_BYTES + _NESTED_CODE_BYTES + _OFFSET_BYTES


def _fp8_scales(weight: Weight) -> int:
    """A float32 per tile; gate and up of experts, which lie in one, have at least two rows."""
    *many, rows, columns = weight.shape
    down = max(-(-rows // _FP8_TILE), 2 if weight.name.endswith("gate_up_proj") else 1)
    return 4 * math.prod(many) * down * -(-columns // _FP8_TILE)


def _part(name: str) -> str:
    if _PROJECTOR.search(name):
        return "projector"
    return "vision tower" if _TOWER.search(name) else "language model"


def _short(weight: Weight) -> str:
    """A module's name for people: layers as *, without what its part says already."""
    owner = weight.name.removesuffix(".weight").removesuffix(".bias")
    return _LAYER.sub("*.", _OUTER.sub("", owner))
