"""When a loaded model is better started anew: other programs took cores, or left them.

An engine's threads are chosen when it starts. With a core less than threads each of them waits
for the one that shares (bench/busy.py: a hundredth of the speed at worst); with a core more,
half of a prompt's speed lies idle. What a slot has read goes with it (`engine.prefix_running`).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from snugly.engine.types import Running
from snugly.machine.types import Machine, measured
from snugly.plan.threads import threads
from snugly.plan.types import Plan

_MEMORY_SECONDS = 4.0  # of the mean over time
# How long a change has to last: one that came is a factor of four, one that went of two at
# most, and programs that work often pause.
_FEWER_SECONDS, _MORE_SECONDS = 5.0, 20.0
_APART_SECONDS = 60.0  # between two starts for this reason: a start costs about a second
_PATIENCE_SECONDS = 30.0  # after which nobody new is let in until it is done
_MARGIN = 0.15  # cores beyond the middle between two counts, so that neither is left by noise

Work = Callable[[Iterable[int]], tuple[float, float]]


@dataclass(slots=True)
class Load:
    """Cores that other programs take, as a mean over the last seconds.

    `work` gives seconds that all cores have worked so far, and those of us and the engines
    whose process ids it is given.
    """

    work: Work
    cores: float = 0.0
    _before: tuple[float, float, float, tuple[int, ...]] | None = None

    def look(self, now: float, pids: Iterable[int]) -> None:
        """Take what was worked since the last look into the mean."""
        known = tuple(sorted(pids))
        every, ours = self.work(known)
        if self._before is not None and self._before[3] == known:
            then, every_then, ours_then, _ = self._before
            span = now - then
            if span <= 0:
                return
            others = max(0.0, (every - every_then) - (ours - ours_then)) / span
            part = min(1.0, span / _MEMORY_SECONDS)
            self.cores += part * (others - self.cores)
        self._before = (now, every, ours, known)

    def forget(self) -> None:
        """What is worked before the next look counts for nothing."""
        self._before = None


@dataclass(slots=True)
class _Wish:
    """What is wanted of one running model, and since when."""

    running: Running
    target: int = 0
    since: float = 0.0


@dataclass(slots=True)
class Steering:
    """Decides; the pool acts. `machine` is the box, whatever load it was seen under."""

    load: Load
    machine: Machine | None = None  # nothing is due until it is known
    paused: bool = False
    _wishes: dict[str, _Wish] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def left_alone(self) -> Iterator[None]:
        """Nothing is started anew in this block: what takes cores is ours."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False
            self.load.forget()

    def free(self, present: int) -> int:
        """How many threads suit the load now; `present` stays near the middle between two."""
        down = self._threads(max(0.0, self.load.cores - _MARGIN))
        up = self._threads(self.load.cores + _MARGIN)
        return down if present > down else up if present < up else present

    def _threads(self, cores: float) -> int:
        assert self.machine is not None
        cpu = replace(self.machine.cpu, load=measured(cores, "other programs, mean of seconds"))
        return threads(replace(self.machine, cpu=cpu))[0]

    def due(self, key: str, running: Running, plan: Plan, now: float) -> float | None:
        """For how many seconds it has been due that a model is started anew; None: it is not."""
        wish = self._wishes.get(key)
        if wish is None or wish.running is not running:
            self._wishes[key] = wish = _Wish(running)
        soon = now - self._started.get(key, -_APART_SECONDS) < _APART_SECONDS
        if costs(running):
            return None if soon else _PATIENCE_SECONDS
        if self.machine is None or not plan.free_cores or _on_gpu(plan):
            return None
        target = self.free(plan.free_cores)
        if target == plan.free_cores or soon:
            wish.target = 0
            return None
        if target != wish.target:
            wish.target, wish.since = target, now
        lasted = now - wish.since
        needed = _FEWER_SECONDS if target < plan.free_cores else _MORE_SECONDS
        return lasted - needed if lasted >= needed else None

    def began(self, key: str, now: float) -> None:
        """Note that it is started anew."""
        self._started[key] = now
        self._wishes.pop(key, None)


def _on_gpu(plan: Plan) -> bool:
    """Whether the CPU has less than half of the weights to read: its threads hardly matter."""
    in_ram = plan.estimate.uses[0].weights_bytes
    return plan.gpu_layers > 0 and 2 * in_ram < plan.estimate.weights_bytes


def urgent(due: float) -> bool:
    """Whether nobody new is let in until it is done."""
    return due >= _PATIENCE_SECONDS


def costs(running: Running) -> bool:
    """Whether guessing ahead has turned out to cost time in a running model."""
    guessed = getattr(running, "guessed", None)
    return guessed is not None and not guessed.pays


def work(pids: Iterable[int]) -> tuple[float, float]:
    """Seconds that all cores have worked, and those of this process and `pids`."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user already
    every = sum(times) - idle - guest
    own = psutil.Process().cpu_times()
    ours = own.user + own.system
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            engine = psutil.Process(pid).cpu_times()
            ours += engine.user + engine.system
    return every, ours
