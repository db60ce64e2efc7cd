"""One file over HTTP: resumed, retried, never longer than it should be."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from snugly.errors import DownloadError
from snugly.model.progress import Progress
from snugly.units import format_bytes

if TYPE_CHECKING:
    import httpx2

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Want:
    """One file to fetch. Size and SHA-256 are known before: nothing else is accepted.

    The hub gives no SHA-256 of small files: then it is empty, and the address has a commit.
    """

    label: str
    url: str
    n_bytes: int
    sha256: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # may hold a token
    page: str = ""  # where a person can read about the file


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again without any new byte, and how long to wait in between."""

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 20.0
    silence_s: float = 60.0


@dataclass(slots=True)
class Transfer:
    """One file on its way: how far it is, and the hash of what is there."""

    want: Want
    file: BinaryIO
    digest: Any
    done: int
    progress: Progress
    client: "httpx2.Client"
    patience: Patience

    def run(self) -> None:
        """Until all bytes are there; a try that brought something does not count."""
        import httpx2

        tries, wait = 0, self.patience.first_wait_s
        while self.done < self.want.n_bytes:
            before = self.done
            try:
                asked = self._once()
                reason = "the connection ended early"
            except httpx2.TransportError as error:
                asked, reason = 0.0, str(error) or type(error).__name__
            except (httpx2.RequestError, httpx2.InvalidURL) as error:  # circles, no such scheme
                raise self._gave_up(str(error) or type(error).__name__, 1) from error
            except _Again as error:
                asked, reason = error.wait_s, str(error)
            if self.done >= self.want.n_bytes:
                return
            if self.done > before:
                tries, wait = 0, self.patience.first_wait_s
            tries += 1
            if tries >= self.patience.attempts:
                raise self._gave_up(reason, tries)
            time.sleep(min(max(wait, asked), self.patience.longest_wait_s))
            wait = min(wait * 2, self.patience.longest_wait_s)

    def _once(self) -> float:
        headers = {**self.want.headers, "Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
        with self.client.stream("GET", self.want.url, headers=headers) as response:
            self._accept(response)
            # Pieces as they arrive: gathering them into larger ones would lose what was
            # gathered when the connection or this process ends.
            for chunk in response.iter_raw():
                self._take(chunk)
        return 0.0

    def _accept(self, response: "httpx2.Response") -> None:
        status = response.status_code
        if status in TRANSIENT:
            raise _Again(f"the server said {status}", _retry_after(response))
        if status == 416 or (status == 206 and not self._continues(response)):
            self._start_over()
            raise _Again("the server sent another piece than asked for", 0.0)
        if status not in (200, 206):
            raise refusal(self.want, status)
        if status == 200 and self.done:
            self._start_over()  # Range was ignored: these are the bytes from the beginning
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and self.done + int(length) != self.want.n_bytes:
            raise self._wrong_size(self.done + int(length))

    def _continues(self, response: "httpx2.Response") -> bool:
        content_range = response.headers.get("Content-Range", "")
        return bool(content_range.startswith(f"bytes {self.done}-"))

    def _take(self, chunk: bytes) -> None:
        if self.done + len(chunk) > self.want.n_bytes:
            raise self._wrong_size(self.done + len(chunk))
        view = memoryview(chunk)
        while view:  # an unbuffered write may take less than it was given
            view = view[self.file.write(view) :]
        self.digest.update(chunk)
        self.done += len(chunk)
        self.progress.advance(len(chunk))

    def _start_over(self) -> None:
        self.progress.advance(-self.done)
        self.file.seek(0)
        self.file.truncate()
        self.digest, self.done = hashlib.sha256(), 0

    def _wrong_size(self, size: int) -> DownloadError:
        self._start_over()
        return DownloadError(
            f"What the server offers is not {self.want.label}.",
            f"It has {size} bytes or more, it should have {self.want.n_bytes}. Nothing was kept.",
            "Try again later; the server or something in between changes the file.",
        )

    def _gave_up(self, reason: str, tries: int) -> DownloadError:
        return DownloadError(
            f"{self.want.label} could not be fetched completely.",
            f"After {tries} {'try' if tries == 1 else 'tries'}: {reason}. "
            f"{format_bytes(self.done)} of {format_bytes(self.want.n_bytes)} are kept.",
            "Pull again when the connection is better: it resumes.",
        )


class _Again(Exception):
    """A failure that may pass, and how long the server asks to wait."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def _retry_after(response: "httpx2.Response") -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def refusal(want: Want, status: int) -> DownloadError:
    """What an HTTP status that will not change by itself means, in words."""
    if status in (401, 403):
        return DownloadError(
            f"The server refuses {want.label}.",
            f"It answered {status}: a login or a permission is missing.",
            f"Accept the licence on {want.page or 'its page'}, then set HF_TOKEN "
            "or run `hf auth login`.",
        )
    return DownloadError(
        f"The server does not have {want.label} where it should be.",
        f"It answered {status}.",
        "Try again later, or name another file or revision.",
    )
