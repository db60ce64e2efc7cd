"""A Hugging Face checkpoint to quantize: a folder with config.json and safetensors.

Names, shapes and types are those of the GGUF that llama.cpp's converter would write
(`model.config`); each tensor is read from where it lies in the safetensors files, so
nothing is converted before it is quantized. Covered are decoders of Llama's build: Llama,
Mistral, Mixtral, SmolLM, Qwen2, Qwen3 (and their mixtures of experts), Gemma 3, Phi-3.

Source: llama.cpp conversion/{base,llama,qwen,gemma,phi}.py (vendored in llama-cpp-python
0.3.36), against which `bench/quantize_checkpoints.py` holds it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from snugly.errors import BadModelFile, UserError
from snugly.model.config import header_of_config
from snugly.model.safetensors import read_stored_file
from snugly.model.types import GgufHeader, Tensor
from snugly.quantize.convert_hf_metadata import pairs_of
from snugly.quantize.convert_hf_names import Place, place_of
from snugly.quantize.convert_hf_rope import rope_tensors
from snugly.quantize.reader import Source
from snugly.quantize.reader_listed import offsets_of, stored_files
from snugly.quantize.types import Segment, SourceTensor

_ARCHITECTURES = frozenset({"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma3", "phi3"})
_KINDS = frozenset({"F32", "F16", "BF16"})
_MAX_JSON = 1 << 26  # bytes; the largest tokenizer.json has 35 MB


@dataclass(frozen=True, slots=True)
class _Stored:
    """One tensor in a safetensors file, and where its bytes are."""

    name: str
    kind: str
    shape: tuple[int, ...]
    path: str
    offset: int


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint rather than a GGUF."""
    return (folder / "config.json").is_file()


def read_checkpoint(folder: Path) -> Source:
    """The checkpoint in `folder` as a source: F16 where a GGUF has matrices, F32 elsewhere.

    Raises: UserError for an architecture or a type that is not covered, BadModelFile for
    files that are damaged, missing or contradict the config.
    """
    config = read_json(folder / "config.json")
    stored = list(_stored(folder))
    head = any(item.name.endswith("lm_head.weight") for item in stored)
    header = header_of_config(config, folder.resolve().name, tied=not head)
    architecture = str(header.metadata["general.architecture"])
    if architecture not in _ARCHITECTURES:
        raise UserError(
            f"Checkpoints of {architecture} cannot be converted here.",
            f"Covered are {', '.join(sorted(_ARCHITECTURES))}.",
            "Convert it with llama.cpp's convert_hf_to_gguf.py, then quantize the GGUF.",
        )
    tensors = _sources(header, architecture, stored, config, folder)
    paths = tuple(dict.fromkeys(item.path for item in stored))
    pairs = pairs_of(folder, config, header)
    return Source(paths, pairs, header.metadata, tensors)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint. Raises: BadModelFile when it is none."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError("it is too large to be what its name says")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(
            f"{path.name} cannot be read.",
            f"{getattr(error, 'strerror', None) or error} ({path}).",
            "Fetch the checkpoint again, with all its files.",
        ) from error
    return found


def _stored(folder: Path) -> Iterator[_Stored]:
    files = stored_files(folder)
    if not files:
        raise BadModelFile(
            f"{folder.name} holds no weights.",
            "There is a config.json, but no safetensors file beside it.",
            "Fetch the checkpoint again; PyTorch's own .bin files are not read, as they can"
            " hold programs.",
        )
    for path in files:
        header = read_stored_file(path)
        offsets = offsets_of(header)
        for tensor in header.tensors:
            yield _Stored(
                tensor.name, tensor.dtype, tensor.shape, header.path, offsets[tensor.name]
            )


def _sources(
    header: GgufHeader,
    architecture: str,
    stored: list[_Stored],
    config: dict[str, Any],
    folder: Path,
) -> tuple[SourceTensor, ...]:
    gemma = architecture == "gemma3"
    found: dict[str, list[tuple[Place, _Stored]]] = {}
    for item in stored:
        try:
            place = place_of(item.name, gemma)
        except KeyError:
            _contradiction(folder, f"tensor {item.name!r}", "It belongs nowhere in this model")
        if place is not None:
            found.setdefault(place.name, []).append((place, item))
    literals = rope_tensors(config, header)
    result = []
    for tensor in header.tensors:
        if tensor.name in literals:
            result.append(SourceTensor(tensor, (), "F32", literal=literals[tensor.name]))
            continue
        pieces = sorted(found.pop(tensor.name, ()), key=lambda piece: piece[0].expert)
        if not pieces:
            _contradiction(folder, f"tensor {tensor.name!r}", "The checkpoint does not have it")
        result.append(_source(tensor, [item for _, item in pieces], header, architecture, folder))
    if found:
        _contradiction(folder, f"tensor {min(found)!r}", "The config does not speak of it")
    return tuple(result)


def _source(
    tensor: Tensor, pieces: list[_Stored], header: GgufHeader, architecture: str, folder: Path
) -> SourceTensor:
    """One tensor, made of one stored tensor or of one per expert."""
    kind = pieces[0].kind
    if kind not in _KINDS:
        raise UserError(
            f"{folder.name} is quantized already: {pieces[0].name} is of type {kind}.",
            "Only F32, F16 and BF16 checkpoints are converted.",
            "Give the original checkpoint, or a GGUF of the model.",
        )
    whole = tuple(reversed(tensor.shape))
    each = whole[1:] if len(whole) == 3 else whole
    experts = whole[0] if len(whole) == 3 else 1
    shapes = {_without_ones(item.shape) for item in pieces}
    if (
        len(pieces) != experts
        or shapes != {_without_ones(each)}
        or any(item.kind != kind for item in pieces)
    ):
        _contradiction(
            folder,
            f"tensor {pieces[0].name!r}",
            f"There are {len(pieces)} of shape {pieces[0].shape}; the config says {whole}",
        )
    head = _head(tensor.name, header, architecture)
    segments = tuple(Segment(item.path, item.offset, each[0] if len(each) > 1 else 1)
                     for item in pieces)  # fmt: skip
    if head and len(tensor.shape) == 1:  # a bias is permuted number by number
        segments = (Segment(pieces[0].path, pieces[0].offset, tensor.shape[0]),)
    add = 1.0 if architecture == "gemma3" and tensor.name.endswith("norm.weight") else 0.0
    return SourceTensor(tensor, segments, kind, interleave=head, add=add)


def _head(name: str, header: GgufHeader, architecture: str) -> int:
    """Rows of a head whose halves are interleaved: Llama's queries and keys; else 0."""
    if architecture != "llama" or ".attn_q." not in name and ".attn_k." not in name:
        return 0
    heads = int(header.metadata["llama.attention.head_count"])
    if ".attn_k." in name:
        heads = int(header.metadata.get("llama.attention.head_count_kv", heads))
    tensor = next(item for item in header.tensors if item.name == name)
    return tensor.shape[-1] // heads


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)


def _contradiction(folder: Path, field: str, why: str) -> NoReturn:
    raise BadModelFile(
        f"{folder.name} is not the model that its config.json describes: {field}.",
        f"{why} ({folder}).",
        "Fetch the checkpoint again, with all its files.",
    )
