"""Checkpoints made by the real transformers and bitsandbytes. Skipped without that extra.

One process per checkpoint, which takes some seconds to import torch.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden.checkpoints import small_checkpoints
from tests.golden.checkpoints.small_checkpoints import write
from tests.making import LLAMA_PAIRS, gguf_bytes

from snugly.cli.app import run
from snugly.errors import BadModelFile, UserError
from snugly.model.footprint import footprint
from snugly.model.module_tree import tree_of_config
from snugly.quantize.measure import Text, measure
from snugly.quantize.reader_listed import listed
from snugly.quantize.transformers_make import Made, make_checkpoint

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "accelerate",
                                                            "bitsandbytes")),
    reason="needs the extra: pip install '.[transformers]'",
)  # fmt: skip
TEXT = Text("count", " ".join(str(n) for n in range(200)))

# A word for each number; the one of the small checkpoints is of ours alone.
TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {str(n): n for n in range(200)} | {"?": 200},
              "unk_token": "?"},
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide(tmp_path_factory.mktemp("source"), 128)


def wide(folder: Path, inner: int) -> Path:
    """The small Llama, `inner` wide inside, with a tokenizer that transformers reads."""
    folder = write("llama", folder)
    text = (small_checkpoints.HERE / "small.json").read_text().replace("96", str(inner))
    entry = json.loads(text)["llama"]
    (folder / "config.json").write_text(json.dumps(entry["config"]))
    (folder / "model.safetensors").write_bytes(small_checkpoints.stored(entry["tensors"], 0))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return folder


@pytest.fixture(scope="module")
def four_bit(source: Path) -> Made:
    return make_checkpoint(source, source.parent / "nf4-dq", "nf4-dq", threads=1)


@pytest.fixture(scope="module")
def eight_bit(source: Path) -> Made:
    return make_checkpoint(source, source.parent / "int8", "int8", threads=1)


def test_what_it_takes_is_what_was_predicted_to_the_byte(
    source: Path, four_bit: Made, eight_bit: Made
) -> None:
    tree = tree_of_config(json.loads((source / "config.json").read_text()), "llama")
    for made in (four_bit, eight_bit):
        expected = footprint(tree, made.dtype)
        assert (made.printed_bytes, made.true_bytes) == (
            expected.printed_bytes,
            expected.true_bytes,
        )


def test_it_has_its_tokenizer_and_the_types_it_should(four_bit: Made) -> None:
    assert (four_bit.path / "tokenizer.json").is_file()
    kinds = {tensor.name: tensor.kind for tensor in listed(four_bit.path)}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == "U8"
    assert kinds["lm_head.weight"] == "BF16"
    assert four_bit.answer


def test_losses_of_both_against_the_source_and_of_the_source_against_itself(
    source: Path, four_bit: Made, eight_bit: Made
) -> None:
    of = {path.name: measure(str(source), str(path), TEXT, context=64, most=2, threads=1)
          for path in (source, four_bit.path, eight_bit.path)}  # fmt: skip
    assert of["llama"].kld.value < 1e-6
    assert 1e-6 < of["int8"].kld.value < of["nf4-dq"].kld.value


def test_the_answers_that_changed(
    source: Path, four_bit: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, text = tmp_path / "asked.txt", tmp_path / "text.txt"
    asked.write_text("1 2 3\n4 5\n")
    text.write_text(TEXT.text)
    assert run(["compare", str(source), str(four_bit.path), "--questions", str(asked),
                "--max-tokens", "4", "--text", str(text), "--context", "64", "--chunks", "1",
                "--threads", "1", "--json"]) == 0  # fmt: skip
    answers = json.loads(capsys.readouterr().out)["compared"][0]["answers"]
    assert [pair["question"] for pair in answers] == ["1 2 3", "4 5"]
    assert all(pair["base"] for pair in answers)


def test_inspect_shows_a_quantized_checkpoint(
    four_bit: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(four_bit.path), "--outliers", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["footprint"]["true_bytes"] == four_bit.true_bytes


def test_what_this_processor_cannot_run_is_made_and_said(tmp_path: Path) -> None:
    made = make_checkpoint(wide(tmp_path, 96), tmp_path / "out", "nf4", threads=1)
    tree = tree_of_config(json.loads((made.path / "config.json").read_text()), "out")
    assert made.true_bytes == footprint(tree, "nf4").true_bytes
    # bitsandbytes 0.50.2 wants rows of whole blocks on a processor; a later one may not.
    assert made.answer or "cannot be run on this processor" in made.remarks[0]


def test_damaged_weights_and_foreign_files_leave_nothing(source: Path, tmp_path: Path) -> None:
    folder = write("llama", tmp_path)
    tensor = next(t for t in listed(folder) if t.name == "model.layers.1.mlp.up_proj.weight")
    data = np.memmap(tensor.path, dtype=np.uint16, mode="r+", offset=tensor.offset, shape=(10,))
    data[3] = 0x7FC0  # not a number, in bfloat16
    data.flush()
    with pytest.raises(BadModelFile, match=r"layers\.1\.mlp\.up_proj"):
        make_checkpoint(folder, tmp_path / "out", "nf4", threads=1)
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(gguf_bytes(LLAMA_PAIRS))
    with pytest.raises(UserError, match="transformers cannot read"):
        make_checkpoint(odd, tmp_path / "out", "nf4", threads=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "odd.gguf"]
