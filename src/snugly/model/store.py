"""The folder that models live in, readable by a person.

    <root>/publisher/model/file.gguf        the weights
    <root>/publisher/model/file.gguf.json   where they came from (Provenance)
    <root>/publisher/model/.file.gguf.part  a download that is not finished (see download.py)
    <root>/.locks/                          one lock per file that is being fetched

An adopted model is the JSON alone, with the paths of the files that another program owns.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from snugly.errors import UserError
from snugly.model import sidecar
from snugly.model.names import is_runnable, part_names, split_of, unsafe_because
from snugly.model.types import Installed, Provenance
from snugly.units import format_bytes

HASH_CHUNK = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the store that cannot be used, and what to do about it."""

    ref: str
    problem: str
    remedy: str
    partial: bool = False  # a download that would resume


@dataclass(frozen=True, slots=True)
class Checked:
    """What re-hashing one model found. `problem` is empty when all is well."""

    ref: str
    n_bytes: int
    problem: str
    recorded: bool  # False: no checksum was known, so nothing could be compared


@dataclass(frozen=True, slots=True)
class Store:
    """The models under one folder. Holds no state: every answer is read from the disk."""

    root: Path

    def installed(self) -> tuple[Installed, ...]:
        """Everything that can be run now, by name."""
        return self.survey()[0]

    def find(self, text: str, *, whole_name: bool = False) -> Installed:
        """The installed model that `text` names; a path is used in place (see lookup.py).

        With `whole_name` the beginning of a name is not enough: for what cannot be undone.

        Raises: UnknownModel with near names, UserError when several fit.
        """
        from snugly.model import lookup

        return lookup.find(text, self, whole_name=whole_name)

    def problems(self) -> tuple[Problem, ...]:
        """What is in the store but cannot be used: dangling, incomplete or unfinished."""
        return self.survey()[1]

    def survey(self) -> tuple[tuple[Installed, ...], tuple[Problem, ...]]:
        """`installed()` and `problems()` in one walk."""
        found: list[Installed] = []
        problems: list[Problem] = []
        for entry in self._entries():
            (found if isinstance(entry, Installed) else problems).append(entry)  # type: ignore[arg-type]
        key = lambda item: item.ref.lower()  # noqa: E731
        return tuple(sorted(found, key=key)), tuple(sorted(problems, key=key))

    def folder(self, publisher: str, model: str) -> Path:
        """Where the files of `publisher/model` belong.

        Raises: UserError when a name would leave the store or cannot be a name.
        """
        for name in (publisher, model):
            _demand_safe(name)
        folder = self.root / publisher / model
        # A folder of the store that is a link would put bytes somewhere else.
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise UserError(
                f"{publisher}/{model} leads out of the store.",
                f"{folder} is a link to {folder.resolve()}.",
                "Remove the link.",
            )
        return folder

    def place(self, publisher: str, model: str, file: str) -> Path:
        """Where one file belongs. Raises: UserError as `folder` does."""
        _demand_safe(file)
        return self.folder(publisher, model) / file

    def provenance(self, installed: Installed, part: str) -> Provenance:
        """What is recorded of one part of an installed model."""
        if installed.adopted or len(installed.parts) == 1:
            return installed.provenance
        recorded = sidecar.read(sidecar.beside(Path(part)))
        return recorded.provenance if recorded else _unrecorded(Path(part))

    def verify(
        self, installed: Installed, advance: Callable[[int], None] = lambda _: None
    ) -> Checked:
        """Read every byte again and compare. `advance` gets the bytes read since last time."""
        total, recorded = 0, True
        for part in installed.parts:
            known = self.provenance(installed, part)
            try:
                size = os.stat(part).st_size
                digest = sha256_of(Path(part), advance)
            except OSError as error:
                reason = f"{Path(part).name} cannot be read: {error.strerror}"
                return Checked(installed.ref, total, reason, recorded)
            total += size
            recorded = recorded and bool(known.sha256)
            if known.sha256 and digest != known.sha256:
                reason = f"{Path(part).name} has changed: SHA-256 {digest}, not {known.sha256}"
                return Checked(installed.ref, total, reason, recorded)
        return Checked(installed.ref, total, "", recorded)

    def remove(self, installed: Installed) -> int:
        """Delete a model and return the bytes that became free.

        Of an adopted model only our entry goes; the file belongs to another program.
        """
        freed = 0
        if installed.adopted:
            sidecar.beside(self.root / installed.ref).unlink(missing_ok=True)
        else:
            for part in map(Path, installed.parts):
                # The weights go first: a crash in between leaves a JSON that names nothing.
                freed += part.stat().st_size if part.stat().st_nlink == 1 else 0
                part.unlink(missing_ok=True)
                sidecar.beside(part).unlink(missing_ok=True)
        self.prune((self.root / installed.ref).parent)
        return freed

    def unfinished(self) -> tuple[Problem, ...]:
        """Downloads that were interrupted and would resume."""
        return tuple(problem for problem in self.problems() if problem.partial)

    def discard(self, problem: Problem) -> int:
        """Delete what is left of a download, or a JSON that points to nothing.

        Returns the bytes that became free. Raises: UserError while it is being fetched.
        """
        from snugly.model import download

        path = self.root / problem.ref
        freed = 0
        if problem.partial:
            with download.only_one(self.root, path, wait=False):
                freed = download.discard(path)
        else:
            sidecar.beside(path).unlink(missing_ok=True)
        self.prune(path.parent)
        return freed

    def prune(self, folder: Path) -> None:
        """Remove `folder` and its parents below the root when they are empty."""
        while folder != self.root and self.root in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _entries(self) -> Iterator[Installed | Problem]:
        for folder in self._model_folders():
            try:
                names = sorted(item.name for item in os.scandir(folder))
            except OSError:
                continue  # removed by another process while we looked
            for name in names:
                entry = self._entry(folder, name, frozenset(names))
                if entry is not None:
                    yield entry

    def _model_folders(self) -> Iterator[Path]:
        for publisher in _subfolders(self.root):
            yield from _subfolders(publisher)

    def _entry(self, folder: Path, name: str, names: frozenset[str]) -> Installed | Problem | None:
        ref = f"{folder.parent.name}/{folder.name}/{name}"
        if name.startswith("."):
            return self._unfinished(folder, name)
        if name.endswith(".gguf.json"):
            if name.removesuffix(".json") in names:
                return None  # met beside its file
            return self._adopted(ref.removesuffix(".json"), folder / name)
        if not is_runnable(name):
            return None
        parts = part_names(name)
        if name != parts[0]:
            return None if parts[0] in names else self._incomplete(ref, parts, names)
        if not set(parts) <= names:
            return self._incomplete(ref, parts, names)
        return self._whole(ref, [folder / part for part in parts])

    def _whole(self, ref: str, paths: list[Path]) -> Installed | Problem | None:
        total, first = 0, None
        for path in paths:
            recorded = sidecar.read(sidecar.beside(path))
            known = recorded.provenance if recorded else _unrecorded(path)
            try:
                size = path.stat().st_size
            except OSError:
                return None
            if size != known.n_bytes:
                return Problem(
                    ref,
                    f"{path.name} has {size} bytes, not {known.n_bytes}.",
                    f"`snugly pull {ref}` fetches it again.",
                )
            total += size
            first = first or known
        assert first is not None  # part_names never returns nothing
        provenance = replace(first, n_bytes=total)
        return Installed(ref, str(paths[0]), tuple(map(str, paths)), provenance, adopted=False)

    def _incomplete(
        self, ref: str, parts: tuple[str, ...], names: frozenset[str]
    ) -> Problem | None:
        present = [part for part in parts if part in names]
        split = split_of(parts[0])
        if split is None or ref.rpartition("/")[2] != present[0]:
            return None  # said once, for the first part that is there
        return Problem(
            ref,
            f"{len(present)} of its {split[2]} parts are here.",
            f"`snugly pull {ref}` fetches the rest.",
        )

    def _adopted(self, ref: str, path: Path) -> Installed | Problem | None:
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

    def _unfinished(self, folder: Path, name: str) -> Problem | None:
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
            f"Only {format_bytes(done)} of it are here: a download was interrupted.",
            f"Pulling it again resumes, `snugly rm {ref}` drops what is here.",
            partial=True,
        )


def _demand_safe(name: str) -> None:
    reason = unsafe_because(name)
    if reason:
        raise UserError(
            f"{name!r} cannot be a name in the store.",
            f"{reason[0].upper()}{reason[1:]}.",
            "Use letters, digits, dots, dashes and underscores.",
        )


def _subfolders(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir():
            yield Path(entry.path)


def _unrecorded(path: Path) -> Provenance:
    """Of a file that somebody copied into the store by hand."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return Provenance("local", str(path), "", "", size, "")


def sha256_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file, in hex. Raises: OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
