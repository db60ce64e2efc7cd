"""Runs a tool of the build: its output into a log, its end with ours."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from snugly.errors import EngineError

_LOG_LINES = 6  # of the compiler's errors, for the person
_GRACE_SECONDS = 5.0  # for ninja to remove what is half written

Steps = Callable[[int, int, str], None]  # how many of how many, and what is being done


def run(words: Sequence[str], log: Path, mode: str, steps: Steps) -> None:
    """Run a tool, its output into `log`, its "[3/220]" to `steps`.

    Whatever ends this process but SIGKILL ends the tool and all compilers that it started.

    Raises: EngineError with its last errors.
    """
    with open(log, mode, encoding="utf-8") as file, _told_to_end():
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", start_new_session=sys.platform != "win32",
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"{words[0]} cannot be run.", f"{error.strerror}.") from error
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                if at := re.match(r"\[(\d+)/(\d+)\] (.*)", line):
                    steps(int(at[1]), int(at[2]), at[3].strip())
        except BaseException:
            _end(process)
            raise
        finally:
            process.stdout.close()
            process.wait()
    if process.returncode:
        raise EngineError(
            "llama.cpp could not be compiled.",
            trouble(log.read_text(encoding="utf-8", errors="replace")),
            f"The whole log is {log}. An official build: `snugly engine build --prebuilt`.",
        )


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM is an exception while the block runs, so that nothing is left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: "subprocess.Popen[str]") -> None:
    """End the tool and its compilers: TERM, then KILL."""
    if sys.platform == "win32":
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def trouble(log: str) -> str:
    """The lines of a build's log that say what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"\berror\b|not found|Killed", line, re.IGNORECASE)]
    return " / ".join((told or lines or ["it said nothing"])[:_LOG_LINES])[:600]
