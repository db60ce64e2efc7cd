"""The prediction is the sum that was fitted, and the table is what the fit gave."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
WORDS = ("Meta-Llama-3-8B", "gpt-oss-20b", "gemma-3-4b", "Qwen3-30B-A3B")


@pytest.fixture(scope="module")
def fit() -> Any:
    for folder in ("scripts", "bench"):
        sys.path.insert(0, str(ROOT / folder))
    try:
        import fit_speed  # type: ignore[import-not-found]

        yield fit_speed
    finally:
        del sys.path[:2]


@pytest.fixture(scope="module")
def rows(fit: Any) -> Any:
    return fit.rows()


def test_a_prediction_is_the_fitted_sum(fit: Any, rows: Any) -> None:
    from tests.unit.plan.test_speed import cpu

    from snugly.plan.speed import run_times
    from snugly.plan.speed_table import coefficients
    from snugly.plan.types import Placement, Setup

    seen = 0
    for row in rows[0]:
        plain = row.count == 1 and row.kind != "cpu" and not row.prompt_depth
        if not (plain and row.prompt >= 512 and any(word in row.row["model"] for word in WORDS)):
            continue
        table = coefficients(row.kind)
        answer = fit.decode_features(row) @ np.array([table.decode[n] for n in fit.DECODE])
        prompt = fit.prefill_features(row) @ np.array([table.prefill[n] for n in fit.PREFILL])
        setup = Setup(32768, flash_attention=row.flash_attention)
        place = Placement((len(row.build.weights) + 1,))
        told = round(2 * (row.answer_depth - row.prompt))
        if told < 0:  # llama-bench answers from depth 0
            continue
        decode, prefill = run_times(
            row.build, setup, place, (cpu(), row.processor), row.prompt, told
        )
        assert 1 / decode == pytest.approx(answer, rel=1e-3)
        assert 1 / prefill == pytest.approx(prompt, rel=1e-3)
        seen += 1
    assert seen >= 5


def test_the_table_holds_what_the_docs_say(fit: Any, rows: Any) -> None:
    from snugly.plan.speed_table import coefficients

    found, reasons = rows
    assert len(found) + sum(reasons.values()) == 1882
    own, x, y = fit.measured("decode", found)
    theta = {
        kind: np.array([coefficients(kind).decode[name] for name in fit.DECODE])
        for kind in {row.kind for row in own} | {"shared"}
    }
    error = np.abs(np.exp(fit.errors(x, y, own, theta)) - 1)
    assert float(np.median(error)) < 0.12  # in sample; 12.6% with each device left out


def test_an_engines_age_counts_for_old_rows_alone(fit: Any, rows: Any) -> None:
    told = [row for row in rows[0] if row.prefill_tps > 0]
    for row in told[::40]:
        slow = fit.aged(row)[len(fit.PREFILL) :]
        assert slow[1] > 0 if row.age else slow[1] == 0
        assert slow[0] >= 0 if row.age else slow[0] == 0
    assert {row.age for row in told} == {0.0, 0.8, 2.0}


def test_old_engines_copy_dense_quantized_matrices(fit: Any, rows: Any) -> None:
    copied = {(row.kind, row.age) for row in rows[0] if fit.copies(row)}
    assert copied == {("cuda", 2.0), ("rocm", 0.8)}
    row = next(row for row in rows[0] if fit.copies(row) and row.quant == "Q4_0")
    old = fit.aged(row)
    assert old[fit.PREFILL.index("flat")] == 0
    assert old[fit.PREFILL.index("float")] > 0
    whole = 4 * 6.5e9 / 256e9 / row.prompt  # Llama 2 7B's layers, by the 8060S
    assert fit.copies(row) == pytest.approx(-(-row.prompt // row.ubatch) * whole, rel=0.02)


def test_a_prompt_reads_the_cache_again_for_each_tile(fit: Any, rows: Any) -> None:
    place = fit.PREFILL.index("cache")
    deep = next(row for row in rows[0] if row.prompt_depth and "llama-2-7b" in row.row["model"])
    mean = deep.prompt_depth + deep.prompt / 2
    cache = 2 * 32 * 32 * 256 * mean / 64 / deep.processor.bandwidth_bytes_per_s.value
    assert fit.prefill_features(deep)[place] == pytest.approx(cache)
    plain = next(row for row in rows[0] if not row.flash_attention)
    assert fit.prefill_features(plain)[place] == 0


def test_the_fit_is_the_least_of_what_is_allowed(fit: Any) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        a = random.normal(size=(30, 8))
        m, b = a.T @ a, a.T @ random.normal(size=30)
        z = fit._least_squares(m, b)
        slope = m @ z - b
        free = z > fit.LEAST
        assert (z >= fit.LEAST).all()
        assert np.allclose(slope[free], 0, atol=1e-8)
        assert (slope[~free] >= -1e-8).all()
