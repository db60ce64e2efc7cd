"""Walks a GGUF header from the front, on disk or behind a URL; what is wrong is named."""

import os
import struct
from typing import Any, NoReturn, Protocol

from snugly.errors import BadModelFile

MAX_STRING = 64 * 1024 * 1024  # chat templates are tens of KB; a longer string is damage


class Readable(Protocol):
    """What a header is read from: an open file, or one behind a URL (`model.remote_bytes`)."""

    def read(self, count: int, /) -> bytes:
        """From 1 to `count` bytes at the current place; none only at the end."""
        ...

    def seek(self, offset: int, /) -> object:
        """Go on reading at `offset`."""
        ...


class Cursor:
    """Walks a file from the front, a window at a time, never past its end.

    Every read names the field it is for, so that an error can name it too.
    """

    WINDOW = 1 << 20

    def __init__(self, file: Readable, size: int, path: str) -> None:
        self._file = file
        self._window = b""
        self._start = 0  # file offset of the window
        self._at = 0  # position inside the window
        self.size = size
        self.path = path
        self.byte_order = "<"

    @property
    def offset(self) -> int:
        """Where in the file the next byte is taken from."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """How many bytes come after that place."""
        return self.size - self.offset

    def fail(self, field: str, why: str) -> NoReturn:
        """Raise BadModelFile for `field`; `why` is a sentence without its full stop."""
        name = os.path.basename(self.path)
        raise BadModelFile(
            f"{name} is not a usable GGUF file: {_printable(field)}.",
            f"{why} ({self.path}, byte {self.offset}).",
            "Fetch it again with `snugly pull`, or ask whoever made the file.",
        )

    def take(self, count: int, field: str) -> bytes:
        """The next `count` bytes, all of them."""
        if count > self.left:
            self.fail(field, f"The file ends: {count} bytes are needed and {self.left} are left")
        self._fill(count)
        piece = self._window[self._at : self._at + count]
        if len(piece) != count:
            self.fail(field, "The file became shorter while it was read")
        self._at += count
        return piece

    def _fill(self, count: int) -> None:
        if self._at + count > len(self._window):
            rest = self._window[self._at :]
            self._start, self._at = self.offset, 0
            pieces, have = [rest], len(rest)
            while have < count and (piece := self._file.read(max(count, self.WINDOW) - have)):
                pieces.append(piece)
                have += len(piece)
            self._window = b"".join(pieces)

    def skip(self, count: int, field: str) -> None:
        """Step over `count` bytes; what is not in the window is not read at all."""
        if count <= len(self._window) - self._at:
            self._at += count
            return
        if count > self.left:
            self.fail(field, f"The file ends: {count} bytes are needed and {self.left} are left")
        self._start, self._at, self._window = self.offset + count, 0, b""
        self._file.seek(self._start)

    def number(self, code: str, field: str) -> Any:
        """The next number; `code` is that of `struct`."""
        layout = struct.Struct(self.byte_order + code)
        return layout.unpack(self.take(layout.size, field))[0]

    def string(self, field: str) -> str:
        """The next length and text."""
        length = self.number("Q", f"length of {field}")
        if length > MAX_STRING:
            self.fail(field, f"Its length is given as {length} bytes")
        try:
            return self.take(length, field).decode()
        except UnicodeDecodeError:
            self.fail(field, "It is not UTF-8 text")

    def strings(self, count: int, field: str, keep: bool) -> list[str]:
        """`count` strings; unless kept they are only stepped over."""
        # A token may be a lone byte of a UTF-8 sequence: not an error in an array.
        return [piece.decode(errors="replace") for piece in self._pieces(count, field, keep)]

    def _pieces(self, count: int, field: str, keep: bool) -> list[bytes]:
        """The bytes of `count` strings; a vocabulary has 150,000, so no call for each of them."""
        unpack = struct.Struct(self.byte_order + "Q").unpack_from
        kept: list[bytes] = []
        while count:
            # Step through what the window holds.
            window, at, end = self._window, self._at, len(self._window) - 8
            while count and at <= end:
                after = at + 8 + unpack(window, at)[0]
                if after > len(window):
                    break
                if keep:
                    kept.append(window[at + 8 : after])
                at = after
                count -= 1
            self._at = at
            if count:  # the next one begins in this window and ends beyond it
                piece = self.take(self._length(field), field)
                count -= 1
                if keep:
                    kept.append(piece)
        return kept

    def _length(self, field: str) -> int:
        length = self.number("Q", field)
        if length > MAX_STRING:
            self.fail(field, f"An element's length is given as {length} bytes")
        return int(length)


def _printable(text: str) -> str:
    """A field's name as it may stand in a message, whatever a damaged file calls it."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
