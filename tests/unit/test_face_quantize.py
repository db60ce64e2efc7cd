"""Quantizing and comparing from Python: values that show themselves, typed and exact."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden.checkpoints.small_checkpoints import write

import snugly
from snugly.cli.progress_notebook import Cell, in_notebook
from snugly.errors import UserError
from snugly.face_quantize import Comparison, Smaller
from snugly.quantize.measure_loss import COLUMNS, Chunk, loss_of
from snugly.quantize.report import Compared, Report


def test_a_checkpoint_becomes_a_gguf_that_can_be_given_on(tmp_path: Path) -> None:
    folder = write("qwen2", tmp_path)
    small = snugly.quantize(folder, method="q8_0", out=tmp_path / "small.gguf", threads=1)
    assert isinstance(small, Smaller)
    assert (small.path, small.method) == (tmp_path / "small.gguf", "Q8_0")
    assert str(small) == str(small.path)
    assert small.file_bytes == Path(small).stat().st_size  # it is a path itself
    assert small.bits_per_weight is not None
    assert "bits per weight" in small._repr_html_()


def test_a_checkpoint_of_transformers_by_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snugly.quantize import transformers_libraries, transformers_make

    asked: list[Any] = []

    def made(source: Path, out: Path, dtype: str, **how: Any) -> transformers_make.Made:
        asked.append((source.name, out.name, dtype))
        return transformers_make.Made(out, "nf4", 10, 8, 9, "Paris <3", 1.0)

    monkeypatch.setattr(transformers_libraries, "demand", lambda: None)
    monkeypatch.setattr(transformers_make, "make_checkpoint", made)
    small = snugly.quantize(write("qwen2", tmp_path), method="NF4")
    assert asked == [("qwen2", "qwen2-nf4", "NF4")]
    assert (small.printed_bytes, small.true_bytes) == (8, 9)
    assert "Paris &lt;3" in small._repr_html_()


@pytest.mark.parametrize(
    "wrong",
    [{"method": "nf5"}, {"method": "nf4", "budget": "1MB"}, {"budget": "much"}, {"budget": -1},
     {"context": 512}, {"calibrate": ["a.txt"]}],
)  # fmt: skip
def test_what_contradicts_itself_is_said(tmp_path: Path, wrong: dict[str, Any]) -> None:
    folder = write("qwen2", tmp_path)
    with pytest.raises(UserError):
        snugly.quantize(folder, **wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["qwen2"]


def comparison() -> Comparison:
    chunks = [Chunk(*(np.full(8, value) for value in range(len(COLUMNS)))) for _ in range(2)]
    compared = Compared("a<b.gguf", 10, loss_of(chunks))
    return Comparison(Report("base", 20, "text", "0" * 64, 512, (compared,)))


def test_a_comparison_shows_itself_and_gives_its_figures(tmp_path: Path) -> None:
    found = comparison()
    assert found.kld == found.losses["a<b.gguf"].kld
    html = found._repr_html_()
    assert html.count("<table>") == 1
    assert "a&lt;b.gguf" in html
    assert "<svg" in html
    assert tmp_path / "page.html" in found.save(tmp_path / "page.html")


def test_the_package_of_that_name_is_still_there() -> None:
    import snugly.quantize.types

    package = vars(snugly)["quantize"]  # to mypy the name is the function
    assert package.types.Recipe("F16").to == "F16"
    code = "import snugly.quantize.types, snugly; print(snugly.quantize, callable(snugly.quantize))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("True")


def test_a_bar_in_a_cell_is_drawn_in_its_place_and_goes_away() -> None:
    assert not in_notebook()
    drawn: list[str] = []

    def show(html: str) -> Any:
        drawn.append(html)
        return drawn.append

    cell = Cell(show)
    cell.begin("a<b", 100, 0)
    cell.advance(50)
    cell.end()
    cell.step("Measuring", 1, 4, "reading")
    cell.end()
    assert "a&lt;b" in drawn[0]
    assert drawn[-1] == ""
    assert any("value='1' max='4'" in html for html in drawn)
