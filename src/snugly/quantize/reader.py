"""A GGUF to quantize: its metadata as raw bytes, its tensors with the place of each.

Metadata is copied as it stands, byte for byte: a vocabulary of a quarter of a million
tokens is neither decoded nor encoded again, and a key of a type we do not know survives.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snugly.model.gguf import read_header
from snugly.model.gguf_cursor import Cursor
from snugly.model.spec import split_parts
from snugly.model.types import GgufHeader
from snugly.quantize.types import Segment, SourceTensor

# GGUF value types: number -> bytes of one (https://github.com/ggml-org/ggml docs/gguf.md)
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
# What belongs to one file of a split model, and not to the whole.
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be quantized, whatever it was read from.

    `pairs` are the metadata as they will be written: key -> type and value in GGUF's own
    bytes. `metadata` has the short values decoded, for rules that ask for them.
    """

    paths: tuple[str, ...]
    pairs: Mapping[str, bytes]
    metadata: Mapping[str, Any]
    tensors: tuple[SourceTensor, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors, as they are now."""
        return sum(item.tensor.n_bytes for item in self.tensors)


def read_gguf(path: str | os.PathLike[str]) -> Source:
    """A GGUF, or all parts of a split one when `path` is any of them.

    Raises: BadModelFile naming the file and the field.
    """
    parts = split_parts(path)
    headers = [read_header(part) for part in parts]
    pairs = _pairs(headers[0])
    for key in _SPLIT_KEYS:
        pairs.pop(key, None)
    # Tensors are always written with the usual alignment, as llama-quantize does.
    pairs.pop("general.alignment", None)
    tensors = tuple(
        SourceTensor(tensor, (Segment(header.path, header.data_offset + tensor.offset,
                                      tensor.n_elements // tensor.shape[0]),), tensor.ggml_type)
        for header in headers
        for tensor in header.tensors
    )  # fmt: skip
    return Source(tuple(parts), pairs, headers[0].metadata, tensors)


def _pairs(header: GgufHeader) -> dict[str, bytes]:
    """Key -> raw type and value, in the order of the file. The header was checked before."""
    found: dict[str, bytes] = {}
    with open(header.path, "rb") as file:
        cursor = Cursor(file, header.file_bytes, header.path)
        cursor.take(16, "magic, version and number of tensors")
        for _ in range(int(cursor.number("Q", "number of metadata keys"))):
            key = cursor.string("metadata key")
            start = cursor.offset
            _skip_value(cursor, f"metadata key {key!r}")
            found[key] = _between(header.path, start, cursor.offset)
    return found


def _skip_value(cursor: Cursor, field_name: str) -> None:
    kind = int(cursor.number("I", field_name))
    if kind == _STRING:
        cursor.string(field_name)
    elif kind == _ARRAY:
        element = int(cursor.number("I", field_name))
        count = int(cursor.number("Q", field_name))
        if element == _STRING:
            cursor.strings(count, field_name, keep=False)
        else:
            cursor.skip(count * _WIDTHS[element], field_name)
    else:
        cursor.skip(_WIDTHS[kind], field_name)


def _between(path: str, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
