"""The one seam to the outside: reading small files under a root, running tools with a limit."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

TOOL_SECONDS = 4.0  # nvidia-smi needs 2 s where the driver is not kept loaded
MAX_FILE = 2_000_000


class NoAnswer(Exception):
    """A tool or library that could not be asked; the message says why."""


def run_tool(tool: str, *args: str) -> str:
    """Standard output of a tool.

    Raises: NoAnswer when it is not installed, fails, or does not answer in TOOL_SECONDS. A
    tool that hangs in a broken driver is left behind, not waited for.
    """
    try:
        process = subprocess.Popen(
            [tool, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise NoAnswer(f"{tool} is not installed") from None
    except OSError as error:
        raise NoAnswer(f"{tool} cannot be started: {error.strerror}") from None
    try:
        output, _ = process.communicate(timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        if process.stdout:
            process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)  # stuck in a driver it cannot even die
        raise NoAnswer(f"{tool} did not answer in {TOOL_SECONDS:.0f} s") from None
    if process.returncode != 0 and not output.strip():
        raise NoAnswer(f"{tool} failed with exit code {process.returncode}")
    return output


@dataclass(frozen=True, slots=True)
class Host:
    """The machine as it is asked: tests give another root, other tools, another system."""

    root: Path = Path("/")
    run: Callable[..., str] = run_tool
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    system: str = sys.platform  # "linux", "darwin", "win32"

    def path(self, path: str) -> Path:
        """Where an absolute path of the machine is, under `root`."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """The text of a small file, or None when it cannot be read."""
        data = self.read_bytes(path)
        return None if data is None else data.decode("utf-8", "replace")

    def read_bytes(self, path: str) -> bytes | None:
        """The first bytes of a file, or None when it cannot be read."""
        try:
            with open(self.path(path), "rb", buffering=0) as file:
                data = b""
                while len(data) < MAX_FILE and (part := file.read(65536)):
                    data += part
                return data
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; empty when there is no such folder."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def files(self, paths: Iterable[str]) -> dict[str, str]:
        """The texts of those of `paths` that can be read."""
        return {path: text for path in paths if (text := self.read(path)) is not None}


class Task(Generic[T]):
    """A question asked in a thread of its own, so that one that hangs delays nothing.

    The thread is a daemon: a library stuck in a broken driver does not keep the process.
    """

    def __init__(self, name: str, question: Callable[[], T]) -> None:
        self._name = name
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask, args=(question,), daemon=True)
        self._thread.start()

    def _ask(self, question: Callable[[], T]) -> None:
        try:
            self._answer.append(question())
        except BaseException as error:
            self._error = error

    def result(self, seconds: float) -> T:
        """The answer.

        Raises: NoAnswer when it does not come in `seconds`; what the question raised.
        """
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        if not self._answer:
            raise NoAnswer(f"{self._name} did not answer in {seconds:.0f} s")
        return self._answer[0]
