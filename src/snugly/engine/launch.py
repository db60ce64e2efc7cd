"""From a reference to a running model: find or fetch, plan, start. One function."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from snugly.engine.types import Running
from snugly.model.types import Installed
from snugly.plan.types import Plan


@dataclass(frozen=True, slots=True)
class Launched:
    """A model that is ready to answer, and what led to it."""

    running: Running
    plan: Plan
    installed: Installed


@asynccontextmanager
async def launched(
    ref: str | None,
    *,
    context: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Launched]:
    """Find the model that `ref` names (None: the best installed one), plan it, start it.

    `say` gets one line remarks for the person ("A better model would fit: ...").
    The engine is stopped when the block ends.

    Raises: UnknownModel, BadModelFile, DoesNotFit, EngineError, DownloadError.
    """
    raise NotImplementedError
    yield
