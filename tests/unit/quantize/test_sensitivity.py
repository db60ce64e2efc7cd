"""The decoder in numpy: its gradients against differences, its estimates against the truth."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.quantize_making import WIDTH, WORDS, tiny

from snugly.errors import BadModelFile, UserError
from snugly.quantize import fit_sooner
from snugly.quantize.fit import Fitter, least_bytes
from snugly.quantize.fit_run import texts
from snugly.quantize.fit_sooner import WRITING, seconds_of, sooner
from snugly.quantize.measure import bundled
from snugly.quantize.reader import read_gguf
from snugly.quantize.reader_imatrix import read_imatrix
from snugly.quantize.sensitivity import read_sensitivity, write_sensitivity
from snugly.quantize.sensitivity_errors import ROWS, TINY, USUAL, Errors, candidates
from snugly.quantize.sensitivity_net import Net
from snugly.quantize.sensitivity_run import Calibration
from snugly.quantize.sensitivity_shape import shape_of

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tied": False}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("phi3", {"fused": True}),
    ("gemma2", {"extra": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
                          "attention.sliding_window": 3}}),
    ("gemma3", {"extra": {"attention.sliding_window": 3}}),
    ("granite", {"extra": {"residual_scale": 0.3, "embedding_scale": 2.0, "logit_scale": 4.0}}),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "options"), MODELS)
def test_gradients_are_differences(
    tmp_path: Path, architecture: str, options: dict[str, Any]
) -> None:
    net = Net(read_gguf(tiny(tmp_path / "m.gguf", architecture, **options)))
    tokens = np.array([[1, 5, 9, 2, 7, 3], [4, 4, 8, 0, 1, 30]])
    draw = np.random.default_rng(3)
    wish = draw.normal(size=(12, WORDS)).astype(np.float32)

    def run(h: np.ndarray) -> tuple[float, list[np.ndarray]]:
        streams = [h]
        for number in range(2):
            streams.append(net.layer(number).forward(streams[-1]))
        logits = net.logits(net.final(streams[-1]))
        return float(np.sum(logits.astype(np.float64) * wish)), streams

    h = net.embed(tokens)
    _, streams = run(h)
    logits = net.logits(net.final(streams[-1]))
    _, over = net.head_back(wish, logits)
    given = net.final_back(streams[-1], over)
    names: set[str] = set()
    for number in (1, 0):
        given = net.layer(number).backward(streams[number], given,
                                           lambda name, x, g: names.add(name))  # fmt: skip
    matrices = {i.tensor.name for i in read_gguf(tmp_path / "m.gguf").tensors
                if i.tensor.name.startswith("blk") and len(i.tensor.shape) == 2
                and i.tensor.shape[1] > 1}  # fmt: skip
    assert names == matrices
    for _ in range(4):
        step = draw.normal(size=h.shape).astype(np.float32) * np.float32(1e-3)
        by_difference = (run(h + step)[0] - run(h - step)[0]) / 2
        assert float(np.sum(given * step)) == pytest.approx(by_difference, rel=0.03, abs=2e-4)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    facts = {"general.architecture": "mamba"}
    with pytest.raises(UserError, match="architecture is mamba"):
        shape_of(facts, ["token_embd.weight"])
    with pytest.raises(UserError, match="ffn_gate_exps"):
        shape_of({"general.architecture": "llama"}, ["blk.0.ffn_gate_exps.weight"])
    with pytest.raises(UserError, match="yarn"):
        shape_of({"general.architecture": "llama", "llama.rope.scaling.type": "yarn"}, [])


def test_the_estimate_of_a_matrix_is_half_the_mean_square_of_what_it_moves() -> None:
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(ROWS, 256)).astype(np.float32)
    x = draw.normal(size=(300, 256)).astype(np.float32)
    given = draw.normal(size=(300, ROWS)).astype(np.float32) * 0.01
    inputs = np.mean(x**2, axis=0)
    cost = Errors(1, tiny=False).of_matrix(lambda row: weights[row : row + 1], inputs, x, given)
    from snugly.quantize.kernels import dequantize_rows, quantize_rows

    wrong = dequantize_rows(quantize_rows(weights, "Q4_0", cost.inputs), "Q4_0", 256) - weights
    truth = 0.5 * np.mean(np.sum((given * (x @ wrong.T)) ** 2, axis=1))
    # Rows are drawn, with repeats, in proportion to their gradients: here nearly all the same.
    assert cost.errors["Q4_0"] == pytest.approx(truth, rel=0.05)
    ordered = [cost.errors[kind] for kind in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")]
    assert ordered == sorted(ordered, reverse=True)


def test_candidates_are_types_that_the_rows_can_have() -> None:
    assert "Q4_K" not in candidates(576, tiny=True)
    assert "IQ4_NL" in candidates(576, tiny=False)
    assert candidates(30, tiny=True) == ("F16",)
    assert "IQ2_XXS" in candidates(512, tiny=True)
    assert "IQ2_XXS" not in candidates(512, tiny=False)


def fitter(tmp_path: Path) -> Fitter:
    source = read_gguf(tiny(tmp_path / "m.gguf", "llama", tied=False))
    tokens = np.random.default_rng(0).integers(0, WORDS, (2, 24))
    run = Calibration(source, Net(source), tokens, 1, False, lambda _: None)
    costs = {name: (cost.inputs, cost.errors) for name, cost in run.costs().items()}
    path = tmp_path / "kept.gguf"
    write_sensitivity(path, source, costs, "text", "0" * 64, 2, 24)
    return Fitter(source, read_sensitivity(path), read_imatrix(path))


def test_every_matrix_gets_a_type_and_the_file_is_no_larger_than_asked(tmp_path: Path) -> None:
    known = fitter(tmp_path)
    matrices = {i.tensor.name for i in known.source.tensors
                if len(i.tensor.shape) == 2 and "norm" not in i.tensor.name}  # fmt: skip
    assert set(known.sensitivity.errors) == matrices
    lowest, highest = known.bounds()
    losses = []
    for share in (0, 0.2, 0.5, 0.9, 1):
        budget = int(lowest + share * (highest - lowest))
        fit = known.fit(budget)
        assert 0.98 * budget < fit.n_bytes <= budget  # of 20 kB, where a block counts
        losses.append(fit.predicted_kld)
    assert losses == sorted(losses, reverse=True)
    with pytest.raises(UserError, match="too small"):
        known.fit(lowest - 1000)


def test_a_file_of_sensitivities_is_an_importance_matrix(tmp_path: Path) -> None:
    known = fitter(tmp_path)
    assert known.imatrix is not None
    assert known.imatrix.weights("blk.0.ffn_up.weight").shape == (WIDTH,)
    assert known.imatrix.chunks == 2
    assert (tmp_path / "kept.gguf").stat().st_size % 32 == 0  # or llama.cpp will not read it
    with pytest.raises(BadModelFile, match="sensitivities"):
        read_sensitivity(tmp_path / "m.gguf")


def test_a_choice_that_is_written_sooner_is_no_larger_and_hardly_worse(tmp_path: Path) -> None:
    known = fitter(tmp_path)
    lowest, highest = known.bounds()
    for share in (0.2, 0.4, 0.6):
        best = known.fit(int(lowest + share * (highest - lowest)))
        found = sooner(known, best)
        assert 0.99 * best.n_bytes < found.n_bytes <= best.n_bytes
        assert best.predicted_kld <= found.predicted_kld * 1.0001 <= best.predicted_kld * 1.06
        assert seconds_of(found) <= seconds_of(best)


def test_a_choice_that_takes_too_long_is_given_up_unless_there_is_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = fitter(tmp_path)
    lowest, highest = known.bounds()
    best = known.fit(int(lowest + 0.05 * (highest - lowest)))
    usual = sooner(known, best)
    most = 0.4 * seconds_of(usual)
    monkeypatch.setattr(fit_sooner, "_SHORT", most)
    monkeypatch.setattr(fit_sooner, "_LONGEST", 0.0)
    assert sooner(known, best, patient=True).recipe.exact == usual.recipe.exact
    found = sooner(known, best)
    assert seconds_of(found) <= most
    assert 0.99 * best.n_bytes < found.n_bytes <= best.n_bytes
    assert best.predicted_kld < found.predicted_kld < 2 * best.predicted_kld


def test_every_type_that_is_tried_has_a_time() -> None:
    assert set(WRITING) == {*USUAL, *TINY}


def test_of_a_text_the_end_is_measured_on_unless_it_is_short(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("some words of mine\n" * 10_000)
    learned, held = texts((str(path),))
    assert len(learned.text) == 4 * len(held.text)
    path.write_text("some words of mine\n" * 250)
    learned, held = texts((str(path),))
    assert learned.text == path.read_text()
    assert held == bundled("evaluation")


def test_what_matters_is_not_kept_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="filled up"):
        fitter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_the_smallest_size_is_known_before_anything_is_learnt(tmp_path: Path) -> None:
    known = fitter(tmp_path)
    lowest, _ = known.bounds()
    assert lowest - 500 < least_bytes(known.source, False) <= lowest  # its header says less
