"""What every route needs: models to lend, the queue before them, and the books."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from snugly.chat.types import ChatRequest
from snugly.engine.pool import Lease, Pool
from snugly.engine.seat import NotNow
from snugly.engine.types import Mode, Running
from snugly.errors import SnuglyError
from snugly.history.db import now
from snugly.server.admission import USUAL_ANSWER, Admission, Share
from snugly.server.calls import Call
from snugly.server.dialects.faults import HttpFault, status_of
from snugly.server.ledger import Ledger
from snugly.server.logs import request_fields
from snugly.server.metrics import Metrics
from snugly.server.shelf import Shelf, Volume
from snugly.settings import Settings

# Of a slot's equal part of the context, what a prompt may take at most uncounted: bytes stand for
# tokens then, four times too many in English, and the answer still has the other half. Longer ones
# are counted, by the engine in some milliseconds, which is little beside reading them.
_UNCOUNTED = 1 / 2

# Asked every few seconds by whoever watches the server: the log would hold little else.
_WATCHED = frozenset({"/health", "/ready", "/metrics"})

log = logging.getLogger("snugly.server")


@dataclass(frozen=True, slots=True)
class Lent:
    """A model in use by one request, with a slot of its engine."""

    lease: Lease
    volume: Volume
    name: str  # what the client called it
    wait_ms: float
    share: Share  # of the context


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a context a request takes, in tokens.

    `most` is what its prompt has at most, `count` counts it; `answer` as its client wants it,
    None: as long as it gets.
    """

    most: int
    count: Callable[[Running], Awaitable[int]]
    answer: int | None


class Service:
    """The server without HTTP."""

    def __init__(self, config: Settings, pool: Pool, shelf: Shelf, ledger: Ledger) -> None:
        self.config = config
        self.pool = pool
        self.shelf = shelf
        self.ledger = ledger
        self.admission = Admission(config.serve_queue)
        self.metrics = Metrics()
        self.default_ref = ""  # the model for requests that name none
        self.token = ""

    # ---- models

    async def volume(self, name: str) -> Volume:
        """The model that a client names; the default one where it names none.

        Raises: UnknownModel, UserError, BadModelFile.
        """
        if not name:
            return await self._default()
        known = self.shelf.fresh(name)
        return known if known is not None else await asyncio.to_thread(self.shelf.find, name)

    async def _default(self) -> Volume:
        if self.default_ref:
            return await self.volume(self.default_ref)
        for resident in self.pool.residents():
            if resident.mode == "generate":
                return await self.volume(resident.ref)
        return await asyncio.to_thread(self.shelf.default)

    @asynccontextmanager
    async def lend(
        self,
        call: Call,
        name: str,
        mode: Mode = "generate",
        *,
        context: int | None = None,
        keep_alive: float | None = None,
        size: Size | None = None,
    ) -> AsyncIterator[Lent]:
        """A model, and one of its slots, once it is this request's turn.

        `size` is what a prompt and its answer take of the context; None: a usual answer's.

        Raises: HttpFault 503 when the queue is full or memory is in use; what finding,
        planning and starting raise.
        """
        volume = await self.volume(name)
        _check_mode(volume, mode)
        call.note(model=volume.installed.ref)
        async with AsyncExitStack() as stack:
            with ExitStack() as queue:
                queue.enter_context(self.admission.waits())
                lease = await stack.enter_async_context(
                    self.pool.lease(
                        volume.installed,
                        volume.spec,
                        mode,
                        context=context,
                        keep_alive=keep_alive,
                    )
                )
                room = lease.plan.context
                slots = max(1, lease.plan.setup.n_seq)
                turns = self.admission.turns(lease.key, slots, room)
                prompt = await _prompt_tokens(lease, size, room // slots) if size else 0
                answer = size.answer if size else min(USUAL_ANSWER, room // 4)
                share = await stack.enter_async_context(turns.turn(call.client, prompt, answer))
            stack.enter_context(self.admission.runs())
            wait_ms = max(0.0, call.spent_ms() - lease.load_ms)
            call.note(wait_ms=wait_ms, load_ms=lease.load_ms)
            yield Lent(lease, volume, name or volume.name, wait_ms, share)
            call.note(peak_bytes=lease.running.peak_bytes())

    # ---- the books

    async def settled(self, call: Call, outcome: str, status: int, error: str = "") -> None:
        """Write down how a request went, once."""
        if call.asked.outcome != "running":
            return
        call.note(
            outcome=outcome, status=status, error=error[:500], ended_at=now(),
            total_ms=call.spent_ms(),
        )  # fmt: skip
        self._count(call)
        if call.line is not None:
            await self.ledger.settle(call.line, call.asked)

    async def failed(self, call: Call, error: SnuglyError) -> None:
        """Write down that a request failed."""
        status = status_of(error)
        await self.settled(call, "failed" if status >= 500 else "refused", status, error.problem)

    def _count(self, call: Call) -> None:
        asked, metrics = call.asked, self.metrics
        metrics.requests[(call.route, asked.status or 0)] += 1
        metrics.prompt_tokens += asked.prompt_tokens or 0
        metrics.completion_tokens += asked.completion_tokens or 0
        metrics.cached_tokens += asked.cached_tokens or 0
        metrics.cancelled += asked.outcome == "cancelled"
        if asked.ttft_ms is not None:
            metrics.first_token.observe(asked.ttft_ms / 1000)
        watched = call.route in _WATCHED and asked.outcome == "done"
        log.log(
            logging.DEBUG if watched else logging.INFO,
            "%s %s %s %s %s %.0f ms", call.client, call.route, asked.model or "-",
            asked.status, asked.outcome, asked.total_ms or 0.0,
            extra={"fields": request_fields(call.id, call.route, asked)},
        )  # fmt: skip

    def gauges(self) -> dict[str, tuple[str, float]]:
        """The state of the moment."""
        residents = self.pool.residents()
        return {
            "models_loaded": ("Models in memory.", len(residents)),
            "planned_bytes": (
                "Bytes that loaded models are planned to take.",
                sum(r.plan.estimate.total_bytes for r in residents),
            ),
            "requests_waiting": ("Requests in the queue.", self.admission.waiting),
            "requests_running": ("Requests being answered.", self.admission.running),
        }


def advise(request: ChatRequest, volume: Volume) -> ChatRequest:
    """The request with what the model's makers recommend, where the client says nothing.

    Temperature 0 asks for the most probable words, as evaluations do: no penalty changes them.
    """
    known = volume.sampling
    changes: dict[str, Any] = {}
    if request.temperature is None and known.temperature is not None:
        changes["temperature"] = known.temperature
    greedy = request.temperature == 0
    if request.repeat_penalty is None and known.repeat_penalty is not None and not greedy:
        changes["repeat_penalty"] = known.repeat_penalty
    return replace(request, **changes) if changes else request


async def _prompt_tokens(lease: Lease, size: Size, part: int) -> int:
    """Tokens of a prompt, or a bound of them where they are few beside a slot's `part`."""
    if lease.plan.setup.n_seq <= 1 or size.most <= part * _UNCOUNTED:
        return size.most
    # One that is too long is shortened, where its client allows that, or refused by the engine.
    return min(await size.count(lease.running), lease.plan.context)


def _check_mode(volume: Volume, mode: Mode) -> None:
    made_for = volume.spec.made_for
    if mode in ("generate", "score") and made_for:
        what = "scores documents" if made_for == "rerank" else "turns text into vectors"
        raise HttpFault(
            422,
            f"{volume.name} cannot write text.",
            f"By its header ({volume.spec.architecture}) it {what}.",
            "Take a chat model.",
        )
    if mode == "rerank" and made_for != "rerank":
        raise HttpFault(
            422,
            f"{volume.name} cannot tell how relevant a document is.",
            "It has no scoring head (cls.weight); whatever it said would mean nothing.",
            "Take a reranker, such as a bge-reranker or a Qwen3-Reranker.",
        )


def told(error: SnuglyError) -> SnuglyError:
    """An error of the engine's floor as clients should see it: with a time to try again."""
    if isinstance(error, NotNow):
        return HttpFault(
            503, error.problem, error.because, error.remedy, retry_after=error.retry_after
        )
    return error
