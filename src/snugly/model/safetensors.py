"""Headers of safetensors files: which tensors, of which shapes and types, in how many bytes.

Format: https://huggingface.co/docs/safetensors: 8 bytes with the length N of the header, little
endian; N bytes of JSON, name to {"dtype", "shape", "data_offsets"}; the data. The checks and the
limit of 100 MB are those of the safetensors library (src/tensor.rs, MAX_HEADER_SIZE, validate).
"""

import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from snugly.errors import BadModelFile

MAX_HEADER_BYTES = 100_000_000
INDEX = "model.safetensors.index.json"
# Bits per element. Source: safetensors src/tensor.rs, Dtype::bitsize.
DTYPE_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8,
    "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as a checkpoint keeps it. `shape` is in PyTorch's order."""

    name: str
    dtype: str  # "BF16", "F8_E4M3", ... as the file says it
    shape: tuple[int, ...]
    n_bytes: int
    file: str

    @property
    def n_elements(self) -> int:
        """How many numbers; a scalar is one."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """The header of one safetensors file, checked against the file's size."""

    path: str
    file_bytes: int
    data_offset: int
    metadata: dict[str, str]
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All tensors of a model in safetensors files, in the order of files and offsets."""

    files: tuple[str, ...]
    file_bytes: int
    tensors: tuple[StoredTensor, ...]

    @property
    def n_elements(self) -> int:
        """Numbers in all tensors; for packed quantizations more or less than parameters."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.n_bytes for tensor in self.tensors)


def read_stored(take: Callable[[int], bytes], size: int, path: str) -> StoredHeader:
    """Read a header through `take(count)`, which gives the next bytes of a file of `size` bytes.

    Raises: BadModelFile naming the file and the tensor.
    """
    first = take(8) if size >= 8 else b""
    if len(first) < 8:
        _fail(path, "its length", f"The file has {size} bytes, too few for a header")
    (length,) = struct.unpack("<Q", first)
    if length > min(MAX_HEADER_BYTES, size - 8):
        _fail(path, "its length", f"The header is given as {length} bytes, the file has {size}")
    text = take(length)
    if len(text) < length:
        _fail(path, "its length", "The file became shorter while it was read")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail(path, "its header", f"It is not JSON ({error})")
    if not isinstance(entries, dict):
        _fail(path, "its header", "It is not a JSON object")
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        _fail(path, "__metadata__", "It is not a JSON object")
    return StoredHeader(
        path, size, 8 + length, {str(k): str(v) for k, v in metadata.items()},
        _tensors(entries, size - 8 - length, path),
    )  # fmt: skip


def read_stored_file(path: str | os.PathLike[str]) -> StoredHeader:
    """The header of a safetensors file on this machine.

    Raises: BadModelFile naming the file and the tensor.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as file:
            return read_stored(file.read, os.fstat(file.fileno()).st_size, where)
    except OSError as error:
        raise BadModelFile(
            f"{os.path.basename(where)} cannot be read.",
            f"{error.strerror or error} ({where}).",
            "Check the path and the file's permissions.",
        ) from error


def checkpoint_of(headers: Sequence[StoredHeader]) -> Checkpoint:
    """All tensors of a model.

    Raises: BadModelFile when a name stands in two files.
    """
    seen: dict[str, str] = {}
    for header in headers:
        for tensor in header.tensors:
            if tensor.name in seen:
                _fail(header.path, f"tensor {tensor.name!r}", f"{seen[tensor.name]} has it too")
            seen[tensor.name] = tensor.file
    return Checkpoint(
        tuple(header.path for header in headers),
        sum(header.file_bytes for header in headers),
        tuple(tensor for header in headers for tensor in header.tensors),
    )


def shards_of(index: Any, path: str) -> tuple[str, ...]:
    """Names of the files that an index of safetensors lists, in order.

    Raises: BadModelFile when it is not such an index or a name leaves the folder.
    """
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        _fail(path, "weight_map", "It is missing or empty")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            _fail(path, "weight_map", f"{name[:80]!r} is not the name of a safetensors file")
    return tuple(shards)


def choose_files(names: Sequence[str]) -> tuple[str, ...]:
    """Which safetensors files of a folder without an index are its model; none is possible.

    `model.safetensors` when it is there, else the parts of one that is split, else the only one.
    """
    files = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    if "model.safetensors" in files:
        return ("model.safetensors",)
    parts = [name for name in files if name.startswith("model-")]
    if parts:
        return tuple(parts)
    return tuple(files) if len(files) == 1 else ()


def checkpoint_in(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder on this machine; None when it holds no safetensors.

    Raises: BadModelFile.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = shards_of(json.loads(index.read_bytes()), str(index))
        except (OSError, ValueError, RecursionError) as error:
            _fail(str(index), "its text", f"It cannot be read ({error})")
    else:
        names = choose_files([file.name for file in folder.iterdir()])
    return checkpoint_of([read_stored_file(folder / name) for name in names]) if names else None


def _tensors(entries: dict[str, Any], data_bytes: int, path: str) -> tuple[StoredTensor, ...]:
    found = [(*_placed(name, entry, path), name) for name, entry in entries.items()]
    expected = 0
    tensors = []
    for begin, end, dtype, shape, name in sorted(found, key=lambda item: item[:2]):
        if begin != expected:
            _fail(path, f"tensor {name!r}", f"It begins at {begin} and {expected} was expected")
        expected = end
        tensors.append(StoredTensor(name, dtype, shape, end - begin, os.path.basename(path)))
    if expected != data_bytes:
        _fail(path, "its data", f"It has {data_bytes} bytes and its tensors take {expected}")
    return tuple(tensors)


def _placed(name: str, entry: Any, path: str) -> tuple[int, int, str, tuple[int, ...]]:
    """Begin, end, type and shape of one entry, each checked."""
    field = f"tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        _fail(path, field, "Its entry is not a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if dtype not in DTYPE_BITS:
        _fail(path, field, f"Its type is {str(dtype)[:40]!r}, which does not exist")
    if not _counts(shape):
        _fail(path, field, f"Its shape is {str(shape)[:60]}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _fail(path, field, f"Its offsets are {str(offsets)[:60]}")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        _fail(
            path, field, f"{dtype} of shape {shape} does not take {offsets[1] - offsets[0]} bytes"
        )
    return offsets[0], offsets[1], dtype, tuple(shape)


def _counts(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= 16
        and all(type(item) is int and 0 <= item < 1 << 62 for item in value)
    )


def _fail(path: str, field: str, why: str) -> NoReturn:
    shown = "".join(c if c.isprintable() else "?" for c in field)
    raise BadModelFile(
        f"{os.path.basename(path)} is not a usable safetensors file: {shown}.",
        f"{why} ({path}).",
        "Fetch it again, or ask whoever made it.",
    )
