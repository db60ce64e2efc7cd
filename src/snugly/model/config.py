"""From a Hugging Face `config.json` alone to the header that llama.cpp's converter would write.

    header_of_config(config, name)   names, shapes and types of all tensors, and the metadata
    spec_of_config(config, name)     the same as a ModelSpec, through the code for real files
    open_points(config)              what the config left open, and what was taken instead

Each architecture is a table (config_dense, config_experts, config_hybrids, config_states,
config_others, config_encoders); one that has none is refused by name, never guessed. Pure.
"""

from typing import Any

from snugly.errors import UserError
from snugly.model.config_base import Family
from snugly.model.config_dense import DENSE
from snugly.model.config_encoders import ENCODERS
from snugly.model.config_experts import SPARSE
from snugly.model.config_fields import Config
from snugly.model.config_hybrids import HYBRIDS
from snugly.model.config_others import OTHERS
from snugly.model.config_rows import Shape, tensors_of
from snugly.model.config_states import STATES
from snugly.model.spec import spec_of
from snugly.model.types import GgufHeader, ModelSpec

FAMILIES: dict[str, Family] = {
    kind: family
    for family in DENSE + SPARSE + HYBRIDS + STATES + OTHERS + ENCODERS
    for kind in family.model_types
}
_F16 = 1  # general.file_type of an F16 file: gguf LlamaFileType.MOSTLY_F16


def covered() -> tuple[str, ...]:
    """The `model_type`s that can be read, in order."""
    return tuple(sorted(FAMILIES))


def header_of_config(config: dict[str, Any], name: str, tied: bool | None = None) -> GgufHeader:
    """The header of the F16 GGUF that llama.cpp's converter would write for this config.

    Metadata are those that planning needs; the vocabulary is given by its length, for its words
    are not in a config. `tied` says whether the output matrix is the embedding, for callers that
    know it from elsewhere; else the config says it, or its class (see `open_points`).
    A quantized checkpoint is described as if it were not, but for gpt-oss's MXFP4.

    Raises: UserError naming the architecture that is not covered, or the key that is wrong.
    """
    return _header(Config(config, name), tied)


def spec_of_config(config: dict[str, Any], name: str, tied: bool | None = None) -> ModelSpec:
    """The ModelSpec of the F16 GGUF of this config. `tied` and errors: as header_of_config."""
    header = header_of_config(config, name, tied)
    return spec_of(header, list(header.tensors), header.file_bytes)


def open_points(config: dict[str, Any], name: str = "this model") -> tuple[str, ...]:
    """What the config leaves open, each with what was taken instead, in words.

    Raises: UserError as header_of_config.
    """
    fields = Config(config, name)
    _header(fields, None)
    return tuple(fields.open_points)


def _header(config: Config, tied: bool | None) -> GgufHeader:
    family = _family(config)
    config.defaults = dict(family.defaults)
    if tied is not None:
        config.values["tie_word_embeddings"] = tied
    method = config.part("quantization_config").get("quant_method")
    if method is not None and method != "mxfp4":
        config.note(f"the checkpoint is quantized ({method}); its tensors are given in F16")
    shape = family.read(config)
    tensors = tensors_of(family.top, family.layer, shape, config)
    size = tensors[-1].offset + tensors[-1].n_bytes
    return GgufHeader(
        path=config.name,
        version=3,
        file_bytes=size,  # without the metadata: the vocabulary's words are not known here
        data_offset=0,
        metadata=_metadata(family, shape, config.name),
        lengths={"tokenizer.ggml.tokens": shape.sizes["vocab"]},
        tensors=tensors,
    )


def _family(config: Config) -> Family:
    kind = config.values.get("model_type")
    if isinstance(kind, str) and kind in FAMILIES:
        return FAMILIES[kind]
    raise UserError(
        f"The architecture of {config.name} cannot be planned from its config:"
        f" {kind or 'no model_type is given'}.",
        f"Covered are {', '.join(covered())}.",
        "Plan a GGUF of it instead: its header says everything.",
    )


def _metadata(family: Family, shape: Shape, name: str) -> dict[str, Any]:
    architecture = shape.architecture or family.architecture
    metadata: dict[str, Any] = {
        "general.architecture": architecture,
        "general.name": name,
        "general.file_type": _F16,
    }
    for key, value in shape.metadata.items():
        metadata[architecture + key if key.startswith(".") else key] = value
    return metadata
