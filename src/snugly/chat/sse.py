"""Server-sent events from bytes: pure, and exact about where a line ends.

A general text-line iterator will not do: `str.splitlines` also splits at U+2028 and
U+0085, which JSON may hold unescaped, and would cut an event in two.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator

MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventStream:
    """Feed it bytes as they come; it gives the `data` of each finished event."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Events that `chunk` completes.

        Raises: ValueError for an event that never ends.
        """
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        for block in blocks:
            data = [
                line.removeprefix(b"data:").removeprefix(b" ")
                for line in block.split(b"\n")
                if line.startswith(b"data:")
            ]
            if data:
                yield b"\n".join(data).decode("utf-8", "replace")
