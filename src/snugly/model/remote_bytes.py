"""A file behind a URL, read by HTTP range requests: a few MB of it, in growing pieces.

What servers do wrong is met here. One that ignores Range sends from the beginning and is cut
off after what was needed. A redirect is followed, and remembered for the pieces to come; the
token goes to the first host alone. Sizes that contradict each other, compressed answers and
other pieces than asked for are refused. Everything is bounded: bytes, tries and time.
"""

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from snugly.errors import BadModelFile, DownloadError
from snugly.model.remote_types import Place
from snugly.model.transfer import TRANSIENT, Patience, Want, refusal
from snugly.units import KiB, MiB, format_bytes

if TYPE_CHECKING:
    import httpx2

# The largest headers are those of vocabularies of 262,144 words with 514,906 merge rules, about
# 16 MB (model.quant_size: Gemma 4). Four times that is damage, or no header.
MAX_READ_BYTES = 64 * MiB
MAX_PIECE_BYTES = 2 * MiB
FIRST_PIECE_BYTES = 1 * MiB  # holds the header of vocabularies up to about 50,000 words
SMALL_PIECE_BYTES = 64 * KiB  # a further part of a split model: tensors alone, 60 bytes each
LONGEST_S = 300.0  # for one file, however slow: 64 MiB at 220 KB/s
MAX_REDIRECTS = 5
QUICK = Patience(attempts=4, first_wait_s=0.5, longest_wait_s=8.0, silence_s=30.0)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(slots=True)
class Piece:
    """Bytes that are here, and where in the file they begin."""

    start: int
    body: bytearray

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.start + len(self.body)


def client_for(patience: Patience) -> "httpx2.Client":
    """An HTTP client for remote files; one for all files of a model, from several threads."""
    import httpx2

    return httpx2.Client(
        follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=patience.silence_s
    )


class RemoteFile:
    """Reads a file from the front, fetching what is missing; a `gguf_cursor.Readable`.

    `pieces` may hold what an earlier reading kept. `transferred` counts what came over the
    network, also what had to be thrown away.

    Raises on every reading: DownloadError; BadModelFile when the limit is reached.
    """

    def __init__(
        self,
        place: Place,
        client: "httpx2.Client",
        patience: Patience = QUICK,
        first_piece: int = FIRST_PIECE_BYTES,
        pieces: list[Piece] | None = None,
    ) -> None:
        self.place = place
        self.pieces = pieces or []
        self.transferred = 0
        self.etag = ""
        self._size = place.n_bytes
        self._client = client
        self._patience = patience
        self._next_piece = first_piece
        self._at = 0
        self._url = place.url  # later: where it redirected to
        self._ends = time.monotonic() + LONGEST_S

    @property
    def size(self) -> int:
        """Bytes of the whole file; the first piece is fetched when only the server knows."""
        if self._size is None:
            self._extend(self._piece_at(0))
        if self._size is None:
            raise _strange(self.place, "it does not say how large the file is")
        return self._size

    def seek(self, offset: int) -> None:
        """Go on reading at `offset`."""
        self._at = offset

    def read(self, count: int) -> bytes:
        """From 1 to `count` bytes, as many as are here or come in one piece."""
        if count <= 0 or self._at >= self.size:
            return b""
        piece = self._piece_at(self._at)
        if self._at >= piece.end:
            self._extend(piece)
        inside = self._at - piece.start
        found = bytes(piece.body[inside : inside + count])
        self._at += len(found)
        return found

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes, or fewer where the file ends."""
        found = b""
        while len(found) < count and (more := self.read(count - len(found))):
            found += more
        return found

    def _piece_at(self, offset: int) -> Piece:
        for piece in self.pieces:
            if piece.start <= offset <= piece.end:
                return piece
        self.pieces.append(Piece(offset, bytearray()))
        return self.pieces[-1]

    def _extend(self, piece: Piece) -> None:
        """Fetch what comes after `piece`, at least a byte, trying again what may pass."""
        count = self._next_piece
        if self._size is not None:
            count = min(count, self._size - piece.end)
        self._next_piece = min(2 * self._next_piece, MAX_PIECE_BYTES)
        wait, reason = self._patience.first_wait_s, ""
        for attempt in range(self._patience.attempts):
            if attempt:
                time.sleep(wait)
                wait = min(2 * wait, self._patience.longest_wait_s)
            self._within_limits(count)
            before = len(piece.body)
            reason = self._fetch(piece, count)
            if len(piece.body) > before or self._size == piece.end:
                return
        raise DownloadError(
            f"{self.place.label} could not be read from afar.",
            f"After {self._patience.attempts} tries: {reason}.",
            "Try again when the connection is better.",
        )

    def _within_limits(self, count: int) -> None:
        if self.transferred + count > MAX_READ_BYTES:
            raise BadModelFile(
                f"{self.place.label} has no header that can be read from afar.",
                f"It is not complete after {format_bytes(self.transferred)}"
                f" ({self.place.url.partition('?')[0]}).",
                "Ask whoever made the file, or take another one.",
            )
        if time.monotonic() > self._ends:
            raise self._too_slow()

    def _too_slow(self) -> DownloadError:
        return DownloadError(
            f"{self.place.label} comes too slowly.",
            f"{format_bytes(self.transferred)} in {LONGEST_S:.0f} s, and its header is not"
            " complete.",
            "Try again when the connection is better.",
        )

    def _fetch(self, piece: Piece, count: int) -> str:
        """One request; why it brought nothing, when that may pass by itself."""
        import httpx2

        end = piece.end + count
        headers = {
            **self.place.headers,
            "Accept-Encoding": "identity",
            "Range": f"bytes={piece.end}-{end - 1}",
        }
        if urlsplit(self._url)[:2] != urlsplit(self.place.url)[:2]:  # another host: no token
            headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
        try:
            with self._client.stream("GET", self._url, headers=headers) as response:
                trouble = self._refused(response)
                if not trouble:
                    self._take(response, piece, end)
                return trouble
        except httpx2.TransportError as error:
            return str(error) or type(error).__name__
        except (httpx2.RequestError, httpx2.InvalidURL) as error:  # circles, no such scheme
            raise _strange(self.place, str(error) or type(error).__name__) from error

    def _refused(self, response: "httpx2.Response") -> str:
        """Why the answer holds nothing, when that may pass; otherwise it raises or accepts."""
        status = response.status_code
        if status in TRANSIENT:
            return f"the server said {status}"
        if status not in (200, 206, 416) and self._url != self.place.url:
            self._url = self.place.url  # a signed address that has run out
            return f"the storage said {status}"
        if self.place.url.startswith("https:") and response.url.scheme != "https":
            raise _strange(self.place, "it redirects to an address without encryption")
        if status == 416:
            total = response.headers.get("Content-Range", "").removeprefix("bytes */")
            self._agree(int(total) if _is_count(total) else 0)
            return "the server says that the file ends here"
        if status in (401, 403) and not self.place.page:
            raise DownloadError(
                f"The server refuses {self.place.label}.",
                f"It answered {status}: a login or a permission is missing.",
                "Download the file yourself and give its path.",
            )
        if status not in (200, 206):
            want = Want(self.place.label, self._url, 0, "", page=self.place.page)
            raise refusal(want, status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _strange(self.place, "it compresses what it sends, though told not to")
        return ""

    def _take(self, response: "httpx2.Response", piece: Piece, end: int) -> None:
        """Keep the bytes of an answer that belong to `piece`, up to `end`."""
        at = self._start_of(response, piece.end, end)
        self._url = str(response.url)
        self.etag = response.headers.get("ETag", "")
        if at < piece.end:
            self._within_limits(end)
        for chunk in response.iter_raw():
            self.transferred += len(chunk)
            inside = chunk[max(0, piece.end - at) : max(0, end - at)]
            at += len(chunk)
            piece.body += inside
            if at >= end:
                return  # leaving the block closes the connection: no more is sent
            if time.monotonic() > self._ends:
                raise self._too_slow()

    def _start_of(self, response: "httpx2.Response", start: int, end: int) -> int:
        """Where in the file the answer begins: at `start`, or at 0 if Range was ignored."""
        if response.status_code == 200:
            length = response.headers.get("Content-Length", "")
            if _is_count(length):
                self._agree(int(length))
            return 0
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != start or not start <= int(match[2]) < end:
            raise _strange(self.place, "it sends another piece than asked for")
        if _is_count(match[3]):
            self._agree(int(match[3]))
        return start

    def _agree(self, size: int) -> None:
        if self._size is None:
            self._size = size
        if self._size != size:
            raise _strange(self.place, f"it has {size} bytes there and should have {self._size}")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _strange(place: Place, reason: str) -> DownloadError:
    return DownloadError(
        f"The server of {place.label} does not answer as one should.",
        f"{reason[0].upper()}{reason[1:]}.",
        "Try again later, or `snugly pull` the model and plan the file.",
    )
