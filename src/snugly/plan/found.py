"""What a search found: the recommendation, its alternatives, and what nothing beats. Pure."""

from dataclasses import dataclass
from functools import cached_property

from snugly.plan.preference import CLEARLY, PATIENT, beats, merits, pace, rate, shortened
from snugly.plan.tasks import Task
from snugly.plan.types import Candidate, Fit, Need


@dataclass(frozen=True)
class Found:
    """What a search found: of every candidate the best way to run it, or none."""

    need: Need
    task: Task
    fits: tuple[Fit, ...]  # best first
    unfit: tuple[Candidate, ...]  # of no candidate that is in `fits`

    @cached_property
    def front(self) -> tuple[Fit, ...]:
        """The recommendation, and what nothing beats in quality, speed, wait and context."""
        kept: list[Fit] = []
        own = {id(fit): merits(fit, self.task) for fit in self.fits}
        for fit in sorted(self.fits, key=lambda fit: own[id(fit)], reverse=True):
            # who beats it came before it
            if fit is self.best or not any(beats(own[id(one)], own[id(fit)]) for one in kept):
                kept.append(fit)
        places = {id(fit): place for place, fit in enumerate(self.fits)}
        return tuple(sorted(kept, key=lambda fit: places[id(fit)]))

    @property
    def best(self) -> Fit | None:
        """The recommendation."""
        return self.fits[0] if self.fits else None

    @property
    def faster(self) -> Fit | None:
        """The best of those half as fast again as the recommendation; None: there is none.

        Its context is no shorter, and its first word is not late where the other's is not.
        """
        if self.best is None:
            return None
        wanted = 1.5 * rate(self.best, self.task)
        latest = max(self.task.patience_s, self.best.speed.first_token_s.expected)
        quick = [fit for fit in self._others(latest) if rate(fit, self.task) >= wanted]
        return max(quick, key=lambda fit: fit.candidate.quality, default=None)

    @property
    def better(self) -> Fit | None:
        """The quickest of those that answer clearly better than the recommendation; None: none.

        Not what is slower than a third of the pace, or later than three times the patience.
        """
        if self.best is None:
            return None
        wanted = self.best.candidate.quality + CLEARLY
        slowest = pace(self.need, self.task) / PATIENT
        good = [
            fit
            for fit in self._others(self.task.patience_s * PATIENT)
            if fit.candidate.quality >= wanted and rate(fit, self.task) >= slowest
        ]
        return max(good, key=lambda fit: rate(fit, self.task), default=None)

    def _others(self, latest_s: float) -> list[Fit]:
        """What is on the front, begins in time, and has no less of its context than the best."""
        cut = shortened(self.fits[0], self.need, self.task)
        return [
            fit
            for fit in self.front
            if fit.speed.first_token_s.expected <= latest_s
            and shortened(fit, self.need, self.task) <= cut
        ]

    @property
    def by_model(self) -> tuple[Fit, ...]:
        """Of each model on the front its best way, best first."""
        seen: dict[str, Fit] = {}
        for fit in self.front:
            seen.setdefault(fit.candidate.model, fit)
        return tuple(seen.values())
