"""`snugly chat` on a real terminal: a pty of the kernel, and a whole terminal where tmux is."""

import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snugly.history import conversations
from snugly.history.opening import opened
from snugly.history.types import State

fcntl = pytest.importorskip("fcntl", reason="Windows has no pty")
pty = pytest.importorskip("pty", reason="Windows has no pty")
termios = pytest.importorskip("termios", reason="Windows has no pty")

FAKE = Path(__file__).with_name("chat_fake.py")
ROOT = Path(__file__).parents[2]
# The child makes the pty its controlling terminal, so that Ctrl-C becomes SIGINT.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


# The editor asks the terminal to mark pastes when it begins to read, and only then.
PROMPT = "<prompt>"


class Terminal:
    """A program on a pty of 80 by 24, and all that it wrote."""

    def __init__(self, *arguments: str, **extra: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.settings = termios.tcgetattr(slave)
        self._slave = slave
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1", **extra,
        }  # fmt: skip
        environment.pop("NO_COLOR", None)
        environment.update(extra)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, str(FAKE), "chat", *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment,
        )  # fmt: skip
        self.raw = ""
        self._from = 0

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str, seconds: float = 10) -> str:
        """Wait until `text` appears after what was last expected; what came until then."""
        end = time.monotonic() + seconds
        while True:
            came = plain(self.raw)[self._from :]
            if text in came:
                self._from += came.index(text) + len(text)
                return came[: came.index(text)]
            if time.monotonic() > end or not self._read(end - time.monotonic()):
                raise AssertionError(f"{text!r} did not appear in {came!r}")

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)

    def ends(self, seconds: float = 10) -> int:
        """The exit code, once all output is read."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.wait(timeout=1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)


def plain(raw: str) -> str:
    """What was written, without escape sequences; the editor's beginning is PROMPT."""
    marked = raw.replace("\x1b[?2004h", PROMPT)
    whole = re.sub(r"\x1b[^A-Za-z\x07]*$", "", marked)  # one that is still coming
    return re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][0B]?)", "", whole)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened_ones: list[Terminal] = []
    yield opened_ones
    for one in opened_ones:
        one.close()


@pytest.fixture
def terminal(terminals: list[Terminal]) -> Terminal:
    terminals.append(Terminal())
    terminals[0].expect("/help lists the commands")
    terminals[0].expect(PROMPT)
    return terminals[0]


def messages(number: int = 1) -> list[tuple[str, str, State]]:
    with opened(Path(os.environ["SNUGLY_HISTORY"])) as db:
        kept = conversations.load(db, number).messages
    return [(m.role, m.content, m.state) for m in kept]


def test_an_answer_streams_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.type("slow\r")
    terminal.expect("word3")
    assert terminal.process.poll() is None
    terminal.expect("word12")
    terminal.type("\x03")
    terminal.expect("Stopped.")
    terminal.expect(PROMPT)
    terminal.type("hello\r")
    terminal.expect("user:hello")
    terminal.expect(PROMPT)
    terminal.type("\x04")
    assert terminal.ends() == 0
    assert "--resume 1" in plain(terminal.raw)
    (_, slow, cut), (_, hello, whole) = messages()[1::2]
    assert (cut, whole) == (State.INTERRUPTED, State.COMPLETE)
    assert slow.startswith("word0 word1 ")
    assert hello.endswith("user:hello ")


def test_ctrl_c_at_the_prompt_clears_the_line_and_says_how_to_leave(terminal: Terminal) -> None:
    terminal.type("not to be sent")
    terminal.expect("not to be sent")
    terminal.type("\x03")
    terminal.expect("Ctrl-D or /exit leaves.")
    terminal.expect(PROMPT)
    terminal.type("sent\r")
    terminal.expect("user:sent")
    terminal.expect(PROMPT)
    terminal.type("/exit\r")
    assert terminal.ends() == 0
    assert [content for role, content, _ in messages() if role == "user"] == ["sent"]


def test_one_ctrl_c_too_many_does_not_end_the_program(terminal: Terminal) -> None:
    terminal.type("slow\r")
    terminal.expect("word3")
    for _ in range(5):
        terminal.type("\x03")
        time.sleep(0.02)
    terminal.expect("Stopped.")
    terminal.type("\x15hello\r")  # Ctrl-U: whatever is on the line goes
    terminal.expect("user:hello")


def test_help_and_a_slip_of_the_finger(terminal: Terminal) -> None:
    terminal.type("/help\r")
    terminal.expect("Stop the answer")
    terminal.type("/stast\r")
    terminal.expect("Did you mean /stats?")


def test_lines_are_added_by_ctrl_j_alt_enter_and_a_backslash(terminal: Terminal) -> None:
    terminal.type("one\ntwo\x1b\rthree\\\rfour\r")
    terminal.expect("four", 5)
    terminal.expect(PROMPT)
    assert messages()[0][1] == "one\ntwo\nthree\nfour"


def test_a_paste_of_several_lines_is_one_question(terminal: Terminal) -> None:
    terminal.type("\x1b[200~first\r\nsecond\rthird\x1b[201~")
    terminal.expect("third")
    terminal.type("\r")
    terminal.expect("user:first")
    terminal.expect(PROMPT)
    assert messages()[0][1] == "first\nsecond\nthird"


def test_escape_leaves_on_an_empty_line_only(terminal: Terminal) -> None:
    terminal.type("half a thought")
    terminal.expect("half a thought")
    terminal.type("\x1b")
    time.sleep(1.5)  # an escape alone is told from Alt-something by the pause after it
    assert terminal.process.poll() is None
    terminal.type("\x1b")
    assert terminal.ends() == 0


def test_keys_typed_during_an_answer_are_kept_for_the_prompt(terminal: Terminal) -> None:
    terminal.type("many lines\r")
    terminal.expect("line 5")
    terminal.type("typed ahead\r")
    before = terminal.expect("line 119")
    assert "typed ahead" not in before
    terminal.expect("user:typed ahead")


def test_the_terminal_is_given_back_as_it_was(terminal: Terminal) -> None:
    terminal.type("slow\r")
    terminal.expect("word3")
    assert not terminal.echoes()
    terminal.type("\x03")
    terminal.expect("Stopped.")
    terminal.expect(PROMPT)
    terminal.type("\x04")
    assert terminal.ends() == 0
    assert terminal.echoes()
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


def test_an_engine_that_dies_is_said_and_comes_back(terminal: Terminal) -> None:
    terminal.type("die\r")
    terminal.expect("The engine died.")
    terminal.expect(PROMPT)
    terminal.type("hello\r")
    terminal.expect("assistant:half an answer | user:hello")
    assert messages()[1] == ("assistant", "half an answer", State.INTERRUPTED)


def test_markdown_is_drawn_and_control_sequences_are_not_obeyed(terminal: Terminal) -> None:
    terminal.type("markdown\r")
    shown = terminal.expect(PROMPT)
    assert " • one" in shown
    assert "**" not in shown
    begun = len(terminal.raw)
    terminal.type("control\r")
    terminal.expect("b[2Jc")
    terminal.expect(PROMPT)
    assert "\x1b]0;owned" not in terminal.raw[begun:]


def test_no_colour_where_none_is_wanted(terminals: list[Terminal]) -> None:
    terminals.append(Terminal(NO_COLOR="1"))
    terminals[0].expect(PROMPT)
    terminals[0].type("markdown\r")
    terminals[0].expect("End.")
    codes = re.findall(r"\x1b\[([\d;]*)m", terminals[0].raw)
    colours = [c for code in codes for c in code.split(";") if re.fullmatch(r"[349][0-8]|10\d", c)]
    assert colours == []


def test_a_dumb_terminal_gets_plain_text(terminals: list[Terminal]) -> None:
    terminals.append(Terminal(TERM="dumb"))
    terminals[0].expect("> ")
    terminals[0].type("slow\r")
    terminals[0].expect("word5")
    terminals[0].type("\x03")
    terminals[0].expect("Stopped.")
    terminals[0].expect("> ")
    terminals[0].type("\x03")
    terminals[0].expect("Ctrl-D or /exit leaves.")
    terminals[0].type("markdown\r")
    terminals[0].expect("**bold**")
    terminals[0].expect("> ")
    terminals[0].type("\x04")
    assert terminals[0].ends() == 0
    assert "\x1b" not in terminals[0].raw


def test_what_was_typed_is_remembered_for_this_user_only(terminal: Terminal) -> None:
    terminal.type("remember me\r")
    terminal.expect("user:remember me")
    terminal.expect(PROMPT)
    terminal.type("\x1b[A\r")
    terminal.expect("user:remember me ")
    remembered = Path(os.environ["SNUGLY_CACHE"]) / "chat-input"
    assert remembered.stat().st_mode & 0o777 == 0o600
    assert "remember me" in remembered.read_text()


def test_a_closed_window_leaves_no_process(terminal: Terminal) -> None:
    terminal.type("slow\r")
    terminal.expect("word3")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.ends() != 0


@pytest.fixture
def window(tmp_path: Path) -> Iterator[list[str]]:
    """A tmux window of 60 by 12 in which the chat runs."""
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("needs tmux: a whole terminal, to see what a person sees")
    base = [tmux, "-S", str(tmp_path / "t"), "-f", "/dev/null"]
    command = f"{sys.executable} {FAKE} chat; sleep 60"
    subprocess.run(
        [*base, "new-session", "-d", "-x", "60", "-y", "12", command],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    yield base
    subprocess.run([*base, "kill-server"], check=False)


def seen(window: list[str], text: str, seconds: float = 10) -> list[str]:
    """All lines of the window and above it, once `text` is among them."""
    end = time.monotonic() + seconds
    while True:
        shown = subprocess.run(
            [*window, "capture-pane", "-p", "-S", "-"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        if any(text in line for line in shown):
            return [line.rstrip() for line in shown]
        if time.monotonic() > end:
            raise AssertionError(f"{text!r} is not on the screen: {shown}")
        time.sleep(0.05)


def keys(window: list[str], *names: str) -> None:
    subprocess.run([*window, "send-keys", *names], check=True)


def test_a_long_answer_stands_in_the_window_once_and_in_order(window: list[str]) -> None:
    seen(window, ">")
    keys(window, "many lines", "Enter")
    seen(window, "line 119")
    keys(window, "hello", "Enter")
    shown = seen(window, "user:hello")
    numbers = [int(line.split()[1]) for line in shown if re.fullmatch(r"line \d+", line)]
    # The second answer repeats the first conversation: only what came before it counts.
    assert numbers[:120] == list(range(120))
