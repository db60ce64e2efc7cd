"""One look at models that are not here: the connection, what was kept, and what it took."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import TracebackType
from typing import Any, TypeVar

from snugly.errors import BadModelFile
from snugly.model.gguf import parse_header
from snugly.model.remote_bytes import (
    FIRST_PIECE_BYTES,
    MAX_READ_BYTES,
    SMALL_PIECE_BYTES,
    Piece,
    RemoteFile,
    client_for,
)
from snugly.model.remote_cache import Shelf
from snugly.model.remote_types import Place
from snugly.model.safetensors import StoredHeader, read_stored
from snugly.model.spec import KEPT, spec_of_parts
from snugly.model.transfer import Patience
from snugly.model.types import GgufHeader, ModelSpec
from snugly.settings import Settings

T = TypeVar("T")
AT_ONCE = 8  # requests side by side, for models in many parts


class Reader:
    """Reads headers and small documents from afar; use it as a context.

    `transferred` counts the bytes that came over the network so far.
    """

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self.settings = settings
        self.patience = patience
        self.shelf = Shelf(settings.cache)
        self.transferred = 0
        self._lock = Lock()
        self.client = client_for(patience)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    def spec(self, places: Sequence[Place]) -> ModelSpec:
        """The spec of a GGUF from all its files, in order.

        Raises: BadModelFile, DownloadError.
        """
        first = self._gguf(places[0], FIRST_PIECE_BYTES)
        return spec_of_parts([first, *self._side_by_side(self._gguf, places[1:])])

    def stored(self, places: Sequence[Place]) -> list[StoredHeader]:
        """The headers of safetensors files.

        Raises: BadModelFile, DownloadError.
        """
        return self._side_by_side(self._safetensors, places)

    def _side_by_side(self, ask: Callable[[Place], T], places: Sequence[Place]) -> list[T]:
        if len(places) < 2:  # on this thread, so that Ctrl-C ends it at once
            return [ask(place) for place in places]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, places))  # the first error cancels what has not begun

    def count(self, file: RemoteFile) -> None:
        """Add what a file took to `transferred`."""
        with self._lock:
            self.transferred += file.transferred

    def document(self, place: Place) -> Any:
        """A JSON file, whole.

        Raises: BadModelFile when it is none, DownloadError.
        """
        file = self._open(place, FIRST_PIECE_BYTES)
        try:
            body = file.exactly(min(file.size, MAX_READ_BYTES + 1))
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadModelFile(
                f"{place.label} is not JSON.", f"{error}.", f"Look at {place.page or place.url}."
            ) from error
        finally:
            self.count(file)
        self._keep(file, file.size)
        return value

    def _gguf(self, place: Place, first_piece: int = SMALL_PIECE_BYTES) -> GgufHeader:
        file = self._open(place, first_piece)
        kept = bool(file.pieces)
        try:
            header = parse_header(file, file.size, place.label, KEPT)
        except BadModelFile:
            if not kept:
                raise
            self._forget(place)  # what was kept may be damaged
            return self._gguf(place, first_piece)
        finally:
            self.count(file)
        self._keep(file, header.data_offset)
        return header

    def _safetensors(self, place: Place) -> StoredHeader:
        file = self._open(place, SMALL_PIECE_BYTES)
        kept = bool(file.pieces)
        try:
            header = read_stored(file.exactly, file.size, place.label)
        except BadModelFile:
            if not kept:
                raise
            self._forget(place)
            return self._safetensors(place)
        finally:
            self.count(file)
        self._keep(file, header.data_offset)
        return header

    def _open(self, place: Place, first_piece: int) -> RemoteFile:
        pieces = self.shelf.pieces(place.pinned) if place.pinned else []
        return RemoteFile(place, self.client, self.patience, first_piece, pieces)

    def _keep(self, file: RemoteFile, end: int) -> None:
        if file.place.pinned and file.transferred:
            self.shelf.keep_pieces(file.place.pinned, file.pieces, end)

    def _forget(self, place: Place) -> None:
        self.shelf.keep_pieces(place.pinned, [Piece(0, bytearray())], 0)
