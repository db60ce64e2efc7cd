import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.quantize.measure_loss import Chunk, cut, loss_of, losses


def logits(probabilities: list[list[float]]) -> np.ndarray:
    return np.log(np.array(probabilities, dtype=np.float32))


def test_half_a_bit_moved_costs_what_the_formula_says() -> None:
    found = losses(logits([[0.5, 0.5]]), logits([[0.75, 0.25]]), [0])
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found.kld[0] == pytest.approx(by_hand, abs=1e-6)
    assert found.nll_base[0] == pytest.approx(-math.log(0.5), abs=1e-6)
    assert found.nll[0] == pytest.approx(-math.log(0.75), abs=1e-6)


def test_equal_models_lose_nothing_and_always_agree() -> None:
    draw = np.random.default_rng(1).normal(size=(40, 300)).astype(np.float32) * 5
    found = losses(draw, draw + 7, list(range(40)))  # a constant changes no probability
    assert found.kld.max() < 1e-5
    assert found.same_top.min() == 1


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_the_loss_is_that_of_double_precision(seed: int, size: float) -> None:
    draw = np.random.default_rng(seed)
    base = draw.normal(size=(5, 50)).astype(np.float32) * 4
    other = base + draw.normal(size=base.shape).astype(np.float32) * np.float32(size)
    found = losses(base, other, [0, 1, 2, 3, 4])
    p, q = (np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))
            for x in (base.astype(np.float64), other.astype(np.float64)))  # fmt: skip
    assert found.kld == pytest.approx((p * np.log(p / q)).sum(axis=1), abs=1e-5)


def test_a_padded_vocabulary_is_cut_and_the_last_place_has_no_next_token() -> None:
    base = np.zeros((3, 6), dtype=np.float32)
    found = losses(base, base[:, :4], [1, 2])
    assert len(found.kld) == 2


def chunk(kld: list[float], same: float = 1.0) -> Chunk:
    values = np.array(kld)
    return Chunk(values, values * 0 + 1, values * 0 + 1.5, values * 0 + same)


def test_errors_come_from_the_spread_between_chunks() -> None:
    loss = loss_of([chunk([1, 1, 1, 1]), chunk([3, 3, 3, 3])])
    assert (loss.kld.value, loss.kld.error) == (2.0, 1.0)  # sd of (1, 3) is sqrt 2; by sqrt 2
    assert loss.kld_max == 3
    assert loss.perplexity_ratio.value == pytest.approx(math.exp(0.5))
    assert loss.perplexity_ratio.error == 0
    assert loss.places == 8


def test_one_chunk_has_no_error() -> None:
    assert math.isnan(loss_of([chunk([1, 2])]).kld.error)


def test_nothing_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        loss_of([])


def test_chunks_are_spread_over_the_text() -> None:
    tokens = list(range(100))
    assert [part[0] for part in cut(tokens, 10, 0)] == list(range(0, 100, 10))
    assert [part[0] for part in cut(tokens, 10, 3)] == [0, 40, 90]
    assert cut(tokens, 101, 0) == []
