"""A checkpoint as transformers keeps it: config.json, and safetensors to hold it against. Pure.

The config gives the tensors that a GGUF would have; the safetensors say how many parameters
there really are, and whether the output matrix is the embedding where the config leaves it open.
"""

from dataclasses import replace
from typing import Any

from snugly.model.config import open_points, spec_of_config
from snugly.model.config_fields import Config
from snugly.model.quant_size import assumed_merges
from snugly.model.safetensors import Checkpoint, StoredTensor
from snugly.model.types import ModelSpec

_TIED = "tie_word_embeddings"
# How output matrices are called. Source: gguf.tensor_mapping, MODEL_TENSOR.OUTPUT.
_HEADS = ("lm_head", "lm_head.linear", "embed_out", "output", "output_layer", "head", "head.out",
          "head.decoder", "word_embeddings_for_head", "model.transformer.ff_out")  # fmt: skip
# Not parameters; converters leave them out. Source: llama.cpp conversion/base.py, prepare_tensors.
_BUFFERS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
# Made by converters out of the config. Source: the same, generate_extra_tensors.
_MADE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_PACKED = ("U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F4", "F6_E2M3", "F6_E3M2")


def spec_of_checkpoint(
    config: dict[str, Any], name: str, stored: Checkpoint | None
) -> tuple[ModelSpec, tuple[str, ...]]:
    """The F16 ModelSpec of a checkpoint, and what was assumed or noticed, in sentences.

    Raises: UserError as `spec_of_config`.
    """
    if stored is not None and Config(config, name).values.get(_TIED) is None:
        config = {**config, _TIED: not any(map(_is_head, stored.tensors))}
    spec = spec_of_config(config, name)
    merges = spec.n_merges or assumed_merges(spec.architecture, spec.vocab_size)
    remarks = [f"{point[0].upper()}{point[1:]}." for point in open_points(config, name)]
    if stored is not None:
        remarks += _difference(spec, stored)
    return replace(spec, n_merges=merges), tuple(remarks)


def parameters_of(stored: Checkpoint) -> int | None:
    """Parameters of a checkpoint; None when several are packed into one number."""
    counted = [tensor for tensor in stored.tensors if not tensor.name.endswith(_BUFFERS)]
    if any(tensor.dtype in _PACKED for tensor in counted):
        return None
    if any(tensor.dtype.startswith("F8") for tensor in counted):  # their scales stand beside
        counted = [tensor for tensor in counted if "scale" not in tensor.name.rpartition(".")[2]]
    return sum(tensor.n_elements for tensor in counted)


def _difference(spec: ModelSpec, stored: Checkpoint) -> list[str]:
    there = parameters_of(stored)
    if there is None:
        return [
            "The checkpoint's weights are packed: its parameters are those of config.json,"
            " not counted."
        ]
    ours = sum(tensor.n_elements for tensor in spec.tensors if tensor.name not in _MADE)
    if there == ours:
        return []
    more = "more" if there > ours else "fewer"
    return [
        f"The safetensors hold {there:,} parameters, {abs(there - ours):,} {more} than the"
        f" {ours:,} that llama.cpp would take by config.json (vision, prediction layers and"
        " copies of shared matrices are left out there)."
    ]


def _is_head(tensor: StoredTensor) -> bool:
    name = tensor.name.removesuffix(".weight")
    inside_a_layer = any(part.isdigit() for part in name.split("."))
    return not inside_a_layer and any(f".{name}".endswith(f".{head}") for head in _HEADS)
