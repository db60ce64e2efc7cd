"""Quality: published before derived before estimated; what few bits cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts.catalog_quality import fitted

from snugly.model import catalog_quality as quality
from snugly.model.catalog import TASKS, Entry, entries, lookup
from snugly.model.catalog_quality import quality_kept, quality_of


def entry(name: str, tag: str = "") -> Entry:
    found = lookup(name, tag)
    assert found is not None
    return found[0]


def test_a_published_figure_is_what_counts_and_is_named() -> None:
    value, basis = quality_of(entry("qwen2.5"), "chat")
    assert value == 56.3
    assert basis.startswith("MMLU-Pro 56.3, https://qwenlm.github.io")


def test_mmlu_stands_in_for_mmlu_pro() -> None:
    # 1.38 x 63.4 - 49.4
    assert quality_of(entry("llama3.2"), "chat").value == 38.1
    assert quality_of(entry("llama3.2"), "chat").basis.startswith("from MMLU 63.4")
    assert quality_of(entry("tinyllama"), "chat").value == 10.0  # not below guessing


def test_code_is_three_parts_human_eval_and_one_part_general() -> None:
    # 0.75 x 92.7 + 0.25 x (1.38 x 79.1 - 49.4)
    value, basis = quality_of(entry("qwen2.5-coder", "32b"), "code")
    assert value == pytest.approx(0.75 * 92.7 + 0.25 * 59.8, abs=0.05)
    assert basis.startswith("HumanEval 92.7")


def test_what_nobody_published_is_called_an_estimate_and_lowered() -> None:
    known = entry("qwen3")
    unknown = replace(known, figures=())
    value, basis = quality_of(unknown, "chat")
    assert basis == "estimated from size and age"
    assert value < quality_of(known, "chat").value + quality.DOUBT
    assert quality_of(unknown, "code").basis.startswith("estimated from")


def test_a_model_is_not_good_at_what_it_is_not_made_for() -> None:
    assert quality_of(entry("nomic-embed-text"), "chat") == (0.0, "not made for it")
    assert quality_of(entry("llama3.1"), "complete").value == 0.0


def test_every_model_has_a_quality_for_each_of_its_tasks() -> None:
    for model in entries():
        for task in model.tasks:
            value, basis = quality_of(model, task)
            assert task in TASKS
            assert 0 < value <= 100, model.full_name
            assert basis


def test_estimates_grow_with_size_and_with_youth() -> None:
    model = replace(entry("qwen3"), figures=())
    larger = replace(model, n_params=2 * model.n_params, n_active=2 * model.n_active)
    younger = replace(model, released="2026-04")
    mixture = replace(larger, n_active=model.n_active)
    order = [quality_of(m, "chat").value for m in (model, mixture, larger)]
    assert order == sorted(set(order))
    assert quality_of(younger, "chat").value > order[0]


def test_the_numbers_in_the_code_are_those_of_the_fit() -> None:
    lines = list(fitted().values())
    assert lines[0] == pytest.approx((quality.MMLU_SLOPE, quality.MMLU_CONSTANT), rel=0.02)
    assert lines[1] == pytest.approx(
        (quality.PER_DOUBLING, quality.PER_MONTH, quality.AT_START), rel=0.02
    )
    assert lines[2] == pytest.approx(
        (quality.CODE_SLOPE, quality.CODE_CONSTANT, quality.CODE_BONUS), rel=0.02
    )
    assert lines[3] == pytest.approx((quality.MTEB_PER_DOUBLING, quality.MTEB_AT_BILLION), rel=0.02)


def test_llama_3_8b_keeps_what_was_measured() -> None:
    # matt-c1/llama-3-quant-comparison: MMLU 65.20 in F16, 64.64 in Q4_K_M, 55.90 in Q2_K
    assert quality_kept("Q4_K_M", 8_030_000_000) == pytest.approx((64.64 - 25) / 40.20, abs=0.001)
    assert quality_kept("Q2_K", 8_030_000_000) == pytest.approx((55.90 - 25) / 40.20, abs=0.001)
    # ... and its 70B: 80.82 in Q5_K_M, 77.01 in IQ2_M, 72.31 in IQ2_XXS
    for name, mmlu in (("IQ2_M", 77.01), ("IQ2_XXS", 72.31), ("IQ3_M", 80.06)):
        measured = (mmlu - 25) / (81.0 - 25)
        assert quality_kept(name, 70_600_000_000) == pytest.approx(measured, abs=0.05)


def test_names_of_publishers_and_what_loses_nothing() -> None:
    of_8b = 8_030_000_000
    assert quality_kept("UD-Q4_K_XL", of_8b) == quality_kept("Q4_K_M", of_8b)
    assert quality_kept("Q2_K_L", of_8b) == quality_kept("Q2_K", of_8b)
    assert quality_kept("Q6_K_L", of_8b) == quality_kept("Q6_K", of_8b)
    assert {quality_kept(name, 1) for name in ("F16", "BF16", "MXFP4", "unknown")} == {1.0}


@given(st.sampled_from(["Q2_K", "Q3_K_M", "Q4_K_M", "Q6_K", "IQ2_XXS"]), st.integers(1, 10**12))
def test_a_larger_model_never_keeps_less(name: str, n_params: int) -> None:
    kept = quality_kept(name, n_params)
    assert 0 <= kept <= quality_kept(name, 2 * n_params) <= 1
