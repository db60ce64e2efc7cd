"""What can be known of a model that is not here; `model.remote` has the functions."""

from dataclasses import dataclass, field
from typing import Any

from snugly.model.safetensors import Checkpoint
from snugly.model.types import ModelSpec


@dataclass(frozen=True, slots=True)
class Place:
    """One file behind a URL. What is not known of it before the first answer is None or empty."""

    label: str  # its name, for messages and for the spec's path
    url: str
    n_bytes: int | None = None
    pinned: str = ""  # names these very bytes (SHA-256, commit, ETag); empty: not known
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # may hold a token
    page: str = ""  # where a person can read about the file


@dataclass(frozen=True, slots=True)
class Distant:
    """A model that is not here, read from its headers.

    `is_file`: it is a GGUF file that would be fetched as it is. Otherwise the spec was made of a
    config.json and safetensors, in F16, and any quantization of it may be planned.
    """

    ref: str  # names exactly this model, also for `snugly pull` where `is_file`
    spec: ModelSpec
    remarks: tuple[str, ...]  # what had to be assumed or was noticed, in sentences
    is_file: bool
    read_bytes: int  # that came over the network; 0 when all of it was kept from before
    asked_type: str = ""  # a quantization that the reference names and nobody has made yet


@dataclass(frozen=True, slots=True)
class Variant:
    """One form in which a repository has a model, or in which it could be made.

    A GGUF file has `places` and its header is read by `remote.spec_of_variant`; what would be
    made of safetensors has its spec at once.
    """

    ref: str
    type_name: str  # "Q4_K_M", ...; empty when the file's name does not say
    file_bytes: int
    places: tuple[Place, ...] = ()
    spec: ModelSpec | None = None


@dataclass(frozen=True, slots=True)
class DistantCheckpoint:
    """A model as transformers keeps it: its config.json, and what its safetensors hold."""

    name: str
    config: dict[str, Any]
    stored: Checkpoint | None  # None when it has no safetensors
    remarks: tuple[str, ...]
    read_bytes: int
