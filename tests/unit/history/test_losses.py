"""Measured losses: kept, found again, and used by plans."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.quantize_making import tiny

from snugly.engine import offers
from snugly.history import losses
from snugly.history.losses import KnownLoss, known_loss, remember
from snugly.model.catalog_quality import quality_kept_at
from snugly.model.spec import read_spec
from snugly.settings import settings

LOSS = KnownLoss("Tiny", "Q4_K_M", 1000, 0.02, 0.001, "my notes", 500)


def test_a_loss_is_kept_and_the_latest_counts(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    assert known_loss("Tiny", "Q4_K_M", 1000, path) is None
    remember(LOSS, path)
    remember(replace(LOSS, quant="Q3_K_M", kld=0.1), path)
    remember(replace(LOSS, kld=0.03), path)
    assert known_loss("Tiny", "Q4_K_M", 1000, path) == replace(LOSS, kld=0.03)
    assert known_loss("Tiny", "Q4_K_M", 1001, path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["losses.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"model": "x"}]', '{"a": 1}', "[{}]"])
def test_a_damaged_file_counts_as_empty_and_is_written_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    path.write_text(text)
    assert known_loss("Tiny", "Q4_K_M", 1000, path) is None
    remember(LOSS, path)
    assert known_loss("Tiny", "Q4_K_M", 1000, path) == LOSS


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_MOST", 3)
    for size in range(5):
        remember(replace(LOSS, file_bytes=size), tmp_path / "l.json")
    known = [known_loss("Tiny", "Q4_K_M", size, tmp_path / "l.json") for size in range(5)]
    assert [one is not None for one in known] == [False, False, True, True, True]


def test_a_plan_goes_by_the_loss_that_was_measured_and_says_so(tmp_path: Path) -> None:
    spec = read_spec(tiny(tmp_path / "m.gguf", "llama"))
    (before,) = offers._of_spec(spec, "m", "chat", ())
    remember(replace(LOSS, model=spec.name, quant=spec.file_type, file_bytes=spec.file_bytes))
    assert (settings().history.parent / "losses.json").is_file()
    (after,) = offers._of_spec(spec, "m", "chat", ())
    assert "measured to lose 0.02 ± 0.001 nats per token on my notes" in after.basis
    assert after.quality == pytest.approx(before.quality * quality_kept_at(0.02))


def test_shares_are_those_of_llama_3_8b() -> None:
    # (KLD of llama.cpp's README, share of MMLU above guessing that is left)
    for kld, kept in ((0.0055, 0.997), (0.0282, 0.986), (0.0844, 0.943), (0.332, 0.769)):
        assert quality_kept_at(kld) == pytest.approx(kept, abs=0.011)
    assert quality_kept_at(0.0) == 1.0
