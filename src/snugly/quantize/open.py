"""What a person names, opened for quantizing: a GGUF, an installed model, a checkpoint."""

import re
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import UnknownModel
from snugly.model.lookup import find
from snugly.model.names import quantization_of, split_of
from snugly.model.store import Store
from snugly.quantize.convert_hf import is_checkpoint, read_checkpoint
from snugly.quantize.reader import Source, read_gguf
from snugly.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, and what its results are called: a file name without type and ending."""

    source: Source
    name: str


def open_source(text: str, settings: Settings) -> Opened:
    """The model that `text` names.

    Raises: UserError, UnknownModel, BadModelFile.
    """
    path = Path(text).expanduser()
    if path.is_dir() and is_checkpoint(path):
        return Opened(read_checkpoint(path), stem_of(path.resolve().name))
    if path.is_file():
        return Opened(read_gguf(path), stem_of(path.name))
    installed = find(Store(settings.store), text)
    if not installed.path:
        raise UnknownModel(f"{text} has no file.")
    name = stem_of(installed.ref.rsplit("/", 1)[-1])
    return Opened(read_gguf(installed.path), name)


def stem_of(file: str) -> str:
    """A file's name without ending, part and quantization: "qwen-7b" of "qwen-7b-F16.gguf"."""
    split = split_of(file)
    name = split[0] if split else file
    if name.lower().endswith(".gguf"):
        name = name[: -len(".gguf")]
    match = re.fullmatch(r"(.+)[-.]([^-.]+)", name)
    return match[1] if match and quantization_of(match[2]) else name or "model"
