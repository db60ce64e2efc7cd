"""Fetching a model for a client: progress in lines, while the bytes come in a thread."""

import asyncio
from collections.abc import AsyncGenerator

from snugly.errors import SnuglyError, UserError
from snugly.model.pull import pull
from snugly.model.refs import RefKind, parse
from snugly.model.store import Store
from snugly.server.dialects.faults import ollama_error
from snugly.server.dialects.ollama_models import pull_line
from snugly.server.dialects.sending import line
from snugly.server.service import Service

_EVERY_SECONDS = 0.2


class _Watched:
    """What a pull tells, for whoever looks now and then."""

    def __init__(self) -> None:
        self.label, self.total, self.done = "pulling manifest", 0, 0

    def begin(self, label: str, total: int, done: int) -> None:
        """A task starts."""
        self.label, self.total, self.done = label, total, done

    def advance(self, n_bytes: int) -> None:
        """It goes on."""
        self.done += n_bytes

    def end(self) -> None:
        """It is over."""

    def say(self, text: str) -> None:
        """A remark: its lines are Ollama's, which have no place for one."""


async def pulled(service: Service, name: str) -> AsyncGenerator[bytes, None]:
    """Lines that tell how a pull goes; the last says "success", or what went wrong.

    A client that leaves does not stop it: what is there when it comes again is kept.

    Raises: UserError for a path: files of this machine are not taken in from outside.
    """
    if parse(name).kind is RefKind.PATH:
        raise UserError(f"{name[:200]!r} is a path.", "Only names of models can be pulled here.")
    watched = _Watched()
    store = Store(service.config.store)
    task = asyncio.create_task(asyncio.to_thread(pull, name, store, service.config, watched))
    yield pull_line(watched.label)
    try:
        while not (await asyncio.wait({task}, timeout=_EVERY_SECONDS))[0]:
            total, done = watched.total, max(0, min(watched.done, watched.total))
            yield pull_line(watched.label, "0" * 64 if total else "", total, done)
        installed = task.result()
    except SnuglyError as error:
        yield line(ollama_error(error))
        return
    finally:
        task.add_done_callback(_looked_at)
    service.shelf.forget()
    sha, size = installed.provenance.sha256, installed.provenance.n_bytes
    yield pull_line(f"pulling {sha[:12]}", sha, size, size)
    yield pull_line("verifying sha256 digest")
    yield pull_line("success")


def _looked_at(task: "asyncio.Task[object]") -> None:
    if not task.cancelled():
        task.exception()
