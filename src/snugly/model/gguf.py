"""Read a GGUF header defensively: any bytes give a header or one clear BadModelFile.

Why not the `gguf` package's reader: it maps the whole file, builds numpy views for
every string (seconds for a large vocabulary), and fails on damaged files with whatever
exception comes first.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The checks are those
of llama.cpp `ggml/src/gguf.cpp`, so that what passes here is not refused there.
"""

import math
import os
import stat
import struct
from typing import Any

from snugly.errors import BadModelFile
from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.gguf_cursor import Cursor, Readable
from snugly.model.types import GgufHeader, Tensor

MAX_KEPT_ARRAY = 4096  # per-layer arrays are kept, vocabularies are not
MAX_NAME = 63  # GGML_MAX_NAME is 64 with the final NUL
MAX_DIMS = 4  # GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32

# GGUF value types: number -> (name, struct code)
_SCALARS = {
    0: ("UINT8", "B"), 1: ("INT8", "b"), 2: ("UINT16", "H"), 3: ("INT16", "h"),
    4: ("UINT32", "I"), 5: ("INT32", "i"), 6: ("FLOAT32", "f"), 7: ("BOOL", "?"),
    10: ("UINT64", "Q"), 11: ("INT64", "q"), 12: ("FLOAT64", "d"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9


def read_header(path: str | os.PathLike[str], keep: frozenset[str] = frozenset()) -> GgufHeader:
    """Read one GGUF file's metadata and tensor list; no weights are read.

    Arrays of more than 4096 elements are kept only when their key is in `keep`.

    Raises: BadModelFile naming the file and the field.
    """
    where = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(where).st_mode):  # opening a named pipe would wait for ever
            raise OSError("it is not a regular file")
        with open(where, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return parse_header(file, size, where, keep)
    except OSError as error:
        raise BadModelFile(
            f"{os.path.basename(where) or where} cannot be read.",
            f"{error.strerror or error} ({where}).",
            "Check the path and the file's permissions.",
        ) from error


def parse_header(
    file: Readable, size: int, path: str, keep: frozenset[str] = frozenset()
) -> GgufHeader:
    """`read_header` of what is already open: `size` bytes, called `path` in messages.

    Raises: BadModelFile naming `path` and the field, and what `file.read` raises.
    """
    return _parse(Cursor(file, size, path), keep)


def _parse(cursor: Cursor, keep: frozenset[str]) -> GgufHeader:
    version = _version(cursor)
    n_tensors = _count(cursor, "number of tensors", 33)  # the least a tensor's entry takes
    n_pairs = _count(cursor, "number of metadata keys", 13)
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for index in range(n_pairs):
        key = cursor.string(f"name of metadata key {index}")
        if not key or key in metadata or key in lengths:
            cursor.fail(f"metadata key {key!r}", "It is empty or stands there twice")
        value, length = _value(cursor, key, key in keep)
        if length is not None:
            lengths[key] = length
        if value is not None:
            metadata[key] = value
    alignment = _alignment(cursor, metadata)
    entries = [_tensor_entry(cursor, index) for index in range(n_tensors)]
    data_offset = cursor.offset + -cursor.offset % alignment
    tensors = _place(cursor, entries, data_offset, alignment)
    return GgufHeader(
        cursor.path, version, cursor.size, data_offset, metadata, lengths, tuple(tensors)
    )


def _version(cursor: Cursor) -> int:
    if cursor.size == 0:
        cursor.fail("magic", "The file is empty")
    magic = cursor.take(min(4, cursor.size), "magic")
    if magic != b"GGUF":
        cursor.fail("magic", f"It starts with {magic!r}, not b'GGUF'")
    version = int(cursor.number("I", "version"))
    if version & 0xFFFF == 0:  # the low half of a big-endian 2 or 3 is zero
        cursor.fail("version", "It is written for big-endian machines, which no engine here reads")
    if version not in (2, 3):
        cursor.fail("version", f"It is {version}; versions 2 and 3 can be read")
    return version


def _count(cursor: Cursor, field: str, least_bytes: int) -> int:
    count = int(cursor.number("Q", field))
    if count > cursor.left // least_bytes:
        cursor.fail(field, f"It is given as {count}, more than the file could hold")
    return count


def _value(cursor: Cursor, key: str, keep: bool) -> tuple[Any, int | None]:
    """One metadata value, and the length when it is an array."""
    field = f"metadata key {key!r}"
    kind = cursor.number("I", f"type of {field}")
    if kind == _STRING:
        return cursor.string(field), None
    if kind == _ARRAY:
        return _array(cursor, field, keep)
    if kind not in _SCALARS:
        cursor.fail(field, f"Its type is {kind}, which does not exist")
    return _scalar(cursor, kind, field), None


def _scalar(cursor: Cursor, kind: int, field: str) -> Any:
    name, code = _SCALARS[kind]
    if name == "BOOL":
        byte = cursor.number("B", field)
        if byte > 1:
            cursor.fail(field, f"A truth value is {byte}, neither 0 nor 1")
        return bool(byte)
    return cursor.number(code, field)


def _array(cursor: Cursor, field: str, keep: bool) -> tuple[list[Any] | None, int]:
    kind = cursor.number("I", f"element type of {field}")
    count = int(cursor.number("Q", f"length of {field}"))
    wanted = keep or count <= MAX_KEPT_ARRAY
    if kind == _STRING:
        if count > cursor.left // 8:
            cursor.fail(field, f"It claims {count} strings, more than the file could hold")
        kept = cursor.strings(count, field, wanted)
        return (kept if wanted else None), count
    if kind not in _SCALARS:
        cursor.fail(field, f"Its elements have type {kind}, which an array cannot hold")
    code = _SCALARS[kind][1].replace("?", "B")
    width = struct.calcsize("<" + code)
    if count > cursor.left // width:
        cursor.fail(field, f"It claims {count} elements, more than the file could hold")
    if not wanted:
        cursor.skip(count * width, field)
        return None, count
    return list(struct.unpack(f"<{count}{code}", cursor.take(count * width, field))), count


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    valid = isinstance(alignment, int) and not isinstance(alignment, bool)
    if not valid or alignment <= 0 or alignment & (alignment - 1) or alignment > 1 << 20:
        cursor.fail("metadata key 'general.alignment'", f"It is {alignment!r}, not a power of two")
    return int(alignment)


_Entry = tuple[str, tuple[int, ...], int, int]  # name, shape, type, offset


def _tensor_entry(cursor: Cursor, index: int) -> _Entry:
    name = cursor.string(f"name of tensor {index}")
    field = f"tensor {name!r}"
    if not name or len(name.encode()) > MAX_NAME:
        cursor.fail(field, f"A name has 1 to {MAX_NAME} bytes, this one {len(name.encode())}")
    n_dims = cursor.number("I", f"dimensions of {field}")
    if not 1 <= n_dims <= MAX_DIMS:
        cursor.fail(f"dimensions of {field}", f"It has {n_dims}; 1 to {MAX_DIMS} are possible")
    shape = tuple(int(cursor.number("Q", f"shape of {field}")) for _ in range(n_dims))
    if any(extent == 0 for extent in shape) or math.prod(shape) >= 1 << 62:
        cursor.fail(f"shape of {field}", f"It is {shape}")
    kind = cursor.number("I", f"type of {field}")
    return name, shape, int(kind), int(cursor.number("Q", f"offset of {field}"))


def _place(cursor: Cursor, entries: list[_Entry], data_offset: int, alignment: int) -> list[Tensor]:
    """Check types and offsets against the file, as llama.cpp will."""
    tensors: list[Tensor] = []
    seen: set[str] = set()
    expected = 0
    for name, shape, kind, offset in entries:
        field = f"tensor {name!r}"
        if name in seen:
            cursor.fail(field, "Its name stands there twice")
        seen.add(name)
        type_name, n_bytes = _tensor_bytes(cursor, field, shape, kind)
        if offset != expected:
            cursor.fail(f"offset of {field}", f"It is {offset} and {expected} was expected")
        if data_offset + offset + n_bytes > cursor.size:
            cursor.fail(
                field,
                f"The file is cut short: it needs {data_offset + offset + n_bytes} bytes"
                f" and has {cursor.size}",
            )
        expected += n_bytes + -n_bytes % alignment
        tensors.append(Tensor(name, shape, type_name, offset, n_bytes))
    return tensors


def _tensor_bytes(cursor: Cursor, field: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
    if kind not in TENSOR_TYPES:
        cursor.fail(f"type of {field}", f"Type {kind} does not exist")
    name, block, block_bytes = TENSOR_TYPES[kind]
    if shape[0] % block:
        cursor.fail(
            f"shape of {field}", f"Rows of {shape[0]} are not whole blocks of {block} ({name})"
        )
    return name, math.prod(shape) // block * block_bytes
