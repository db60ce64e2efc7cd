"""A GGUF from the front: header as bytes, room made, and the finished file in its place."""

import errno
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snugly.errors import UserError
from snugly.model import sidecar
from snugly.model.download import DISK_MARGIN_BYTES
from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.quant_names import n_dims
from snugly.model.types import Tensor
from snugly.units import format_bytes

_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT

# GGUF value types by name -> (number, struct code)
_KINDS = {
    "UINT8": (0, "B"), "INT8": (1, "b"), "UINT16": (2, "H"), "INT16": (3, "h"),
    "UINT32": (4, "I"), "INT32": (5, "i"), "FLOAT32": (6, "f"), "BOOL": (7, "?"),
    "UINT64": (10, "Q"), "INT64": (11, "q"), "FLOAT64": (12, "d"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9


def text(value: str | bytes) -> bytes:
    """Length and UTF-8 bytes, as keys, names and strings are written."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(kind: str, value: Any) -> bytes:
    """One metadata value with its type: "STRING", "UINT32", ...; a list becomes an array."""
    if isinstance(value, (list, tuple)):
        number = _STRING if kind == "STRING" else _KINDS[kind][0]
        head = struct.pack("<IIQ", _ARRAY, number, len(value))
        if kind == "STRING":
            return head + b"".join(map(text, value))
        return head + struct.pack(f"<{len(value)}{_KINDS[kind][1]}", *value)
    if kind == "STRING":
        return struct.pack("<I", _STRING) + text(value)
    number, code = _KINDS[kind]
    return struct.pack("<I" + code, number, value)


def header(pairs: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    """Everything before the first weight, padded. Tensors' offsets are taken as they are."""
    pieces = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))]
    pieces += [text(key) + value for key, value in pairs.items()]
    for tensor in tensors:
        dims = tensor.shape[: n_dims(tensor.shape)]
        pieces.append(
            text(tensor.name)
            + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims,
                          _NUMBERS[tensor.ggml_type], tensor.offset)
        )  # fmt: skip
    whole = b"".join(pieces)
    return whole + bytes(-len(whole) % ALIGNMENT)


def part_of(out: Path) -> Path:
    """Where `out` grows until it is finished."""
    return out.with_name(f".{out.name}.part")


def check_target(out: Path, sources: Sequence[str]) -> None:
    """Refuse what must not be overwritten.

    Raises: UserError when `out` is one of `sources`, exists, or has no folder.
    """
    if any(os.path.exists(path) and out.exists() and os.path.samefile(path, out)
           for path in sources):  # fmt: skip
        raise UserError(
            f"{out} would be read and written at once.",
            "The result would take the place of the model it is made from.",
            "Give another file with --out.",
        )
    if out.exists() or out.is_symlink():
        raise UserError(
            f"{out} exists already.",
            "Nothing is overwritten.",
            "Remove it first, or give another file with --out.",
        )
    if not out.parent.is_dir():
        raise UserError(f"There is no folder {out.parent}.", "", "Make it, or give another --out.")


def make_room(part: Path, n_bytes: int) -> None:
    """Give `part` its whole length now, on the disk where the system can do that.

    Raises: UserError when the disk cannot hold it.
    """
    with said(part, n_bytes):
        held = _held(part)
        free = shutil.disk_usage(part.parent).free
        if free < n_bytes - held + DISK_MARGIN_BYTES:
            raise no_room(part, n_bytes - held, free)
        with open(part, "ab") as file:
            if hasattr(os, "posix_fallocate"):
                _allocate(file.fileno(), n_bytes)
            file.truncate(n_bytes)


@contextmanager
def said(part: Path, n_bytes: int) -> Iterator[None]:
    """Writing `part`: what the disk refuses becomes an error in words. `n_bytes`: see `no_room`.

    Raises: UserError.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(part, error, n_bytes) from error


def cannot_write(part: Path, error: OSError, n_bytes: int) -> UserError:
    """The error for a file that cannot be written, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(part, n_bytes, shutil.disk_usage(part.parent).free)
    reason = "It is larger than files may be here" if error.errno == errno.EFBIG else error.strerror
    return UserError(
        f"The result cannot be written to {part.parent}.",
        f"{reason or error}.",
        "Give another place with --out.",
    )


def no_room(part: Path, n_bytes: int, free: int) -> UserError:
    """The error for a full disk, with the amounts; `n_bytes` 0: it filled up while we wrote."""
    needs = f"It needs {format_bytes(n_bytes)} and {format_bytes(DISK_MARGIN_BYTES)} to spare"
    return UserError(
        "There is not enough room on the disk for the result.",
        f"{needs if n_bytes else 'It filled up meanwhile'}; "
        f"{format_bytes(free)} is free in {part.parent}.",
        "Make room, choose fewer bits with --to, or give another disk with --out.",
    )


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold the right to write `out`, across processes.

    Raises: UserError when another process has it.
    """
    from filelock import FileLock, Timeout

    path = out.with_name(f".{out.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as busy:
        raise UserError(
            f"{out.name} is being written by another process.",
            "",
            "Wait for it, or give another file with --out.",
        ) from busy
    except OSError as error:
        raise cannot_write(path, error, 0) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still ours
        lock.release()


def publish(part: Path, out: Path) -> None:
    """Make the finished file last, and give it its name.

    Raises: UserError when a file of that name came to be meanwhile, or the disk fails.
    """
    with said(part, 0):
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
        if out.exists():
            check_target(out, ())
        sidecar.publish(part, out)


def _held(part: Path) -> int:
    """Bytes that an earlier, interrupted try has on the disk already."""
    try:
        found = part.stat()
    except FileNotFoundError:
        return 0
    return int(getattr(found, "st_blocks", 0)) * 512 or found.st_size


def _allocate(handle: int, n_bytes: int) -> None:
    try:
        os.posix_fallocate(handle, 0, n_bytes)
    except OSError as error:
        # File systems without it: ZFS, NFS before 4.2. Then a full disk is found on the way.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
