"""What grows over time: samples in order, a slope with its error, and whether it is flat."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Samples next to each other are alike: means of so many stretches are taken for independent.
_STRETCHES = 16
_WARM_UP = 0.25  # of the time: caches fill, allocators find their size
# Growth over the whole run that is nothing, as a share of the level: what an allocator's arenas
# move up and down by themselves (glibc gives back by 128 KiB, M_TRIM_THRESHOLD).
_NOTHING = 0.05
# Student's t for 95% on both sides and 14 degrees of freedom (16 stretches, two parameters).
_T = 2.145


@dataclass(frozen=True)
class Trend:
    """A straight line through samples. `slope` and its `error` are per hour."""

    first: float
    last: float
    most: float
    slope: float
    error: float
    hours: float

    @property
    def flat(self) -> bool:
        """No growth that is both surely there and more than a twentieth over the run."""
        level = max(abs(self.last), 1e-9)
        surely = self.slope - _T * self.error > 0
        return not surely or self.slope * self.hours <= _NOTHING * level

    def words(self, unit: str = "", scale: float = 1.0) -> str:
        """For the table: where it began and ended, and the slope with its error."""
        begin, end, most = (value / scale for value in (self.first, self.last, self.most))
        slope, error = self.slope / scale, self.error / scale
        return (
            f"{begin:.4g} to {end:.4g}{unit} (at most {most:.4g}), slope {slope:+.2g} ±"
            f" {error:.2g}{unit}/h"
        )


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """The line through (seconds, value), the first quarter of the time left out.

    Least squares over the means of equal stretches of time; the error is the slope's standard
    error. Raises: ValueError for fewer than three stretches with samples.
    """
    begin, end = samples[0][0], samples[-1][0]
    begin += _WARM_UP * (end - begin)
    stretches: list[list[tuple[float, float]]] = [[] for _ in range(_STRETCHES)]
    width = (end - begin) / _STRETCHES
    for when, value in samples:
        if when >= begin and width > 0:
            stretches[min(_STRETCHES - 1, int((when - begin) / width))].append((when, value))
    points = [
        (statistics.fmean(w for w, _ in part) / 3600, statistics.fmean(v for _, v in part))
        for part in stretches
        if part
    ]
    if len(points) < 3:
        raise ValueError("too few samples for a trend")
    fit = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    middle = statistics.fmean(x for x, _ in points)
    off = sum((y - fit.slope * x - fit.intercept) ** 2 for x, y in points) / (len(points) - 2)
    error = math.sqrt(off / sum((x - middle) ** 2 for x, _ in points))
    most = max(value for _, value in samples)
    hours = points[-1][0] - points[0][0]
    return Trend(points[0][1], points[-1][1], most, fit.slope, error, hours)
