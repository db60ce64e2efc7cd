"""The metadata of a checkpoint's GGUF: what the config says, names, and the vocabulary.

`gguf` (llama.cpp's own package) knows how names, licences and special tokens are taken from
a checkpoint's files; it collects them here and writes nothing.

Source: llama.cpp conversion/base.py, `prepare_metadata` and `set_gguf_parameters`.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snugly.errors import BadModelFile
from snugly.model.config_fields import Config
from snugly.model.types import GgufHeader
from snugly.quantize import writer
from snugly.quantize.convert_hf_vocab import add_vocabulary

_FLOATS = ("_epsilon", ".freq_base", ".factor", "softcapping", "attn_factor", "_scale",
           "attn_factors", "ext_factor", "beta_fast", "beta_slow", "freq_base_swa")  # fmt: skip


def pairs_of(folder: Path, config: dict[str, Any], header: GgufHeader) -> Mapping[str, bytes]:
    """All metadata of the GGUF, as they are written.

    Raises: UserError or BadModelFile when the tokenizer is missing or not known.
    """
    import gguf

    architecture = str(header.metadata["general.architecture"])
    collected = gguf.GGUFWriter(None, architecture)
    logging.getLogger("gguf").setLevel(logging.ERROR)  # its remarks are for converters' authors
    collected.add_type(gguf.GGUFType.MODEL)
    _add_names(collected, folder, header)
    add_vocabulary(collected, folder, config, architecture, _vocabulary(header))
    pairs: dict[str, bytes] = {}
    for key, item in collected.kv_data[0].items():
        element = item.sub_type if item.type == gguf.GGUFValueType.ARRAY else item.type
        if element is None:
            element = gguf.GGUFValueType.get_type(item.value[0]) if item.value else None
        if element is not None:  # an empty list says nothing
            pairs[key] = writer.pair(element.name, item.value)
    for key, value in (header.metadata | _more(config, header, architecture)).items():
        if value is not None and not key.startswith("general."):
            pairs[key] = _typed(key, value)
    return pairs


def _add_names(collected: Any, folder: Path, header: GgufHeader) -> None:
    import gguf

    shared, experts, counts = 0, 0, 0
    for tensor in header.tensors:
        if "_exps." in tensor.name:
            experts += tensor.n_elements // tensor.shape[-1]
            counts = max(counts, tensor.shape[-1])
        else:
            shared += tensor.n_elements
    total = sum(tensor.n_elements for tensor in header.tensors)
    try:
        metadata = gguf.Metadata.load(None, folder, None, total)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModelFile(
            f"The description of {folder.name} cannot be read.",
            f"{error} (README.md or generation_config.json in {folder}).",
            "Correct or remove the file.",
        ) from error
    if metadata.name is None:
        metadata.name = folder.resolve().name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(total, shared, experts, counts)
    metadata.set_gguf_meta_model(collected)


def _vocabulary(header: GgufHeader) -> int:
    return next(t.shape[1] for t in header.tensors if t.name == "token_embd.weight")


def _more(config: dict[str, Any], header: GgufHeader, architecture: str) -> dict[str, Any]:
    """What a converter writes and planning does not ask for."""
    fields = Config(config, header.path)
    rope = fields.rope()
    more: dict[str, Any] = {}
    if rope.get("rope_type") == "yarn":
        for key, names in (
            ("ext_factor", ("extrapolation_factor",)),
            ("attn_factor", ("attention_factor", "attn_factor")),
            ("beta_fast", ("beta_fast",)),
            ("beta_slow", ("beta_slow",)),
        ):
            value = next((rope[name] for name in names if rope.get(name) is not None), None)
            more[f"{architecture}.rope.scaling.yarn_{key}"] = value
    if architecture == "phi3":
        more |= _phi3(fields, rope)
    if architecture == "gemma3":
        more["gemma3.rope.freq_base_swa"] = _local_base(config)
    return more


def _local_base(config: dict[str, Any]) -> float:
    """Rotary base of the layers with a window; 10,000 is the class's default."""
    text = config.get("text_config", config)
    local = (text.get("rope_parameters") or {}).get("sliding_attention") or {}
    return float(local.get("rope_theta") or text.get("rope_local_base_freq") or 10_000.0)


def _phi3(fields: Config, rope: Mapping[str, Any]) -> dict[str, Any]:
    longest = fields.count("max_position_embeddings")
    original = rope.get("original_max_position_embeddings")
    if original is None:
        original = fields.values.get("original_max_position_embeddings", longest)
    more: dict[str, Any] = {
        "phi3.rope.scaling.original_context_length": original,
        "phi3.rope.scaling.type": None,  # the factors are tensors, and say it all
    }
    if rope.get("long_factor"):
        scale = longest / original
        factor = 1.0
        if scale > 1 and rope.get("rope_type") == "yarn":
            factor = 0.1 * math.log(scale) + 1.0
        elif scale > 1:
            factor = math.sqrt(1 + math.log(scale) / math.log(original))
        more["phi3.rope.scaling.attn_factor"] = factor
    return more


def _typed(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return writer.pair("STRING", value)
    if isinstance(value, list):
        kind = "BOOL" if isinstance(value[0], bool) else "INT32"
        return writer.pair("FLOAT32" if isinstance(value[0], float) else kind, value)
    if isinstance(value, bool):
        return writer.pair("BOOL", value)
    if isinstance(value, float) or key.endswith(_FLOATS):
        return writer.pair("FLOAT32", float(value))
    return writer.pair("UINT32", value)
