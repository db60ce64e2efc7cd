"""The folder that models live in, readable by a person.

    <root>/publisher/model/file.gguf        the weights
    <root>/publisher/model/file.gguf.json   where they came from (Provenance)
    <root>/publisher/model/.file.gguf.part  a download that is not finished (see download.py)
    <root>/.locks/                          one lock per file that is being fetched

An adopted model is the JSON alone, with the paths of the files that another program owns.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snugly.errors import UserError
from snugly.model import inventory, sidecar
from snugly.model.hashing import sha256_of
from snugly.model.inventory import Problem
from snugly.model.names import unsafe_because
from snugly.model.types import Installed, Provenance


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

    def problems(self) -> tuple[Problem, ...]:
        """What is in the store but cannot be used: dangling, incomplete or unfinished."""
        return self.survey()[1]

    def survey(self) -> tuple[tuple[Installed, ...], tuple[Problem, ...]]:
        """`installed()` and `problems()` in one walk."""
        return inventory.survey(self.root)

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
        return recorded.provenance if recorded else inventory.unrecorded(Path(part))

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

        Raises: UserError for a file outside the store.
        """
        freed = 0
        if os.path.isabs(installed.ref):  # used in place: the store knows nothing of it
            raise UserError(
                f"{installed.ref} is not in the store.",
                "Snugly removes only what it fetched or adopted.",
                "Delete the file yourself.",
            )
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


def _demand_safe(name: str) -> None:
    reason = unsafe_because(name)
    if reason:
        raise UserError(
            f"{name!r} cannot be a name in the store.",
            f"{reason[0].upper()}{reason[1:]}.",
            "Use letters, digits, dots, dashes and underscores.",
        )
