"""What matters in a model, kept in one file: an importance matrix and what each type would cost.

The file is a GGUF that llama-quantize takes as an importance matrix too; beside the sums of
each tensor it has the expected loss in every type that was tried.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snugly.errors import BadModelFile
from snugly.model.gguf import read_header
from snugly.model.types import Tensor
from snugly.quantize import writer
from snugly.quantize.reader import Source

VERSION = 2
_ERRORS = ".kld"
_TYPES, _VERSION, _MODEL, _TEXT = (
    f"snugly.sensitivity.{key}" for key in ("types", "version", "model", "text_sha256")
)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A file of sensitivities. `path` is an importance matrix too."""

    path: str
    errors: Mapping[str, Mapping[str, float]]  # tensor -> type -> expected KLD, nats per token
    text_sha256: str
    model: str  # which weights it belongs to, see `identity`


def identity(source: Source) -> str:
    """A short text that differs for other weights: of names, shapes, places, sizes and times."""
    digest = hashlib.sha256()
    for item in source.tensors:
        digest.update(f"{item.tensor.name} {item.tensor.shape} {item.kind}\n".encode())
    for path in source.paths:
        found = os.stat(path)
        digest.update(f"{Path(path).name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def write_sensitivity(
    path: Path,
    source: Source,
    costs: Mapping[str, tuple[NDArray[np.float32], Mapping[str, float]]],
    text_name: str,
    text_sha256: str,
    chunks: int,
    places: int,
) -> None:
    """Keep (mean squares of columns, losses) of each tensor; `chunks` texts of `places` tokens.

    Raises: UserError when the disk is full.
    """
    types = sorted({kind for _, errors in costs.values() for kind in errors})
    tensors: list[Tensor] = []
    data = bytearray()

    def add(name: str, values: NDArray[np.float32]) -> None:
        data.extend(bytes(-len(data) % writer.ALIGNMENT))
        raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
        tensors.append(Tensor(name, (len(values), 1), "F32", len(data), len(raw)))
        data.extend(raw)

    count = np.float32(chunks * places)
    for name, (inputs, errors) in costs.items():
        add(f"{name}.in_sum2", inputs * count)
        add(f"{name}.counts", np.array([count], dtype=np.float32))
        add(name + _ERRORS, np.array([errors.get(kind, np.nan) for kind in types], np.float32))
    pairs = {
        "general.type": writer.pair("STRING", "imatrix"),
        "imatrix.datasets": writer.pair("STRING", [text_name]),
        "imatrix.chunk_count": writer.pair("UINT32", chunks),
        "imatrix.chunk_size": writer.pair("UINT32", places),
        _VERSION: writer.pair("UINT32", VERSION),
        _TYPES: writer.pair("STRING", types),
        _MODEL: writer.pair("STRING", identity(source)),
        _TEXT: writer.pair("STRING", text_sha256),
    }
    # llama.cpp reads whole units: the last tensor is padded too.
    whole = writer.header(pairs, tensors) + data + bytes(-len(data) % writer.ALIGNMENT)
    with writer.said(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with open(handle, "wb") as file:
                file.write(whole)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise


def read_sensitivity(path: str | os.PathLike[str]) -> Sensitivity:
    """A kept file.

    Raises: BadModelFile when it is another file, damaged or of another version.
    """
    where = os.fspath(path)
    header = read_header(where, frozenset({_TYPES, _VERSION, _MODEL, _TEXT}))
    if header.metadata.get(_VERSION) != VERSION:
        raise BadModelFile(
            f"{os.path.basename(where)} is no file of sensitivities that this Snugly reads.",
            f"Its version is {header.metadata.get(_VERSION)}, not {VERSION} ({where}).",
            "Remove it: it is made anew.",
        )
    types = [str(kind) for kind in header.metadata[_TYPES]]
    errors: dict[str, dict[str, float]] = {}
    with open(where, "rb") as file:
        for tensor in header.tensors:
            if tensor.name.endswith(_ERRORS):
                file.seek(header.data_offset + tensor.offset)
                values = np.fromfile(file, dtype="<f4", count=len(types))
                errors[tensor.name.removesuffix(_ERRORS)] = {
                    kind: float(value)
                    for kind, value in zip(types, values, strict=True)
                    if np.isfinite(value)
                }
    return Sensitivity(where, errors, str(header.metadata[_TEXT]), str(header.metadata[_MODEL]))
