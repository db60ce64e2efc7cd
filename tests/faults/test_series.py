"""What counts as growth: a straight line through noise, with its error."""

from random import Random

import pytest

from tests.faults.series import trend


def samples(grows: float, noise: float = 1.0, level: float = 100.0) -> list[tuple[float, float]]:
    """20 minutes of looks, each second; `grows` is per hour."""
    dice = Random(41)
    return [(t, level + grows * t / 3600 + dice.gauss(0, noise)) for t in range(1200)]


def test_a_slope_is_found_with_its_error() -> None:
    found = trend(samples(grows=60))
    assert found.slope == pytest.approx(60, abs=3 * found.error)
    assert 0 < found.error < 5
    assert not found.flat  # 20 in 20 minutes is a fifth


def test_noise_is_flat_and_so_is_what_is_next_to_nothing() -> None:
    assert trend(samples(grows=0)).flat
    assert trend(samples(grows=6, noise=0.01)).flat  # sure, but 2 in 100 over the run


def test_what_fills_in_the_first_quarter_is_no_growth() -> None:
    filling = [(t, min(t, 250.0) + Random(t).random()) for t in range(1200)]
    assert trend(filling).flat


def test_a_line_through_two_points_has_no_error() -> None:
    with pytest.raises(ValueError, match="too few"):
        trend([(0, 1), (1, 1)])
