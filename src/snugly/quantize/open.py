"""What a person names, opened for quantizing: a GGUF, an installed model, a checkpoint."""

import re
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import UnknownModel
from snugly.model.checkpoint_fetch import fetch_checkpoint
from snugly.model.lookup import find
from snugly.model.names import quantization_of, split_of
from snugly.model.progress import Progress
from snugly.model.refs import RefKind, parse
from snugly.model.store import Store
from snugly.quantize.convert_hf import is_checkpoint, read_checkpoint
from snugly.quantize.reader import Source, read_gguf
from snugly.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, and what its results are called: a file name without type and ending."""

    source: Source
    name: str


def open_source(text: str, settings: Settings, progress: Progress | None = None) -> Opened:
    """The model that `text` names; see `locate`.

    Raises: UserError, UnknownModel, BadModelFile, DownloadError.
    """
    path, name = locate(text, settings, progress)
    return Opened(read_checkpoint(path) if path.is_dir() else read_gguf(path), name)


def locate(text: str, settings: Settings, progress: Progress | None = None) -> tuple[Path, str]:
    """Where the model lies that `text` names, and what its results are called.

    A folder with a checkpoint or a GGUF file; an installed model; or a checkpoint of the hub
    (`publisher/model`; with `hf:` before it even if GGUFs of it are installed), which is fetched.

    Raises: UserError, UnknownModel, BadModelFile, DownloadError.
    """
    path = Path(text).expanduser()
    if path.is_dir() and is_checkpoint(path):
        return path, stem_of(path.resolve().name)
    if path.is_file():
        return path, stem_of(path.name)
    ref = parse(text)
    hub = ref.kind is RefKind.HUB and not ref.file and not ref.tag
    if hub and text.lower().startswith("hf:"):
        return fetch_checkpoint(ref, settings, progress), ref.model
    try:
        # A checkpoint's name is part of the names of its GGUF repositories.
        installed = find(Store(settings.store), text, whole_name=hub)
    except UnknownModel:
        if not hub:
            raise
        return fetch_checkpoint(ref, settings, progress), ref.model
    if not installed.path:
        raise UnknownModel(f"{text} has no file.")
    return Path(installed.path), stem_of(installed.ref.rsplit("/", 1)[-1])


def stem_of(file: str) -> str:
    """A file's name without ending, part and quantization: "qwen-7b" of "qwen-7b-F16.gguf"."""
    split = split_of(file)
    name = split[0] if split else file
    if name.lower().endswith(".gguf"):
        name = name[: -len(".gguf")]
    match = re.fullmatch(r"(.+)[-.]([^-.]+)", name)
    return match[1] if match and quantization_of(match[2]) else name or "model"
