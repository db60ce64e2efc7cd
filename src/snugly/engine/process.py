"""A supervised process: started with a deadline, its last words kept, stopped for sure."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from snugly.engine.address import Address
from snugly.engine.crash import explain
from snugly.errors import EngineError

TERM_GRACE_SECONDS = 2.0
_TAIL_BYTES = 32 * 1024
# What an engine may see of our environment: nothing that could hold a secret.
_KEPT_ENVIRONMENT = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "PYTHONHOME", "PYTHONPATH",
    "PYTHONUSERBASE", "VIRTUAL_ENV", "APPDATA", "LOCALAPPDATA", "USERPROFILE",
)  # fmt: skip
# How long a thread spins for the others before it sleeps. GNU OpenMP's own 300,000 rounds
# make every layer wait a time slice when another program takes a core: 130 tokens/s become
# 0.8. With 1,000 it is 33, for 6 to 8% on a quiet machine (bench/busy.py, docs/journal.md).
_SPIN_ROUNDS = "1000"


def engine_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of an engine: a short list of names, never keys or tokens."""
    kept = {name: environment[name] for name in _KEPT_ENVIRONMENT if name in environment}
    if "OMP_WAIT_POLICY" not in kept:
        kept.setdefault("GOMP_SPINCOUNT", _SPIN_ROUNDS)
    # Without it, ggml's abort() forks a debugger to print a stack trace.
    return kept | {"GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}


class EngineProcess:
    """One engine process. `start` it, use its address, `stop` it."""

    def __init__(self, command: Sequence[str], address: Address) -> None:
        self.address = address
        self._command = [*command, str(os.getpid())]
        self._process: asyncio.subprocess.Process | None = None
        self._tail = bytearray()
        self._drain: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the process is there and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def last_words(self) -> str:
        """Why it ended, in words; empty while it is running."""
        if self._process is None or self._process.returncode is None:
            return ""
        return explain(self._process.returncode, self._tail.decode(errors="replace"))[0]

    async def start(self, config: dict[str, Any], deadline_seconds: float) -> None:
        """Start, hand over the configuration, and wait until the engine listens.

        Raises: EngineError with the cause; the process is gone then.
        """
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._spawn(config)
                listening = await self._listening()
        except TimeoutError:
            await self.stop()
            raise EngineError(
                "The engine did not get ready.",
                f"It was given {deadline_seconds:.0f} seconds to load the model and was stopped.",
                "A slow disk may need longer: set SNUGLY_ENGINE_START_SECONDS.",
            ) from None
        except BaseException:
            await self.stop()
            raise
        if not listening:
            raise await self.failure("The engine could not load the model.")

    async def _spawn(self, config: dict[str, Any]) -> None:
        # A session of its own: Ctrl-C in the terminal is for us, not for the engine,
        # and whatever the engine starts can be killed with it. On Linux the engine asks
        # to die with the *thread* that runs this line, so it must outlive the engine.
        new_group = 0x200 if sys.platform == "win32" else 0  # CREATE_NEW_PROCESS_GROUP
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=engine_environment(dict(os.environ)),
                start_new_session=sys.platform != "win32",
                creationflags=new_group,
            )
        )
        try:
            self._process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # The process may exist already: we must know it, to be able to stop it.
            self._process = await spawning
            raise
        except OSError as error:
            raise EngineError(
                "The engine could not be started.", f"{self._command[0]}: {error.strerror}."
            ) from error
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._drain = asyncio.create_task(self._keep_tail(self._process.stderr))
        with contextlib.suppress(ConnectionError):  # it died at once: found while listening
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            await self._process.stdin.drain()

    async def _listening(self) -> bool:
        """Wait for the engine's line; False when it ended instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except ValueError:  # 64 KB without a line's end: not our protocol
            return False
        return b"listening" in line

    async def _keep_tail(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65536):
            self._tail += chunk
            del self._tail[:-_TAIL_BYTES]

    async def lives_on(self) -> bool:
        """Whether it is there although it broke off an answer, and takes connections."""
        assert self._process is not None
        # An abort() may take a moment to become an exit status.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 1.0)
        if self._process.returncode is not None:
            return False
        try:
            async with asyncio.timeout(5.0):
                _, writer = await self.address.connect()
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def failure(self, problem: str) -> EngineError:
        """The error for an engine that broke: waits for its end, then says why."""
        assert self._process is not None
        # An abort() may take a moment to become an exit status.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2.0)
        returncode = self._process.returncode
        await self.stop()
        cause, remedy = explain(returncode, self._tail.decode(errors="replace"))
        return EngineError(problem, cause, remedy)

    async def stop(self, grace_seconds: float = TERM_GRACE_SECONDS) -> None:
        """End the process: TERM, then KILL after the grace. Safe to call at any time."""
        process = self._process
        try:
            if process is not None and process.returncode is None:
                self._signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), grace_seconds)
        finally:  # also when we are cancelled
            if process is not None and process.returncode is None:
                self._kill()
            self.address.release()
        if process is not None:
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._drain is not None:
            await self._drain

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.terminate()
            else:
                os.killpg(self._process.pid, number)

    def _kill(self) -> None:
        if sys.platform == "win32":
            self._signal(signal.SIGTERM)  # TerminateProcess, which nothing can ignore
        else:
            self._signal(signal.SIGKILL)
