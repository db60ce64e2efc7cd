"""Server-sent events from bytes: pure, and exact about where a line ends.

A general text-line iterator will not do: `str.splitlines` also splits at U+2028 and
U+0085, which JSON may hold unescaped, and would cut an event in two.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

MAX_EVENT_BYTES = 8 * 1024 * 1024


class EventStream:
    """Feed it bytes as they come; it gives the `data` of each finished event."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Events that `chunk` completes.

        Raises: ValueError for an event that never ends.
        """
        if _is_one_line(chunk) and not self._rest:  # nearly every chunk of an answer
            return [chunk[6:-2].decode("utf-8", "replace")]
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        found = []
        for block in blocks:
            data = [
                line.removeprefix(b"data:").removeprefix(b" ")
                for line in block.split(b"\n")
                if line.startswith(b"data:")
            ]
            if data:
                found.append(b"\n".join(data).decode("utf-8", "replace"))
        return found


def _is_one_line(chunk: bytes) -> bool:
    """Whether it is one event of one line of data."""
    end = len(chunk) - 2
    return (
        chunk.startswith(b"data: ")
        and chunk.find(b"\n") == end
        and chunk.endswith(b"\n\n")
        and not chunk.endswith(b"\r\n\n")
    )
