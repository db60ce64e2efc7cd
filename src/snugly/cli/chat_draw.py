"""How an answer appears while it is written: live Markdown, or plain text.

Called from a worker thread, with all that is there so far, a few times a second.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TextIO

from snugly.cli.render import console, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live
    from rich.markdown import Markdown
    from rich.segment import Segment

# How much of a model's thinking is seen while it thinks.
_THOUGHT_CHARACTERS = 240


class Screen(Protocol):
    """Where one answer is drawn."""

    def draw(self, text: str, thoughts: str) -> None:
        """Show `text`, all of the answer so far; `thoughts` while there is none."""
        ...

    def end(self) -> None:
        """Leave the answer standing, with the cursor on a new line. Safe to call twice."""
        ...


class PlainScreen:
    """Text as it comes, no escape codes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""

    def draw(self, text: str, thoughts: str) -> None:
        """Write what is new."""
        clean = visible(text)
        new = clean[len(self._shown) :]
        self._shown = clean
        if new:
            self._stream.write(new)
            self._stream.flush()

    def end(self) -> None:
        """End the line unless the answer did."""
        if self._shown and not self._shown.endswith("\n"):
            self._stream.write("\n")
            self._stream.flush()
        self._shown = ""


class MarkdownScreen:
    """Finished blocks are printed for good; only the block being written is redrawn.

    So nothing above it flickers, the scrollback holds the answer once, and a frame
    costs as much as its last block. Of a block taller than the screen the end is seen
    until it is finished.
    """

    def __init__(self, out: "Console | None" = None) -> None:
        self._console = out or console()
        self._live: Live | None = None
        self._tail = Tail()
        self._done = 0  # characters that are printed for good

    def draw(self, text: str, thoughts: str) -> None:
        """Print what is finished, redraw the rest."""
        live = self._begun()
        clean = visible(text)
        *finished, rest = split_blocks(clean[self._done :]) or [""]
        self._done = len(clean) - len(rest)
        self._tail.content = (
            as_markdown(rest) if rest.strip() else None if clean.strip() else _thinking(thoughts)
        )
        live.update(self._tail)
        for block in finished:  # printing redraws the tail too
            self._console.print(as_markdown(block))
            self._console.print()
        if not finished:
            live.refresh()

    def end(self) -> None:
        """Draw the last block whole and let it stand."""
        if self._live is not None:
            self._tail.whole = True
            self._live.stop()
            self._live = None
            self._tail = Tail()
            self._done = 0

    def _begun(self) -> "Live":
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                self._tail,
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="visible",
            )
            self._live.start()
        return self._live


class Tail:
    """The last lines of what is being written, as many as the screen has room for."""

    def __init__(self) -> None:
        self.content: RenderableType | None = None
        self.whole = False

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterable[RenderableType | Segment]":
        """Render, then cut above."""
        from rich.segment import Segment

        if self.content is None:
            return
        lines = console.render_lines(self.content, options.update(height=None), pad=False)
        # Two lines of room: the cursor's own, and one for a terminal that counts differently.
        shown = lines if self.whole else lines[-max(1, console.height - 2) :]
        for line in shown:
            yield from line
            yield Segment.line()


def _thinking(thoughts: str) -> "RenderableType":
    from rich.text import Text

    end = " ".join(visible(thoughts).split())[-_THOUGHT_CHARACTERS:]
    return Text(f"thinking: {end}" if end else "…", style="dim")


def split_blocks(text: str) -> list[str]:
    """The top-level blocks of Markdown, in order; together they are `text` from the first on.

    All but the last are finished: what follows cannot change them any more (but for
    link definitions, which only make a link of text that is already there).
    """
    lines = text.split("\n")
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    starts = [
        offsets[token.map[0]]
        for token in as_markdown(text).parsed
        if token.level == 0 and token.nesting >= 0 and token.map
    ]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=False)]


def as_markdown(text: str) -> "Markdown":
    """Markdown as a chat means it: HTML is text, and a line break is a line break.

    rich drops HTML and joins lines, which is right for documents; here it would lose
    words of the answer and run poems together.
    """
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    made = Markdown("", hyperlinks=False)
    made.parsed = parser.parse(text)
    for token in made.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return made
