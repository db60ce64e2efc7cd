"""Calibration by itself: while a server has nothing to do and the machine is quiet."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from snugly.engine import calibrate_store
from snugly.engine.calibrate import bench_for, calibrate
from snugly.engine.calibrated import identity
from snugly.engine.registry import NATIVE, WHEEL, chosen
from snugly.engine.seat import Resident
from snugly.errors import SnuglyError
from snugly.machine.power import strained
from snugly.machine.types import Machine
from snugly.plan.calibration import class_of
from snugly.settings import Settings

SECONDS = 60.0  # for each class of models, as `snugly tune-machine` takes
_QUIET_SECONDS = 30.0  # without an answer before it begins
_LOOK_SECONDS = 0.2  # how soon it makes way for a request
_AGAIN_SECONDS = 60.0  # after it found the machine busy
_ENOUGH_ROUNDS = 2  # before one round's luck is believed (plan.calibration)
_ROOM = 1.2  # of a loaded model's bytes: what has to be free for a second one


@dataclass(slots=True)
class Quietly:
    """Measures one class of models after the other, in pieces, as long as nobody wants anything.

    `look` sees the machine; `residents` tells what is loaded; while something is measured, the
    context that `alone` makes is open.
    """

    settings: Settings
    look: Callable[[], Machine]
    residents: Callable[[], Sequence[Resident]]
    alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    _left: dict[str, float] = field(default_factory=dict)
    _seen: tuple[float, ...] = ()
    _since: float = 0.0

    async def run(self) -> None:
        """Go on until cancelled; whatever fails leaves everything as it was."""
        while True:
            await asyncio.sleep(1.0)
            if self._idle_for() < _QUIET_SECONDS or strained():
                continue
            with contextlib.suppress(SnuglyError, OSError):
                await self._once()
            await asyncio.sleep(_AGAIN_SECONDS)

    def _idle_for(self) -> float:
        """Seconds since an engine last computed: requests between two looks count too."""
        import psutil

        worked = []
        for resident in self.residents():
            if resident.in_use:
                self._seen = ()
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(resident.pid).cpu_times()
                worked.append(round(times.user + times.system, 1))
        now = time.monotonic()
        if tuple(worked) != self._seen or not worked:
            self._seen, self._since = tuple(worked), now
        return now - self._since

    async def _once(self) -> None:
        """Measure with one loaded model, if there is room for it twice and time left."""
        machine = await asyncio.to_thread(self.look)
        mark = identity(self.settings, machine)
        for resident in self.residents():
            kind = class_of(resident.spec)
            left = self._left.get(kind, SECONDS)
            known = calibrate_store.load(self.settings.cache, mark, kind)
            done = known is not None and known.rounds >= _ENOUGH_ROUNDS
            needed = _ROOM * resident.plan.estimate.total_bytes
            fits = machine.memory.available_bytes.or_else(0) > needed
            if resident.mode != "generate" or done or left <= 1 or not fits:
                continue
            if resident.plan.gpu_layers or chosen(self.settings) not in (NATIVE, WHEEL):
                continue  # what is varied are settings of the CPU
            bench = bench_for(resident.plan, resident.spec, self.settings, machine, left)
            begun = time.monotonic()
            try:
                with self.alone():
                    await self._until_asked(
                        calibrate(
                            bench, known, kind, lambda *_: None,
                            lambda now: calibrate_store.save(self.settings.cache, mark, now),
                        )
                    )  # fmt: skip
            finally:
                self._left[kind] = left - (time.monotonic() - begun)
            return

    async def _until_asked(self, work: Coroutine[Any, Any, object]) -> None:
        """Let `work` go on until somebody asks something."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=_LOOK_SECONDS)
                if any(resident.in_use for resident in self.residents()):
                    break
            if task.done():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SnuglyError):
                await task
