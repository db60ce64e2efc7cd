"""The notebooks of docs/ run from their first cell to their last."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import WEIGHTS

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs/notebooks").glob("*.ipynb"))
EXTRA = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "accelerate",
                                                        "bitsandbytes", "gguf"))  # fmt: skip


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells with code."""
    found = json.loads(path.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def needs_extra(cell: dict[str, Any]) -> bool:
    return "transformers" in cell["metadata"].get("tags", ())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_was_executed_without_an_error_and_is_small(path: Path) -> None:
    numbers = [cell["execution_count"] for cell in cells(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    kinds = {output["output_type"] for cell in cells(path) for output in cell["outputs"]}
    assert "error" not in kinds
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_cell_shows_where_it_was_run(path: Path) -> None:
    text = path.read_text()
    assert str(Path.home()) not in text
    assert "/tmp/" not in text


@pytest.mark.soak
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path: Path, smollm2: Path, tmp_path: Path) -> None:
    """About 90 s of processor time for the cells that need no extra."""
    code = ["".join(cell["source"]) for cell in cells(path) if EXTRA or not needs_extra(cell)]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(code))
    done = subprocess.run(
        [sys.executable, str(script)],
        # A port where nothing listens: what is planned comes from Snugly's own copies.
        env={**os.environ, "SNUGLY_STORE": str(WEIGHTS), "SNUGLY_HF_ENDPOINT": "http://127.0.0.1:9",
             "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=1800, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) > 3  # what the models said
