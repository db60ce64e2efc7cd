"""Saved states of prompts on the disk: private, bounded, checked before they are used.

    prefixes/                 0700
      landing/                where engines write and read, by names that are used once
      HOLDER/                 0700, one for each holder of a key
        ID.kv                 0600, the engine's own file; its time is when it was last used
        ID.json               0600, what it is; there only once the state is whole

Several processes share the folder. A file that goes while it is restored is still there for
the one who restores it.
"""

import hashlib
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snugly.engine.prefix import Trail
from snugly.engine.prefix_entry import Entry, entry_of, replaces, told_of
from snugly.model import sidecar
from snugly.model.download import DISK_MARGIN_BYTES

_CHUNK = 1 << 20
_READ = 1000  # descriptions that are remembered at most, of some kB each
_TICK_NS = 20_000_000  # file times are those of the kernel's ticks: 4 to 10 ms on Linux
_HOLDERS = 100  # whose folders are remembered at most
_KEPT_SECONDS = 30 * 86400  # since it was last used; as long as responses are kept (serve.md)
_STALE_SECONDS = 3600  # after which a file that nobody finished belongs to nobody


class PrefixStore:
    """The folder of saved states, with at most `most_bytes` in it.

    Everything here touches the disk: call it outside the event loop. Raises OSError where the
    disk does; what cannot be read counts as not there.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        # What descriptions say, by their paths, with their times; without a path of its own,
        # which would be as much again.
        self._read: dict[str, tuple[int, Entry]] = {}
        self._seen: dict[Path, tuple[int, dict[str, list[Entry]]]] = {}  # by folder, as it was then

    @property
    def landing(self) -> Path:
        """The folder that engines are given."""
        return self.folder / "landing"

    def open(self) -> None:
        """Make the folders, and clear away what nobody finished."""
        for folder in (self.folder, self.landing):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.name == "posix":
                folder.chmod(0o700)
        for path in self.landing.iterdir():
            _drop_stale(path)

    # ---- finding

    def entries(self, holder: str | None = None) -> tuple[Entry, ...]:
        """All that is saved, of one holder or of all, the latest used first."""
        names = self._folders() if holder is None else [self._of(holder)]
        found = [entry for folder in names for entry in self._in(folder)]
        return tuple(sorted(found, key=lambda entry: -entry.used))

    def find(
        self, key: str, holder: str, words: bytes, trail: Trail, partly: bool = False
    ) -> tuple[Entry, int] | None:
        """The state that serves a prompt best, and how many of its tokens do."""
        fit = self._by_key(self._of(holder)).get(key, ())
        serving = [(entry, entry.would_serve(holder, words, trail, partly)) for entry in fit]
        best = max(serving, key=lambda pair: pair[1], default=None)
        return best if best is not None and best[1] > 0 else None

    def lend(self, entry: Entry) -> str:
        """The name in `landing` of a state that was found whole; "" where it was not.

        One that was cut or changed is removed.
        """
        name = f"{secrets.token_hex(8)}.kv"
        try:
            os.link(entry.path, self.landing / name)
        except FileNotFoundError:
            return ""
        except OSError:  # a file system without links
            shutil.copyfile(entry.path, self.landing / name)
        whole = _crc_of(self.landing / name) == (entry.crc, entry.n_bytes)
        if not whole:
            self.remove(entry)
            self.give_back(name)
            return ""
        with suppress(OSError):
            os.utime(entry.path)
        return name

    def give_back(self, name: str) -> None:
        """Forget a name in `landing`."""
        with suppress(OSError):
            (self.landing / name).unlink()

    # ---- keeping

    def room_for(self, n_bytes: int) -> bool:
        """Whether so much may be saved: of the bound, and of the disk."""
        free = shutil.disk_usage(self.folder).free
        return n_bytes <= self.most_bytes and free >= n_bytes + DISK_MARGIN_BYTES

    def blank(self) -> str:
        """The name of an empty file in `landing` that only its owner can read."""
        name = f"{secrets.token_hex(8)}.kv"
        os.close(os.open(self.landing / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return name

    def take(self, name: str, holder: str, what: Entry) -> Entry:
        """Keep what an engine wrote as `name`, with what is known of it; what it replaces goes.

        Raises: OSError; nothing is left of it then.
        """
        landed = self.landing / name
        try:
            crc, n_bytes = _crc_of(landed)
            folder = self._of(holder)
            folder.mkdir(exist_ok=True, mode=0o700)
            entry = replace(what, path=folder / name, crc=crc, n_bytes=n_bytes, used=time.time())
            older = [old for old in self._in(folder) if replaces(entry, old)]
            os.replace(landed, entry.path)
            description = entry.path.with_suffix(".json")
            sidecar.write_text(description, told_of(entry), 0o600, lasting=False)
        except OSError:
            self.give_back(name)
            raise
        for other in older:
            self.remove(other)
        self._shrink(entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Forget a state."""
        description = entry.path.with_suffix(".json")
        self._read.pop(str(description), None)
        for path in (description, entry.path):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):  # the last one of its holder
            entry.path.parent.rmdir()

    def purge(self, chosen: Iterable[Entry] | None = None) -> tuple[int, int]:
        """Forget these states, or everything: how many they were, and their bytes."""
        gone = self.entries() if chosen is None else tuple(chosen)
        for entry in gone:
            self.remove(entry)
        if chosen is None:
            for folder in self._folders():
                shutil.rmtree(folder, ignore_errors=True)
        return len(gone), sum(entry.n_bytes for entry in gone)

    def _shrink(self, spared: Entry) -> None:
        """The longest unused go until the rest is within the bound, and what is old."""
        entries = self.entries()
        total = sum(entry.n_bytes for entry in entries)
        old = time.time() - _KEPT_SECONDS
        for entry in reversed(entries):
            if total <= self.most_bytes and entry.used > old:
                return
            if entry.path != spared.path:
                self.remove(entry)
                total -= entry.n_bytes

    # ---- files

    def _of(self, holder: str) -> Path:
        return self.folder / hashlib.sha256(b"holder " + holder.encode()).hexdigest()[:24]

    def _folders(self) -> list[Path]:
        try:
            every = [p for p in self.folder.iterdir() if p.is_dir() and not p.is_symlink()]
        except OSError:
            return []
        return [path for path in every if path.name != self.landing.name]

    def _in(self, folder: Path) -> Iterator[Entry]:
        try:
            paths = list(folder.iterdir())
        except OSError:
            return
        names = {path.name for path in paths}
        for path in paths:
            if path.suffix == ".json":
                entry = self._entry(path)
                if entry is not None:
                    yield entry
            elif path.with_suffix(".json").name not in names:
                _drop_stale(path)

    def _by_key(self, folder: Path) -> dict[str, list[Entry]]:
        """What lies there, looked at again when something came or went; when used is not told."""
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return {}
        known = self._seen.get(folder)
        if known is None or known[0] != changed:
            if time.time_ns() - changed < _TICK_NS:  # it may change again with the same time
                changed = 0
            found: dict[str, list[Entry]] = {}
            for entry in self._in(folder):
                found.setdefault(entry.key, []).append(entry)
            if len(self._seen) >= _HOLDERS:
                self._seen.clear()
            known = self._seen[folder] = (changed, found)
        return known[1]

    def _entry(self, path: Path) -> Entry | None:
        """The entry that a JSON file tells of; what tells of none is removed."""
        state = path.with_suffix(".kv")
        try:
            written = path.stat().st_mtime_ns
            used = state.stat().st_mtime
            known = self._read.get(str(path))
            if known is None or known[0] != written:
                if len(self._read) >= _READ:  # those of states that other processes removed
                    self._read.clear()
                known = (written, entry_of(path.read_text(encoding="utf-8")))
                self._read[str(path)] = known
        except FileNotFoundError:
            _drop_stale(path)
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            with suppress(OSError):
                path.unlink()
            return None
        return replace(known[1], path=state, used=used)


def _crc_of(path: Path) -> tuple[int, int]:
    """CRC-32 and size. It finds what disks and cut writes do, at several GB/s."""
    crc = n_bytes = 0
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(_CHUNK))
        while count := file.readinto(buffer):
            crc = zlib.crc32(buffer[:count], crc)
            n_bytes += count
    return crc, n_bytes


def _drop_stale(path: Path) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink()
