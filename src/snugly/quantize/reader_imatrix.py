"""Importance matrices as llama-imatrix writes them: GGUF, and the older `.dat`.

For each matrix of a model: the mean square of what comes in at each column, over the
calibration text. Entries are read when asked for; a mixture of experts has gigabytes.

Format: llama.cpp common/imatrix-loader.cpp and tools/quantize/quantize.cpp, `load_imatrix`.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from snugly.errors import BadModelFile, SnuglyError
from snugly.model.gguf import read_header
from snugly.model.hashing import sha256_of

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAX_NAME = 1 << 12  # bytes; a tensor's name has at most 64, damage has any number


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor's sums lie in the file, and by what they are divided."""

    offset: int
    length: int
    counts: tuple[int, ...]  # one, or one per expert


@dataclass(frozen=True, slots=True)
class Imatrix:
    """An importance matrix on disk."""

    path: str
    sha256: str
    entries: Mapping[str, Entry]
    datasets: tuple[str, ...]  # names of the calibration texts
    chunks: int  # pieces of text that it was made from; 0 when not recorded

    def weights(self, name: str) -> NDArray[np.float32]:
        """The weight of each column of a tensor, all experts after each other.

        Raises: KeyError; BadModelFile when the file changed meanwhile.
        """
        entry = self.entries[name]
        with open(self.path, "rb") as file:
            file.seek(entry.offset)
            raw = file.read(4 * entry.length)
        if len(raw) != 4 * entry.length:
            _fail(self.path, f"sums of {name!r}", "The file became shorter while it was read")
        sums = np.frombuffer(raw, dtype="<f4").astype(np.float32)
        return _normalised(sums, entry.counts)


def read_imatrix(path: str | os.PathLike[str]) -> Imatrix:
    """Read which tensors an importance matrix knows, and check every number in it.

    Raises: BadModelFile naming the file and the field.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as file:
            magic = file.read(4)
        found = _gguf(where) if magic == b"GGUF" else _legacy(where)
        for name in found.entries:
            if not np.isfinite(found.weights(name)).all():
                _fail(where, f"sums of {name!r}", "A number is not finite")
    except OSError as error:
        raise BadModelFile(
            f"{os.path.basename(where)} cannot be read.",
            f"{error.strerror or error} ({where}).",
            "Check the path and the file's permissions.",
        ) from error
    return found


def _normalised(sums: NDArray[np.float32], counts: tuple[int, ...]) -> NDArray[np.float32]:
    """Sums per count, in single precision as llama-quantize divides; 1 for unused experts."""
    rows = sums.reshape(len(counts), -1)
    per = np.array(counts, dtype=np.float32)[:, None]
    with np.errstate(all="ignore"):  # what is not finite is found by the caller
        means = np.where(per > 0, rows / per, np.float32(1))
    return means.astype(np.float32).reshape(-1)


def _gguf(path: str) -> Imatrix:
    keys = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
    header = read_header(path, frozenset(keys))
    missing = [key for key in keys if key not in header.metadata]
    if missing:
        _fail(path, f"metadata key {missing[0]!r}", "It is missing: no importance matrix")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries: dict[str, Entry] = {}
    for name, sums in tensors.items():
        if not name.endswith(_SUMS):
            continue
        base = name.removesuffix(_SUMS)
        counts = tensors.get(base + _COUNTS)
        if counts is None or (sums.ggml_type, counts.ggml_type) != ("F32", "F32"):
            _fail(path, f"counts of {base!r}", "They are missing, or not of type F32")
        if sums.n_elements % counts.n_elements:
            _fail(path, f"counts of {base!r}", "Sums and counts do not belong together")
        with open(path, "rb") as file:
            file.seek(header.data_offset + counts.offset)
            raw = np.frombuffer(file.read(counts.n_bytes), dtype="<f4")
        if not np.isfinite(raw).all():
            _fail(path, f"counts of {base!r}", "A number is not finite")
        entries[base] = Entry(
            header.data_offset + sums.offset, sums.n_elements, tuple(round(float(n)) for n in raw)
        )
    if not entries:
        _fail(path, "tensors", "There are no sums in it: no importance matrix")
    datasets = tuple(str(name) for name in header.metadata[keys[0]])
    return Imatrix(path, sha256_of(Path(path)), entries, datasets, header.metadata[keys[1]])


def _legacy(path: str) -> Imatrix:
    size = os.path.getsize(path)
    entries: dict[str, Entry] = {}
    with open(path, "rb") as file:
        count = _number(file, path, "number of entries")
        if not 1 <= count <= size // 13:
            _fail(path, "number of entries", f"It is {count}: no importance matrix")
        for index in range(count):
            name = _text(file, path, f"name of entry {index}")
            calls = _number(file, path, f"calls of {name!r}")
            length = _number(file, path, f"length of {name!r}")
            if length < 1 or file.tell() + 4 * length > size:
                _fail(path, f"length of {name!r}", f"It is {length}, more than the file holds")
            entries[name] = Entry(file.tell(), length, (calls if calls > 0 else 1,))
            file.seek(4 * length, os.SEEK_CUR)
        chunks, datasets = 0, tuple[str, ...]()
        if file.tell() < size:
            chunks = _number(file, path, "number of chunks")
            if file.tell() < size:
                datasets = (_text(file, path, "name of the calibration text"),)
    return Imatrix(path, sha256_of(Path(path)), entries, datasets, max(chunks, 0))


def _number(file: BinaryIO, path: str, field: str) -> int:
    raw = file.read(4)
    if len(raw) < 4:
        _fail(path, field, "The file ends before it")
    return int(struct.unpack("<i", raw)[0])


def _text(file: BinaryIO, path: str, field: str) -> str:
    length = _number(file, path, field)
    raw: Any = file.read(length) if 0 <= length <= _MAX_NAME else b""
    if len(raw) != length:
        _fail(path, field, f"Its length is given as {length}")
    return str(raw.decode(errors="replace"))


def _fail(path: str, field: str, why: str) -> NoReturn:
    error: SnuglyError = BadModelFile(
        f"{os.path.basename(path)} is not a usable importance matrix: {field}.",
        f"{why} ({path}).",
        "Make it again with llama-imatrix, or leave --imatrix out.",
    )
    raise error
