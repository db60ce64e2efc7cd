"""One model's place in the pool: what runs in it, who uses it, and how often it crashed."""

import asyncio
import math
from dataclasses import dataclass, field

from snugly.engine.types import Mode, Running
from snugly.errors import EngineError
from snugly.model.types import Installed, ModelSpec
from snugly.plan.types import Plan

# Kubernetes waits 10 s, doubled up to 5 minutes; a person waits for an answer: from 1 s.
_FIRST_BACK_OFF = 1.0
_LONGEST_BACK_OFF = 60.0
_FORGIVEN_AFTER = 300.0  # a crash longer ago than this says nothing about the next


class NotNow(EngineError):
    """It cannot be done right now. `retry_after` is in whole seconds."""

    def __init__(self, problem: str, because: str, remedy: str, retry_after: int) -> None:
        super().__init__(problem, because, remedy)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is loaded. `expires_in` is in seconds, None: never."""

    key: str
    ref: str
    mode: Mode
    plan: Plan
    spec: ModelSpec
    installed: Installed
    pid: int
    in_use: int
    expires_in: float | None
    pinned: bool
    load_ms: float
    peak_bytes: int | None


@dataclass(eq=False, slots=True)
class Seat:
    """The state of one model. `lock` is held by whoever starts or stops it.

    `plan` without `running` means that it is being loaded: its bytes are taken. `closing`
    lets nobody in while it is drained.
    """

    key: str
    installed: Installed
    spec: ModelSpec
    mode: Mode
    keep_alive: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    running: Running | None = None
    plan: Plan | None = None
    leases: int = 0
    waiting: int = 0
    last_used: float = 0.0
    load_ms: float = 0.0
    pinned: bool = False
    closing: bool = False
    asked_context: int = 0  # the longest that was tried: asking again changes nothing
    crashes: list[float] = field(default_factory=list)
    cause: str = ""

    def usable(self, wanted: int | None) -> bool:
        """Whether a request that wants so long a context can be let in now."""
        if self.running is None or self.plan is None or self.closing or not self.running.alive:
            return False
        return wanted is None or wanted <= max(self.plan.context, self.asked_context)

    @property
    def idle(self) -> bool:
        """Whether it could be stopped without anybody noticing."""
        return self.running is not None and self.leases == 0 and self.waiting == 0

    def expired(self, now: float) -> bool:
        """Whether nobody has used it for as long as it was to be kept."""
        if self.pinned or self.keep_alive < 0 or self.leases or self.waiting:
            return False
        return now - self.last_used >= self.keep_alive

    def loaded(self, now: float, load_ms: float) -> None:
        """Note that it is up."""
        self.last_used, self.load_ms, self.closing = now, load_ms, False

    def crashed(self, now: float, cause: str) -> None:
        """Note that it died, or would not start."""
        self.crashes = [t for t in self.crashes if now - t < _FORGIVEN_AFTER] + [now]
        self.cause = cause

    def hold_back(self, now: float) -> None:
        """Refuse to start what crashes again and again: after the second time it waits.

        Raises: NotNow with the time that is left.
        """
        recent = [t for t in self.crashes if now - t < _FORGIVEN_AFTER]
        if len(recent) < 2:
            return
        pause = min(_LONGEST_BACK_OFF, _FIRST_BACK_OFF * 2 ** (len(recent) - 2))
        left = recent[-1] + pause - now
        if left > 0:
            raise NotNow(
                f"{self.key} has crashed {len(recent)} times in the last five minutes.",
                self.cause,
                f"It is started again in {left:.0f} seconds at the earliest.",
                retry_after=max(1, math.ceil(left)),
            )

    async def drain(self, seconds: float | None) -> None:
        """Let nobody in until the last one is out. Raises: TimeoutError."""
        self.closing = True
        try:
            async with asyncio.timeout(seconds):
                while self.leases:
                    self.drained.clear()
                    await self.drained.wait()
        except BaseException:
            self.closing = False
            raise

    async def end(self) -> None:
        """Stop what runs; its bytes are free when this returns."""
        running, self.running = self.running, None
        self.closing = False
        try:
            if running is not None:
                await running.stop()
        finally:
            self.plan = None
            self.asked_context = 0

    def task_done(self, task: "asyncio.Task[None]") -> None:
        """Forget the attempt to bring it up; its waiters have its outcome."""
        self.task = None
        if not task.cancelled():
            task.exception()  # whoever waited for it has left: nobody else will look

    def resident(self, now: float) -> Resident | None:
        """What can be told of it; None when it is not loaded."""
        if self.running is None or self.plan is None or not self.running.alive:
            return None
        left = None
        if self.keep_alive >= 0 and not self.pinned:
            left = self.keep_alive - (0.0 if self.leases else now - self.last_used)
        return Resident(
            self.key, self.installed.ref, self.mode, self.plan, self.spec, self.installed,
            self.running.pid, self.leases, left, self.pinned, self.load_ms,
            self.running.peak_bytes(),
        )  # fmt: skip
