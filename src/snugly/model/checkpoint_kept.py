"""Checkpoints that were fetched for quantizing: which are here, and removing one.

They lie in the cache, by commit (see `checkpoint_fetch`), and are no models that run: a name
that installed models answer to is theirs first.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import UserError
from snugly.model import download
from snugly.model.names import unsafe_because
from snugly.model.store import Store

FOLDER = "checkpoints"  # in the cache
_PART = re.compile(r"\.(.+)\.part(\.json)?")  # see `download.part_of` and `state_of`


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint of the hub, whole or in part."""

    ref: str  # publisher/model@commit, as it can be given to `snugly quantize` and `snugly rm`
    path: Path
    n_bytes: int
    unfinished: bool  # a file of it is not here whole


def kept_checkpoints(cache: Path) -> tuple[Kept, ...]:
    """What lies in the cache, by name."""
    root = cache / FOLDER
    found = []
    for folder in _folders(root):
        files = _files(folder)
        sizes = [_size(file) for file in files]
        unfinished = any(_PART.fullmatch(file.name) for file in files)
        publisher, model, commit = folder.relative_to(root).parts
        found.append(Kept(f"{publisher}/{model}@{commit}", folder, sum(sizes), unfinished))
    return tuple(sorted(found, key=lambda item: item.ref.casefold()))


def named(text: str, kept: Sequence[Kept]) -> Kept | None:
    """The checkpoint that a person names, with its commit or without. Pure.

    Raises: UserError when several commits of it are here.
    """
    wanted = text.removeprefix("hf:").casefold()
    fitting = [item for item in kept if item.ref.casefold() == wanted]
    fitting = fitting or [item for item in kept if item.ref.casefold().split("@")[0] == wanted]
    if len(fitting) > 1:
        raise UserError(
            f"{text} is here {len(fitting)} times.",
            f"There are {', '.join(item.ref for item in fitting)}.",
            "Name one of them.",
        )
    return fitting[0] if fitting else None


def remove(item: Kept, cache: Path) -> int:
    """Delete a checkpoint and return the bytes that became free.

    Raises: UserError while one of its files is being fetched, or when one cannot be deleted.
    """
    root = cache / FOLDER
    freed = 0
    try:
        for file in sorted(_files(item.path)):
            part = _PART.fullmatch(file.name)
            target = file.with_name(part[1]) if part else file  # has the lock of both
            with download.only_one(root, target, wait=False):
                size = _size(file)
                file.unlink(missing_ok=True)
                freed += size
    except OSError as error:
        raise UserError(
            f"{item.ref} cannot be removed.",
            f"{error.strerror or error} ({error.filename or item.path}).",
            "Delete the folder yourself.",
        ) from error
    Store(root).prune(item.path)
    return freed


def _folders(root: Path) -> Iterator[Path]:
    """The folders publisher/model/commit below `root`; links and hidden ones are not ours."""
    level = [root]
    for _ in range(3):
        level = [Path(entry.path) for folder in level for entry in _entries(folder)]
    yield from level


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        found = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [entry for entry in found if entry.name[0] != "." and not unsafe_because(entry.name)]


def _files(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)
                if not entry.is_dir(follow_symlinks=False)]  # fmt: skip
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0
