"""Which models clients may name: the installed ones, and files the operator gave. No paths."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from snugly.engine.launch import Sampling, advised, prepare
from snugly.errors import UnknownModel
from snugly.model.lookup import match, short_name
from snugly.model.projectors import projector_of
from snugly.model.refs import Ref, RefKind, parse
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import Installed, ModelSpec

_FRESH_SECONDS = 2.0  # how long a look at the disk counts


@dataclass(frozen=True, slots=True)
class Volume:
    """A model as clients see it."""

    name: str
    installed: Installed
    spec: ModelSpec
    sampling: Sampling
    projector: str  # path of the file that turns pictures into embeddings; empty: it is blind


class Shelf:
    """The models by name. Everything blocks: call it in a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._given: dict[str, Installed] = {}
        self._specs: dict[str, tuple[int, ModelSpec]] = {}  # with the time it was written
        self._projectors: dict[str, tuple[int, str]] = {}  # with the time its folder changed
        self._looked = -1e9
        self._installed: tuple[Installed, ...] = ()
        self._known: dict[str, Volume] = {}

    def give(self, installed: Installed) -> str:
        """Let clients use a file that the operator named; by its file name."""
        name = os.path.basename(installed.path)
        self._given[name] = installed
        self._known.clear()
        return name

    def fresh(self, name: str) -> Volume | None:
        """The model of that name if it was looked up a moment ago; never blocks."""
        if time.monotonic() - self._looked < _FRESH_SECONDS:
            return self._known.get(name)
        return None

    def find(self, name: str) -> Volume:
        """The model that a client calls `name`.

        Raises: UnknownModel; UserError for a name that can mean several; BadModelFile.
        """
        installed = self._look()
        found = self._given.get(name)
        if found is None:
            ref = parse(name)
            if ref.kind is RefKind.PATH:
                raise UnknownModel(
                    f"There is no model called {name[:200]!r}.",
                    "Files cannot be named from outside.",
                )
            found = self._matched(ref, installed)
        volume = self._volume(found)
        self._known[name] = volume
        return volume

    def _matched(self, ref: Ref, installed: tuple[Installed, ...]) -> Installed:
        """What is meant; `smollm2:latest`, as Ollama's clients say it, is `smollm2`."""
        try:
            return match(ref, installed)
        except UnknownModel:
            short = ref.text.removesuffix(":latest")
            if short == ref.text:
                raise
            return self._given.get(short) or match(parse(short), installed)

    def all(self) -> tuple[Volume, ...]:
        """Every model that can be read, by name."""
        found = []
        for installed in (*self._look(), *self._given.values()):
            try:
                found.append(self._volume(installed))
            except Exception:  # noqa: BLE001 - one bad file must not hide the others
                continue
        return tuple(found)

    def default(self) -> Volume:
        """The best installed model for this machine.

        Raises: UnknownModel when nothing is installed.
        """
        if not self._look():
            raise UnknownModel(
                "The request names no model, and none is installed.",
                remedy="`snugly pull smollm2` fetches a small one.",
            )
        return self._volume(prepare(None).installed)

    def forget(self) -> None:
        """Look at the disk again with the next question."""
        self._looked = -1e9

    def _look(self) -> tuple[Installed, ...]:
        now = time.monotonic()
        if now - self._looked >= _FRESH_SECONDS:
            self._installed = self._store.installed()
            self._looked = now
            self._known.clear()
        return self._installed

    def _volume(self, installed: Installed) -> Volume:
        spec = self._spec(installed.path)
        given = installed.ref not in {item.ref for item in self._installed}
        name = os.path.basename(installed.path) if given else short_name(installed, self._installed)
        return Volume(name, installed, spec, advised(installed), self._projector(spec))

    def _projector(self, spec: ModelSpec) -> str:
        """Looked for anew when its folder changed: the headers of all files in it are read."""
        changed = Path(spec.path).parent.stat().st_mtime_ns
        known = self._projectors.get(spec.path)
        if known is None or known[0] != changed:
            found = projector_of(spec.path, spec.embedding_length)
            known = self._projectors[spec.path] = (changed, found)
        return known[1]

    def _spec(self, path: str) -> ModelSpec:
        try:
            written = Path(path).stat().st_mtime_ns
        except OSError:
            raise UnknownModel(f"{path} is gone.", "Somebody removed the file.") from None
        known = self._specs.get(path)
        if known is None or known[0] != written:
            known = self._specs[path] = (written, read_spec(path))
        return known[1]
