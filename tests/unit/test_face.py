"""Snugly from Python: the same answers as the commands, as values that show themselves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.making import hub_config

import snugly
from snugly.errors import UserError
from snugly.machine.types import Machine


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "Llama-3.1-8B" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(hub_config("meta-llama__Llama-3.1-8B")))
    return str(path)


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys, snugly; print([m for m in sys.modules if m.startswith('snugly.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_floor_and_the_function_of_one_name_are_both_there() -> None:
    assert sys.modules["snugly.machine"].types.Machine is Machine
    assert isinstance(snugly.machine(), Machine)


def test_one_model_on_another_box_shows_itself_as_a_picture(config: str) -> None:
    found = snugly.plan(config, on="rtx 4060 ti 16gb", context=8192)
    assert found.best is not None
    # 32 layers x 8192 tokens x 8 heads x 128 x (K + V) x 2 bytes
    assert sum(use.kv_bytes for use in found.best.uses) == 1024**3
    assert ElementTree.fromstring(found._repr_html_()).tag.endswith("svg")
    assert {fit.candidate.file_type for fit in found.fits} >= {"Q4_K_M", "Q8_0"}
    assert json.dumps(found.as_dict())


def test_amounts_are_bytes_or_text(config: str) -> None:
    by_text = snugly.plan(config, ram="32GiB", vram="12GiB", bandwidth="360GB")
    by_number = snugly.plan(config, ram=32 << 30, vram=12 << 30, bandwidth=360e9)
    assert by_text.as_dict()["box"]["budgets"] == by_number.as_dict()["box"]["budgets"]


def test_what_is_not_known_is_said(config: str) -> None:
    with pytest.raises(UserError, match="no task called"):
        snugly.plan(config, task="dance")
    with pytest.raises(UserError, match="no cache type"):
        snugly.plan(config, kv="q9")
    with pytest.raises(AttributeError):
        getattr(snugly, "nonsense")  # noqa: B009


def test_what_does_not_fit_says_so_in_a_notebook(config: str) -> None:
    found = snugly.plan(config, ram="1GiB")
    assert found.best is None
    assert "fits that machine" in found._repr_html_()


@pytest.mark.parametrize(
    "wrong",
    [{"budget": "6xx"}, {"budget": -5}, {"min_speed": -1.0}, {"min_speed": float("nan")}],
)
def test_amounts_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        snugly.plan("smollm2", **wrong)


def test_a_dtype_is_found_however_it_is_written(config: str) -> None:
    assert snugly.footprint(config, dtype="NF4")["nf4"].true_bytes > 0


def test_a_footprint_by_dtype(config: str) -> None:
    found = snugly.footprint(config, dtype=["bfloat16", "nf4"])
    assert found["bfloat16"].printed_bytes == pytest.approx(2 * 8_030_261_248, rel=1e-4)
    assert found["nf4"].true_bytes > found["nf4"].printed_bytes
    assert "<table>" in found._repr_html_()


def test_a_machine_shows_itself_as_a_table_of_facts_and_where_they_are_from() -> None:
    found = snugly.machine()
    assert isinstance(found, Machine)
    table = ElementTree.fromstring(found._repr_html_())  # type: ignore[attr-defined]
    lines = [["".join(cell.itertext()) for cell in line] for line in table]
    assert ["", "fact", "value", "from"] in lines
    assert any(line[:2] == ["CPU", "architecture"] for line in lines)
    assert all(len(line) == 4 for line in lines)
