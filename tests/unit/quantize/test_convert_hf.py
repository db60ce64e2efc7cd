"""Checkpoints: what llama.cpp's converter makes of them, without it."""

import gzip
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden.checkpoints.small_checkpoints import names, write

from snugly.errors import BadModelFile, SnuglyError, UserError
from snugly.model.gguf import read_header
from snugly.quantize.convert import quantize
from snugly.quantize.convert_hf import read_checkpoint
from snugly.quantize.convert_hf_names import place_of
from snugly.quantize.convert_hf_pieces import Kind, read_pieces
from snugly.quantize.convert_hf_pre import pre_tokenizer_of
from snugly.quantize.types import Recipe

GOLDEN = Path(__file__).parents[2] / "golden/checkpoints"


@pytest.mark.parametrize("name", names())
def test_a_checkpoint_becomes_what_the_converter_makes(name: str, tmp_path: Path) -> None:
    golden = json.loads(gzip.decompress((GOLDEN / "golden.json.gz").read_bytes()))[name]
    source = read_checkpoint(write(name, tmp_path))
    out = quantize(source, tmp_path / "ours.gguf", Recipe("F16"), threads=2).path
    header, data = read_header(out), out.read_bytes()
    tensors = {
        t.name: f"{t.ggml_type} {list(t.shape)} "
        + hashlib.sha256(data[header.data_offset + t.offset :][: t.n_bytes]).hexdigest()[:16]
        for t in header.tensors
    }
    assert tensors == golden["tensors"]
    assert metadata_of(out) == golden["metadata"]


def metadata_of(path: Path) -> dict[str, str]:
    found = {}
    for key, field in gguf.GGUFReader(path).fields.items():
        if not key.startswith(("GGUF.", "snugly.")):
            value = json.dumps([[kind.name for kind in field.types], field.contents()])
            found[key] = value if len(value) < 300 else hashlib.sha256(value.encode()).hexdigest()
    return found


def test_a_checkpoint_is_quantized_without_a_file_in_between(tmp_path: Path) -> None:
    source = read_checkpoint(write("llama", tmp_path))
    done = quantize(source, tmp_path / "q.gguf", Recipe("Q8_0"), threads=2)
    assert {t.ggml_type for t in done.tensors} == {"Q8_0", "F32"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "q.gguf"]


@pytest.mark.parametrize(
    ("stored", "gemma", "name"),
    [
        ("model.layers.3.self_attn.q_proj.weight", False, "blk.3.attn_q.weight"),
        ("model.layers.3.post_attention_layernorm.weight", False, "blk.3.ffn_norm.weight"),
        ("model.layers.3.post_attention_layernorm.weight", True,
         "blk.3.post_attention_norm.weight"),
        ("model.language_model.layers.0.mlp.up_proj.weight", True, "blk.0.ffn_up.weight"),
        ("language_model.model.embed_tokens.weight", True, "token_embd.weight"),
        ("layers.1.input_layernorm.weight", False, "blk.1.attn_norm.weight"),
        ("lm_head.weight", False, "output.weight"),
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", True, None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False, None),
    ],
)  # fmt: skip
def test_names(stored: str, gemma: bool, name: str | None) -> None:
    place = place_of(stored, gemma)
    assert (place and place.name) == name


@pytest.mark.parametrize(
    ("architecture", "parts"),
    [
        ("QWEN2", ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")),
        ("QWEN2MOE", ("mlp.gate", "mlp.shared_expert.up_proj", "mlp.shared_expert_gate")),
        ("PHI3", ("self_attn.qkv_proj", "mlp.gate_up_proj")),
        ("QWEN3", ("self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm")),
    ],
)
def test_every_name_is_one_that_llama_cpp_maps_so(
    architecture: str, parts: tuple[str, ...]
) -> None:
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture], 4)
    for part in parts:
        name = f"model.layers.2.{part}"
        place = place_of(f"{name}.weight", False)
        assert place is not None
        assert place.name == f"{theirs.get_name(name)}.weight"


def test_a_name_that_nobody_knows_is_refused() -> None:
    for name in ("model.layers.0.mlp.surprise.weight", "something.weight", "weight"):
        with pytest.raises(KeyError):
            place_of(name, False)


def edited(folder: Path, file: str, **changes: Any) -> Path:
    path = folder / file
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


@pytest.mark.parametrize(
    ("name", "file", "changes", "text"),
    [
        ("llama", "config.json", {"num_hidden_layers": 3}, "does not have it"),
        ("llama", "config.json", {"num_hidden_layers": 1}, "does not speak of it"),
        ("llama", "config.json", {"intermediate_size": 128}, "the config says"),
        ("llama", "config.json", {"model_type": "gpt2"}, "gpt2|needs|does not|cannot"),
        ("llama", "config.json", {"model_type": "nonsense"}, "cannot be planned"),
        ("llama", "tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "not known"),
        ("llama", "tokenizer.json", {"model": {"type": "WordPiece"}}, "no tokenizer"),
        (
            "qwen2",
            "model.safetensors.index.json",
            {"weight_map": {"a": "gone.safetensors"}},
            "gone",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    name: str, file: str, changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    folder = edited(write(name, tmp_path), file, **changes)
    with pytest.raises(SnuglyError, match=text):
        read_checkpoint(folder)


def test_files_that_are_missing_or_no_json(tmp_path: Path) -> None:
    folder = write("llama", tmp_path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BadModelFile, match=r"tokenizer\.json cannot be read"):
        read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadModelFile, match="holds no weights"):
        read_checkpoint(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(BadModelFile, match=r"config\.json cannot be read"):
        read_checkpoint(folder)


def test_packed_weights_are_told_from_plain_ones(tmp_path: Path) -> None:
    folder = write("llama", tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"BF16"', b'"I16" ', 1))
    with pytest.raises(UserError, match="quantized already"):
        read_checkpoint(folder)


def test_pieces_of_a_sentencepiece_model() -> None:
    pieces = read_pieces(GOLDEN / "tokenizer.model")
    assert [piece.text for piece in pieces[:3]] == ["<unk>", "<s>", "</s>"]
    assert [piece.kind for piece in pieces[:3]] == [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL]
    assert sum(piece.kind is Kind.BYTE for piece in pieces) == 256
    assert any(piece.score < 0 for piece in pieces)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 5000), byte=st.integers(0, 255), cut=st.integers(0, 5100))
def test_a_damaged_sentencepiece_model_is_one_clear_error(
    at: int, byte: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray((GOLDEN / "tokenizer.model").read_bytes())
    data[at] = byte
    path = tmp_path_factory.mktemp("sp") / "tokenizer.model"
    path.write_bytes(data[:cut])
    try:
        read_pieces(path)
    except BadModelFile:
        return


def test_llama_3s_rule_is_told_from_the_same_expression_elsewhere(tmp_path: Path) -> None:
    whole = json.loads((write("llama", tmp_path) / "tokenizer.json").read_text())
    assert pre_tokenizer_of(whole, "") == "llama-bpe"
    whole["model"]["ignore_merges"] = False
    assert pre_tokenizer_of(whole, "") == "dbrx"
    whole["pre_tokenizer"] = {"type": "ByteLevel", "use_regex": True}
    whole["model"]["vocab"]["10"] = 0
    assert pre_tokenizer_of(whole, "") == "gpt-2"


def test_smollms_rule_is_told_by_a_vocabulary_whose_digits_stand_alone() -> None:
    vocabulary = [*"0123456789", "a", "\u0120", "\u0120a", "\u00c2\u00bd"]  # one half
    whole = {"pre_tokenizer": {"type": "ByteLevel"}, "model": {"vocab": vocabulary}}
    assert pre_tokenizer_of(whole, "") == "smollm"
    for joined in ("10", "\u01201", "\u0120\u00c2\u00bd"):
        vocabulary.append(joined)
        assert pre_tokenizer_of(whole, "") == "gpt-2"
        vocabulary.remove(joined)
    vocabulary.remove("7")
    assert pre_tokenizer_of(whole, "") == "gpt-2"


def test_without_tokenizer_model_the_order_of_merges_gives_the_scores(tmp_path: Path) -> None:
    folder = write("mistral", tmp_path)
    (folder / "tokenizer.model").unlink()
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "a": 4, "b": 5, "ab": 6, "aba": 7}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["a b", ["ab", "a"]],
             "byte_fallback": True, "unk_token": "<unk>"}  # fmt: skip
    added = [{"id": n, "content": t, "special": True} for t, n in list(vocabulary.items())[:3]]
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": added}))
    pairs = read_checkpoint(folder).pairs
    scores = struct.unpack("<8f", pairs["tokenizer.ggml.scores"][16:48])
    assert scores[4:] == (0, 0, 0, -1)
    kinds = struct.unpack("<8i", pairs["tokenizer.ggml.token_type"][16:48])
    assert kinds == (2, 3, 3, 6, 1, 1, 1, 1)
