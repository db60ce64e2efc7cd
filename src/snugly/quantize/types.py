"""The nouns of quantizing: what is wanted, one piece of work, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snugly.model.types import Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which type each tensor is to get.

    `to` is a name of llama.cpp's ("Q4_K_M", "IQ3_XXS", "F16", a publisher's "Q4_K_L").
    `patterns` are regular expressions with a type each, as of `llama-quantize
    --tensor-type`: the first that is found in a tensor's name decides, and what llama.cpp
    never quantizes stays as it is. `exact` gives single tensors by name their type and
    wins over everything; it may name any tensor.
    """

    to: str
    patterns: tuple[tuple[str, str], ...] = ()
    exact: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of a tensor that lie together in a file."""

    path: str
    offset: int  # bytes from the start of the file
    rows: int


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor to read. `tensor` has the name and shape that it will have.

    Its type is the one that it keeps where nothing is quantized; what the file holds may be
    another: `kind`. The two differ for checkpoints, whose vectors become F32.
    `interleave` > 0: each run of so many rows (a head) holds two halves that belong
    alternately; see `convert_families`. `add` is added to every weight (Gemma's norms).
    `literal`: the bytes themselves, of a vector that was computed and lies in no file.
    """

    tensor: Tensor
    segments: tuple[Segment, ...]
    kind: str
    interleave: int = 0
    add: float = 0.0
    literal: bytes = b""


@dataclass(frozen=True, slots=True)
class Job:
    """Some whole rows of one tensor: read, converted, written. Offsets are in bytes."""

    name: str  # of the tensor
    path: str  # read from
    offset: int
    rows: int
    row: int  # weights per row
    kind: str  # type read
    to: str  # type written
    target: int  # offset in the file that is written
    matrix: int = -1  # which slice of the importance matrix belongs to the rows; -1: none
    interleave: int = 0
    add: float = 0.0


@dataclass(frozen=True, slots=True)
class Quantized:
    """A finished file."""

    path: Path
    tensors: tuple[Tensor, ...]
    n_bytes: int
    seconds: float
    remarks: tuple[str, ...]

    @property
    def bits_per_weight(self) -> float:
        """Of the tensors, scales included."""
        weights = sum(tensor.n_elements for tensor in self.tensors)
        return 8 * sum(tensor.n_bytes for tensor in self.tensors) / weights if weights else 0.0
