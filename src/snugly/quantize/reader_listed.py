"""The tensors of any model that lies here, GGUF or safetensors, without reading a weight."""

import json
import math
import os
from pathlib import Path

from snugly.errors import BadModelFile
from snugly.model.gguf import read_header
from snugly.model.safetensors import StoredHeader, choose_files, read_stored_file, shards_of
from snugly.model.spec import split_parts
from snugly.quantize.reader_weights import Listed

# Two weights in a byte, as bitsandbytes packs them. Its state lies beside under this name.
_PACKED = ".quant_state.bitsandbytes__"


def listed(path: Path) -> tuple[Listed, ...]:
    """The tensors of a GGUF (with its parts), a safetensors file, or a folder of them.

    Raises: BadModelFile naming the file and the field.
    """
    if path.is_dir():
        files = stored_files(path)
        if not files:
            raise BadModelFile(
                f"{path.name} holds no weights.",
                f"There is no safetensors file in {path}.",
                "Give a GGUF file, or the folder of a whole checkpoint.",
            )
        return tuple(item for file in files for item in _stored(file))
    if path.suffix == ".safetensors":
        return tuple(_stored(path))
    return tuple(item for part in split_parts(path) for item in _gguf(part))


def stored_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, in order. Raises: BadModelFile."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = shards_of(json.loads(index.read_text(encoding="utf-8")), str(index))
        except (ValueError, RecursionError) as error:
            raise BadModelFile(
                f"{index.name} cannot be read.", f"{error} ({index}).", "Fetch it again."
            ) from error
    else:
        found = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
        names = choose_files(found)
    return tuple(folder / name for name in names)


def offsets_of(header: StoredHeader) -> dict[str, int]:
    """Where each tensor of a safetensors file starts in the file."""
    with open(header.path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(size))  # was checked when the header was read
    return {t.name: header.data_offset + entries[t.name]["data_offsets"][0] for t in header.tensors}


def _gguf(path: str) -> list[Listed]:
    header = read_header(path)
    return [
        Listed(t.name, t.ggml_type, t.shape, t.shape[0], t.n_elements, t.n_bytes, path,
               header.data_offset + t.offset)
        for t in header.tensors
    ]  # fmt: skip


def _stored(path: Path) -> list[Listed]:
    header = read_stored_file(path)
    offsets = offsets_of(header)
    packed = {t.name.partition(_PACKED)[0] for t in header.tensors if _PACKED in t.name}
    return [
        Listed(t.name, t.dtype, t.shape, t.shape[-1] if t.shape else 1,
               math.prod(t.shape) * (2 if t.name in packed else 1), t.n_bytes, str(path),
               offsets[t.name])
        for t in header.tensors
    ]  # fmt: skip
