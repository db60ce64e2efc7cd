"""From a GGUF header to a ModelSpec: what planning needs, each value checked.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import os
import re
from collections.abc import Sequence

from snugly.errors import BadModelFile
from snugly.model.attention import NO_CACHE, layers_of
from snugly.model.fields import Fields
from snugly.model.ggml_types import FILE_TYPES
from snugly.model.gguf import read_header
from snugly.model.types import GgufHeader, ModelSpec, Tensor

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_TOKENS = "tokenizer.ggml.tokens"
# What scores a text as a whole (llama.cpp src/llama-arch.cpp, LLM_TENSOR_CLS), and the pooling
# that goes with it (include/llama.h, LLAMA_POOLING_TYPE_RANK).
_SCORING, _RANKS = frozenset({"cls.weight", "cls.output.weight"}), 4
KEPT = frozenset({_TOKENS})  # long arrays that a spec is made of: names of the special tokens


def split_parts(path: str | os.PathLike[str]) -> list[str]:
    """All files of a split model in order, or just `path` when it is whole."""
    where = os.fspath(path)
    match = _SPLIT.search(where)
    if match is None:
        return [where]
    stem = where[: match.start()]
    return [f"{stem}-{n:05d}-of-{match[2]}.gguf" for n in range(1, int(match[2]) + 1)]


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read what planning needs from a GGUF's header, or from all headers of a split one.

    Raises: BadModelFile naming the file and the field.
    """
    parts = split_parts(path)
    if len(parts) > 1:
        missing = [part for part in parts if not os.path.exists(part)]
        if missing:
            raise BadModelFile(
                f"{os.path.basename(parts[0])} is split and not all of it is here.",
                f"{len(missing)} of {len(parts)} parts are missing, such as {missing[0]}.",
                "Fetch it again with `snugly pull`.",
            )
    return spec_of_parts([read_header(part, KEPT) for part in parts])


def spec_of_parts(headers: Sequence[GgufHeader]) -> ModelSpec:
    """The spec of a model from the headers of all its files, in order. Errors: as spec_of."""
    tensors = [tensor for header in headers for tensor in header.tensors]
    return spec_of(headers[0], tensors, sum(header.file_bytes for header in headers))


def spec_of(header: GgufHeader, tensors: list[Tensor], file_bytes: int) -> ModelSpec:
    """The spec of a model from its first header and all its tensors.

    Raises: BadModelFile naming the metadata key that is missing or wrong.
    """
    fields = Fields(header)
    names = {tensor.name for tensor in tensors}
    layers = layers_of(fields)  # first: it bounds the number of blocks
    n_layers = fields.own("block_count")
    return ModelSpec(
        path=header.path,
        name=fields.text("general.name") or os.path.basename(header.path),
        architecture=fields.architecture,
        file_bytes=file_bytes,
        n_params=sum(tensor.n_elements for tensor in tensors),
        weight_bytes=sum(tensor.n_bytes for tensor in tensors),
        file_type=FILE_TYPES.get(fields.count("general.file_type", 1 << 31), "unknown"),
        tensors=tuple(tensors),
        layers=layers,
        context_train=fields.own("context_length", 0) or 4096,
        embedding_length=fields.own("embedding_length"),
        feed_forward_length=max(fields.per_layer("feed_forward_length", n_layers, 0), default=0),
        n_heads=max(fields.per_layer("attention.head_count", n_layers, 0), default=0),
        vocab_size=header.lengths.get(_TOKENS) or fields.own("vocab_size", 0),
        n_merges=header.lengths.get("tokenizer.ggml.merges", 0),
        tied_embeddings="output.weight" not in names,
        chat_template=fields.text("tokenizer.chat_template"),
        licence=fields.text("general.license"),
        special_tokens=_special_tokens(fields),
        experts=fields.own("expert_count", 0),
        experts_used=fields.own("expert_used_count", 0),
        is_causal=fields.architecture not in (*NO_CACHE, "t5encoder")
        and header.metadata.get(f"{fields.architecture}.attention.causal", True) is not False,
        pooling=_RANKS if names & _SCORING else fields.own("pooling_type", 0),
    )


def _special_tokens(fields: Fields) -> dict[str, str]:
    """Text of the special tokens, by role: {"bos": "<s>", ...}."""
    tokens = fields.header.metadata.get(_TOKENS)
    found: dict[str, str] = {}
    for key in fields.header.metadata:
        match = re.fullmatch(r"tokenizer\.ggml\.(\w+)_token_id", key)
        if match is None:
            continue
        number = fields.count(key, most=(1 << 32) - 1)
        known = isinstance(tokens, list) and number < len(tokens)
        found[match[1]] = tokens[number] if known and isinstance(tokens, list) else f"#{number}"
    return found
