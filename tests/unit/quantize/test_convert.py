"""What becomes of each tensor, and what is refused before a weight is read."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.golden.quantize.small_model import (
    MATRICES,
    write_legacy_matrix,
    write_matrix,
    write_model,
)

from snugly.errors import UserError
from snugly.model.gguf import read_header
from snugly.quantize import convert, writer
from snugly.quantize.convert import outline, quantize
from snugly.quantize.open import stem_of
from snugly.quantize.reader import Source, read_gguf
from snugly.quantize.reader_imatrix import Imatrix, read_imatrix
from snugly.quantize.types import Recipe


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return read_gguf(write_model(tmp_path / "m.gguf", "F16"))


@pytest.fixture
def matrix(tmp_path: Path) -> Imatrix:
    return read_imatrix(write_matrix(tmp_path / "m.imatrix"))


def types_of(source: Source, recipe: Recipe) -> dict[str, str]:
    return {t.name: t.ggml_type for t in outline(source, recipe).tensors}


def test_patterns_and_names_choose_before_the_rules(source: Source) -> None:
    found = types_of(
        source,
        Recipe("Q4_K_M", (("FFN_(up|gate)", "q8_0"), ("ffn_up", "Q2_K")),
               {"blk.0.attn_q.weight": "IQ4_XS", "blk.0.ffn_gate.weight": "Q5_K"}),
    )  # fmt: skip
    assert found["blk.0.ffn_up.weight"] == "Q8_0"  # the first pattern
    assert found["blk.0.ffn_gate.weight"] == "Q5_K"  # a name wins over patterns
    assert found["blk.0.attn_q.weight"] == "IQ4_XS"
    assert found["output.weight"] == "Q6_K"  # by the rules
    assert found["blk.0.attn_norm.weight"] == "F32"  # norms never


def test_a_named_tensor_does_not_count_as_a_layer() -> None:
    # llama-quantize --tensor-type 'blk\.0\.attn_v=q8_0': layer 1 is the rules' first layer then
    from snugly.model.quant_facts import QuantFacts
    from snugly.model.quant_rules import quantized
    from snugly.model.types import Tensor

    tensors = [Tensor(f"blk.{n}.attn_v.weight", (256, 256), "F16", 0, 0) for n in range(4)]
    facts = QuantFacts("llama", 4, 4, 4)

    def q3_k_m(named: dict[str, str]) -> list[str]:
        found = quantized(tensors, facts, "Q3_K_M", named=named.get)
        return [tensor.ggml_type for tensor in found]

    assert q3_k_m({}) == ["Q5_K", "Q5_K", "Q4_K", "Q4_K"]
    assert q3_k_m({"blk.0.attn_v.weight": "Q8_0"}) == ["Q8_0", "Q5_K", "Q5_K", "Q4_K"]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe("Q9_Z"), "not known"),
        (Recipe("Q4_K_M", (("ffn", "Q4_K_M"),)), "a mixture of types, not a type"),
        (Recipe("Q4_K_M", (("ffn", "Q8_1"),)), "no type 'Q8_1'"),
        (Recipe("Q4_K_M", (("ffn(", "Q8_0"),)), "not a pattern"),
        (Recipe("Q4_K_M", exact={"blk.7.nothing": "Q8_0"}), "no tensor called"),
        (Recipe("IQ2_XS"), "without an importance matrix"),
        (Recipe("Q2_K_S"), "without an importance matrix"),
        (Recipe("Q4_K_M", (("ffn_up", "IQ3_XXS"),)), "without an importance matrix"),
    ],
)
def test_recipes_that_cannot_be_followed(recipe: Recipe, text: str, source: Source) -> None:
    with pytest.raises(UserError, match=text):
        outline(source, recipe)


def test_a_matrix_of_another_model_is_refused(source: Source, matrix: Imatrix) -> None:
    renamed = {f"x.{name}": entry for name, entry in matrix.entries.items()}
    with pytest.raises(UserError, match="another model"):
        outline(source, Recipe("Q4_K_M"), replace(matrix, entries=renamed))
    longer = {name: replace(entry, length=512) for name, entry in matrix.entries.items()}
    with pytest.raises(UserError, match="weighs 512 columns"):
        outline(source, Recipe("Q4_K_M"), replace(matrix, entries=longer))
    one = dict(list(matrix.entries.items())[:1])
    (remark,) = outline(source, Recipe("Q4_K_M"), replace(matrix, entries=one)).remarks
    assert "does not know 7 tensors" in remark


def test_quantizing_again_is_said(tmp_path: Path, source: Source) -> None:
    assert outline(source, Recipe("Q4_K_M")).remarks == ()
    done = quantize(source, tmp_path / "q.gguf", Recipe("Q4_0"), threads=1)
    (remark,) = outline(read_gguf(done.path), Recipe("Q8_0")).remarks
    assert "quantized already (8 Q4_0" in remark


def test_how_a_file_was_made_stands_in_it(tmp_path: Path, source: Source, matrix: Imatrix) -> None:
    recipe = Recipe("Q4_K_M", (("ffn_up", "Q5_0"),))
    done = quantize(source, tmp_path / "q.gguf", recipe, imatrix=matrix, threads=2)
    stated = read_header(done.path).metadata
    assert stated["general.file_type"] == 15
    assert stated["general.quantization_version"] == 2
    assert stated["quantize.imatrix.file"] == "m.imatrix"
    assert stated["quantize.imatrix.dataset"] == "text"
    assert stated["quantize.imatrix.entries_count"] == len(MATRICES) - 1
    assert stated["quantize.imatrix.chunks_count"] == 7
    assert stated["snugly.quantize.imatrix_sha256"] == matrix.sha256
    assert json.loads(stated["snugly.quantize.recipe"]) == {
        "to": "Q4_K_M",
        "tensors": "ffn_up=Q5_0",
    }
    again = read_gguf(done.path)
    second = quantize(again, tmp_path / "f.gguf", Recipe("F16"), threads=2)
    assert "quantize.imatrix.file" not in read_header(second.path).metadata


def test_both_formats_of_a_matrix_make_the_same_file(tmp_path: Path, source: Source) -> None:
    data = []
    for write in (write_matrix, write_legacy_matrix):
        found = read_imatrix(write(tmp_path / "m.imatrix"))
        done = quantize(source, tmp_path / "q.gguf", Recipe("Q4_0"), imatrix=found, threads=2)
        header = read_header(done.path)
        data.append(done.path.read_bytes()[header.data_offset :])
        done.path.unlink()
    assert data[0] == data[1]


def test_nothing_is_overwritten(tmp_path: Path, source: Source) -> None:
    out = tmp_path / "there.gguf"
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        quantize(source, out, Recipe("Q4_0"))
    assert out.read_bytes() == b"mine"
    with pytest.raises(UserError, match="read and written at once"):
        quantize(source, tmp_path / "m.gguf", Recipe("Q4_0"))
    with pytest.raises(UserError, match="no folder"):
        quantize(source, tmp_path / "no" / "x.gguf", Recipe("Q4_0"))


def test_a_full_disk_is_noticed_before_the_first_weight(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(UserError, match="not enough room"):
        quantize(source, tmp_path / "q.gguf", Recipe("Q4_0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gguf"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's device that is always full")
@pytest.mark.parametrize("at_once", [True, False])
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    at_once: bool, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tmp_path / "m.gguf").read_bytes()
    monkeypatch.setattr(writer, "make_room", lambda part, _: part.symlink_to("/dev/full"))
    if not at_once:  # the header went through; it is the first weights that find no room
        monkeypatch.setattr(convert, "_prepare", lambda *_: None)
    with pytest.raises(UserError, match=r"not enough room .* filled up meanwhile"):
        quantize(source, tmp_path / "q.gguf", Recipe("Q4_0"))
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert (tmp_path / "m.gguf").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("qwen2.5-7b-instruct-fp16.gguf", "qwen2.5-7b-instruct"),
        ("Llama-3.1-8B.Q8_0.gguf", "Llama-3.1-8B"),
        ("m-F16-00001-of-00003.gguf", "m"),
        ("SmolLM2", "SmolLM2"),
        ("Q8_0.gguf", "Q8_0"),
    ],
)
def test_a_result_is_called_after_its_model(file: str, name: str) -> None:
    assert stem_of(file) == name
