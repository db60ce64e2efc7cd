"""What a store holds, read from the disk: models that can be run, and what cannot and why."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from snugly.model import sidecar
from snugly.model.names import is_runnable, part_names, split_of, unsafe_because
from snugly.model.types import Installed, Provenance
from snugly.units import format_bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the store that cannot be used, and what to do about it."""

    ref: str
    problem: str
    remedy: str
    partial: bool = False  # a download that would resume


def survey(root: Path) -> tuple[tuple[Installed, ...], tuple[Problem, ...]]:
    """Models and problems below `root`, each by name. One walk over the folders."""
    found: list[Installed] = []
    problems: list[Problem] = []
    for entry in _entries(root):
        if isinstance(entry, Installed):
            found.append(entry)
        else:
            problems.append(entry)
    found.sort(key=lambda item: item.ref.lower())
    problems.sort(key=lambda item: item.ref.lower())
    return tuple(found), tuple(problems)


def _entries(root: Path) -> Iterator[Installed | Problem]:
    for folder in _model_folders(root):
        try:
            names = sorted(item.name for item in os.scandir(folder))
        except OSError:
            continue  # removed by another process while we looked
        for name in names:
            entry = _entry(folder, name, frozenset(names))
            if entry is not None:
                yield entry


def _model_folders(root: Path) -> Iterator[Path]:
    for publisher in _subfolders(root):
        yield from _subfolders(publisher)


def _entry(folder: Path, name: str, names: frozenset[str]) -> Installed | Problem | None:
    ref = f"{folder.parent.name}/{folder.name}/{name}"
    if any(unsafe_because(part.lstrip(".")) for part in ref.split("/")):
        # Put there by hand. It could not be typed, and may not even be printed.
        shown = ascii(ref)[1:-1]
        return Problem(shown, "Its name or its folder's has odd characters.", "Rename it.")
    if name.startswith("."):
        return _unfinished(folder, name)
    if name.endswith(".gguf.json"):
        if name.removesuffix(".json") in names:
            return None  # met beside its file
        return _adopted(ref.removesuffix(".json"), folder / name)
    if not is_runnable(name):
        return None
    parts = part_names(name)
    if name != parts[0]:
        return None if parts[0] in names else _incomplete(ref, parts, names)
    if not set(parts) <= names:
        return _incomplete(ref, parts, names)
    return _whole(ref, [folder / part for part in parts])


def _whole(ref: str, paths: list[Path]) -> Installed | Problem | None:
    total, first = 0, None
    for path in paths:
        recorded = sidecar.read(sidecar.beside(path))
        known = recorded.provenance if recorded else unrecorded(path)
        try:
            size = path.stat().st_size
        except OSError:
            return None
        if size != known.n_bytes:
            return Problem(
                ref,
                f"{path.name} has {size} bytes, not {known.n_bytes}.",
                f"`snugly pull {ref}` fetches it again."
                if known.source in ("hub", "pypi")
                else f"`snugly rm {ref}` removes it.",
            )
        total += size
        first = first or known
    assert first is not None  # part_names never returns nothing
    provenance = replace(first, n_bytes=total)
    return Installed(ref, str(paths[0]), tuple(map(str, paths)), provenance, adopted=False)


def _incomplete(ref: str, parts: tuple[str, ...], names: frozenset[str]) -> Problem | None:
    present = [part for part in parts if part in names]
    split = split_of(parts[0])
    if split is None or ref.rpartition("/")[2] != present[0]:
        return None  # said once, for the first part that is there
    return Problem(
        ref,
        f"{len(present)} of its {split[2]} parts are here.",
        f"`snugly pull {ref}` fetches the rest.",
    )


def _adopted(ref: str, path: Path) -> Installed | Problem | None:
    recorded = sidecar.read(path)
    if recorded is None:
        return Problem(ref, f"{path} cannot be read.", f"`snugly rm {ref}` removes the entry.")
    if not recorded.parts:
        return None  # written just before its file, by a pull that was cut between the two
    gone = [part for part in recorded.parts if not os.path.isfile(part)]
    if gone:
        return Problem(
            ref,
            f"{gone[0]} is gone ({recorded.provenance.source} has removed or moved it).",
            f"`snugly rm {ref}` removes the entry, `snugly adopt` looks again.",
        )
    return Installed(ref, recorded.parts[0], recorded.parts, recorded.provenance, adopted=True)


def _unfinished(folder: Path, name: str) -> Problem | None:
    if not (name.endswith(".part") and name.startswith(".")):
        return None
    try:
        done = (folder / name).stat().st_size
    except OSError:
        return None
    target = name[1:].removesuffix(".part")
    ref = f"{folder.parent.name}/{folder.name}/{target}"
    return Problem(
        ref,
        f"Only {format_bytes(done)} of it are here: its download is not finished.",
        f"Pulling it again resumes, `snugly rm {ref}` drops what is here.",
        partial=True,
    )


def _subfolders(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir():
            yield Path(entry.path)


def unrecorded(path: Path) -> Provenance:
    """Of a file that somebody copied into the store by hand."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return Provenance("local", str(path), "", "", size, "")
