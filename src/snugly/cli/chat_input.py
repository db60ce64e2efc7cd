"""Where lines come from: an editor on a terminal, or plain lines from a pipe."""

import asyncio
import codecs
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from snugly.cli.chat_answer import Stopped, stoppable
from snugly.cli.chat_lines import COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


def is_dialogue() -> bool:
    """Whether a person sits at both ends, on a terminal that can move its cursor."""
    return (
        sys.stdin.isatty()
        and sys.stdout.isatty()
        and os.environ.get("TERM", "") not in ("dumb", "unknown")
    )


class Reader(Protocol):
    """Where the next question or command comes from."""

    async def line(self) -> str:
        """One entry, which may have several lines.

        Raises: EOFError when there are no more; KeyboardInterrupt on Ctrl-C at a prompt.
        """
        ...


class Editor:
    """A line editor with history, several lines and whole pastes.

    Entries are remembered in `remember`, readable by this user only; where that cannot
    be written they are remembered until the end of the program.
    """

    def __init__(self, remember: Path) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        self._session: PromptSession[str] = PromptSession(
            history=_history(remember),
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation="  ",
            completer=WordCompleter([f"/{name}" for name in COMMANDS], sentence=True),
            complete_while_typing=False,
            enable_suspend=True,
        )

    async def line(self) -> str:
        """One entry from the person."""
        return await self._session.prompt_async("> ")


def _history(path: Path) -> "History":
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        with contextlib.closing(os.fdopen(handle, "rb")):
            if os.name == "posix":
                os.fchmod(handle, 0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys() -> "KeyBindings":
    """Enter sends; Alt-Enter, Ctrl-J or a backslash before Enter adds a line; Esc leaves."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def add_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("escape")
    def leave_or_clear(event: "KeyPressEvent") -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError)

    return keys


class Lines:
    """Lines from a pipe, a file or a dumb terminal; a backslash at the end joins two.

    Reads the descriptor in a thread that may be left behind at exit: Python's own
    stdin object would hold a lock then, and abort the interpreter.
    """

    def __init__(self, descriptor: int = 0, prompt: Callable[[], None] | None = None) -> None:
        self._descriptor = descriptor
        self._prompt = prompt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[str] = []
        self._rest = ""
        self._ended = False
        self._pending: asyncio.Future[None] | None = None

    async def line(self) -> str:
        """One entry from the pipe."""
        if self._prompt is None:
            return await self._entry()
        try:
            async with stoppable():
                return await self._entry()
        except Stopped:
            print(file=sys.stderr)  # what was typed, and ^C, end here
            raise KeyboardInterrupt from None

    async def _entry(self) -> str:
        entry = ""
        while True:
            if self._prompt is not None:
                self._prompt()
            while not self._waiting:
                if self._ended:
                    raise EOFError
                await self._more()
            part = self._waiting.pop(0)
            if not part.endswith("\\"):
                return entry + part
            entry += part[:-1] + "\n"

    async def _more(self) -> None:
        """Wait for the next piece; one thread reads at a time, even after a Ctrl-C."""
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            pending = self._pending

            def read() -> None:
                try:
                    data = os.read(self._descriptor, 65536)
                except OSError:
                    data = b""
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._take, data, pending)

            threading.Thread(target=read, daemon=True, name="stdin").start()
        await asyncio.shield(self._pending)

    def _take(self, data: bytes, pending: "asyncio.Future[None]") -> None:
        self._ended = not data
        text = self._rest + self._decoder.decode(data, final=self._ended)
        *whole, self._rest = text.split("\n")
        if self._ended and self._rest:
            whole.append(self._rest)
            self._rest = ""
        self._waiting += [line.removesuffix("\r") for line in whole]
        self._pending = None
        if not pending.done():
            pending.set_result(None)


@contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Keys typed while no line is asked for are neither echoed into the output nor lost.

    Ctrl-C still interrupts. Carriage return stays what it is: turned into a newline it
    would mean "add a line" to the editor, which reads the keys afterwards.
    """
    if os.name != "posix":
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


@contextmanager
def patient_interrupts() -> Iterator[None]:
    """Ctrl-C between an answer and the next prompt is one too many, not the end."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
