"""Drawing an answer: nothing is lost, nothing is printed twice, nothing is obeyed."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from rich.console import Console

from snugly.cli.chat_draw import MarkdownScreen, PlainScreen, as_markdown, split_blocks
from snugly.cli.render import visible


def terminal(height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=height, color_system=None,
        legacy_windows=False, _environ={},
    )  # fmt: skip


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(raw: str, width: int = 80) -> list[str]:
    """What a terminal would show: the sequences that rich writes, obeyed."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[(?:\?\d+[hl]|\d*[A-Za-z]|[\d;]*m)|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row -= int(part[2:-1] or 1)
            assert row >= 0, "the cursor left the screen"
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part
            column += len(part)
    return [line.rstrip() for line in lines]


def stream(text: str, step: int, height: int = 24) -> str:
    """What was written to the terminal while `text` came in pieces of `step`."""
    console = terminal(height)
    screen = MarkdownScreen(console)
    for end in range(step, len(text) + step, step):
        screen.draw(text[:end], "")
    screen.end()
    return written(console)


LONG = "\n\n".join(f"paragraph {n}" for n in range(60))
CODE = "Look:\n\n```python\n" + "".join(f"line_{n} = {n}\n" for n in range(60)) + "```\n\nDone."


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("height", [5, 24])
@pytest.mark.parametrize("text", [LONG, CODE], ids=["paragraphs", "code"])
def test_an_answer_longer_than_the_screen_stands_there_once(
    text: str, height: int, step: int
) -> None:
    if text is CODE and step == 1:
        step = 3  # the same case, three times as quick
    lines = [line for line in shown(stream(text, step, height)) if line]
    for number in range(60):
        wanted = f"paragraph {number}" if text is LONG else f"line_{number} = {number}"
        assert sum(line.strip() == wanted for line in lines) == 1, wanted


def test_no_frame_is_taller_than_the_screen() -> None:
    """Moving up by more lines than there are would scribble over what is above."""
    raw = stream(CODE, 5, height=10)
    frames = re.findall(r"(?:\x1b\[1A\x1b\[2K|\x1b\[2K\x1b\[1A)+", raw)
    assert frames, "nothing was redrawn"
    assert max(frame.count("\x1b[1A") for frame in frames) < 10


def test_finished_blocks_are_not_drawn_again() -> None:
    raw = stream(LONG, 9)
    # While it is the last block it is drawn a few times, later never.
    assert raw.count("paragraph 3\n") + raw.count("paragraph 3 ") <= 4
    assert len(raw) < 30 * len(LONG)


@pytest.mark.parametrize(
    "text", [LONG, CODE, "# H\n\n1. a\n2. b\n\n> q\n\n|a|b|\n|-|-|\n|1|2|\n\nz"]
)
def test_the_size_of_the_pieces_changes_nothing(text: str) -> None:
    assert shown(stream(text, 3)) == shown(stream(text, 11)) == shown(stream(text, 10_000))


@budget(max_examples=60, deadline=None)
@given(st.text(st.sampled_from(list("ab1 \n\t#*_`-+>|[]()!<&;=~\\:.")), max_size=60))
def test_blocks_are_the_text(text: str) -> None:
    blocks = split_blocks(text)
    assert text.endswith("".join(blocks))
    assert not text[: len(text) - len("".join(blocks))].strip()


def test_blocks_end_only_at_the_top_level() -> None:
    text = "- a\n\n  more a\n- b\n\n```\nx\n\ny\n```\nend"
    assert split_blocks(text) == ["- a\n\n  more a\n- b\n\n", "```\nx\n\ny\n```\n", "end"]


def test_html_and_line_breaks_are_kept() -> None:
    console = terminal()
    console.print(as_markdown("<b>bold</b>\nsecond line\n\n<div>\nblock\n</div>"))
    assert [line.rstrip() for line in written(console).splitlines()] == [
        "<b>bold</b>", "second line", "", "<div>", "block", "</div>",
    ]  # fmt: skip


def test_control_sequences_of_a_model_are_not_obeyed() -> None:
    assert visible("a\x1b]0;owned\x07b\x9b2Jc\r\nd\te") == "a]0;ownedb2Jc\nd\te"
    raw = stream("x\x1b[2Jy \x1b]52;c;cm0=\x07z", 1)
    assert "\x1b[2J" not in raw
    assert "\x1b]" not in raw
    assert "\x07" not in raw


def test_thinking_is_seen_until_the_answer_begins_and_then_gone() -> None:
    console = terminal()
    screen = MarkdownScreen(console)
    screen.draw("", "let me see")
    assert "let me see" in shown(written(console))[0]
    screen.draw("Yes.", "let me see")
    screen.end()
    assert [line for line in shown(written(console)) if line] == ["Yes."]


def test_plain_text_is_written_once_and_ends_its_line() -> None:
    out = io.StringIO()
    screen = PlainScreen(out)
    for text in ("He", "Hello", "Hello\x1b[1m you"):
        screen.draw(text, "thought")
    screen.end()
    screen.end()
    screen.draw("next\n", "")
    screen.end()
    assert out.getvalue() == "Hello[1m you\nnext\n"


def test_the_cursor_is_given_back() -> None:
    raw = stream("text", 2)
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
