"""Safetensors headers: byte by byte, damaged in every way, and against their config.json."""

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import hub_config, stored_bytes

from snugly.errors import BadModelFile, SnuglyError
from snugly.model.checkpoint import parameters_of, spec_of_checkpoint
from snugly.model.config import spec_of_config
from snugly.model.remote import look_up
from snugly.model.safetensors import (
    DTYPE_BITS,
    Checkpoint,
    checkpoint_in,
    checkpoint_of,
    choose_files,
    read_stored,
    read_stored_file,
    shards_of,
)
from snugly.settings import settings

TENSORS = [("a.weight", "BF16", (4, 3)), ("b", "F32", ()), ("c.bias", "F8_E4M3", (5,))]
LLAMA: list[tuple[str, str, tuple[int, ...]]] = [
    ("model.embed_tokens.weight", "BF16", (128256, 2048)),
    *[(f"model.layers.{i}.{name}.weight", "BF16", shape) for i in range(16) for name, shape in (
        ("input_layernorm", (2048,)), ("post_attention_layernorm", (2048,)),
        ("self_attn.q_proj", (2048, 2048)), ("self_attn.k_proj", (512, 2048)),
        ("self_attn.v_proj", (512, 2048)), ("self_attn.o_proj", (2048, 2048)),
        ("mlp.gate_proj", (8192, 2048)), ("mlp.up_proj", (8192, 2048)),
        ("mlp.down_proj", (2048, 8192)))],
    ("model.norm.weight", "BF16", (2048,)),
]  # fmt: skip


def read(body: bytes) -> Any:
    places = iter((body[:8], body[8:]))
    return read_stored(lambda count: next(places)[:count], len(body), "m.safetensors")


def stored(tensors: list[tuple[str, str, tuple[int, ...]]]) -> Checkpoint:
    """A checkpoint of which only the header is made."""
    body = stored_bytes(tensors, data=False)
    size = len(body) + sum(math.prod(shape) * DTYPE_BITS[kind] // 8 for _, kind, shape in tensors)
    places = iter((body[:8], body[8:]))
    return checkpoint_of([read_stored(lambda _: next(places), size, "m.safetensors")])


def test_a_header_gives_names_shapes_types_and_exact_bytes() -> None:
    header = read(stored_bytes(TENSORS))
    assert [(t.name, t.dtype, t.shape, t.n_bytes) for t in header.tensors] == [
        ("a.weight", "BF16", (4, 3), 24), ("b", "F32", (), 4), ("c.bias", "F8_E4M3", (5,), 5)
    ]  # fmt: skip
    assert header.metadata == {"format": "pt"}
    whole = checkpoint_of([header])
    assert (whole.n_elements, whole.n_bytes) == (12 + 1 + 5, 33)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a.weight": {"dtype": "Q4"}}, "does not exist"),
        ({"a.weight": {"shape": [4, -3]}}, "shape"),
        ({"a.weight": {"shape": [4, True]}}, "shape"),
        ({"a.weight": {"shape": [1 << 61] * 16}}, "does not take"),
        ({"a.weight": {"data_offsets": [0, 23]}}, "does not take"),
        ({"a.weight": {"data_offsets": [24, 0]}}, "offsets"),
        ({"a.weight": {"data_offsets": [4, 28]}}, "expected"),
        ({"b": {"data_offsets": [0, 4]}}, "expected"),
        ({"a.weight": None}, "object"),
        ({"__metadata__": [1]}, "object"),
    ],
)
def test_what_does_not_fit_together_is_named(change: dict[str, Any], says: str) -> None:
    body = stored_bytes(TENSORS)
    entries = json.loads(body[8 : 8 + struct.unpack("<Q", body[:8])[0]])
    for name, value in change.items():
        entries[name] = {**entries[name], **value} if isinstance(value, dict) else value
    text = json.dumps(entries).encode()
    with pytest.raises(BadModelFile, match=says):
        read(struct.pack("<Q", len(text)) + text + bytes(33))


@given(st.binary(max_size=200))
def test_any_bytes_end_in_words(body: bytes) -> None:
    with pytest.raises(BadModelFile):
        read(body)


def test_mutated_and_truncated_headers_end_in_words() -> None:
    rng = random.Random(20261120)
    whole = stored_bytes(TENSORS)
    for _ in range(3000):
        body = bytearray(whole)
        at = rng.randrange(len(body))
        body[at : at + rng.choice((1, 4, 8))] = rng.randbytes(rng.choice((0, 1, 8)))
        try:
            read(bytes(body[: rng.randrange(len(body))] if rng.random() < 0.3 else body))
        except SnuglyError:
            continue


def test_an_index_names_files_of_its_own_folder_only() -> None:
    index = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}}
    assert shards_of(index, "i") == ("model-1.safetensors", "model-2.safetensors")
    for bad in ("../x.safetensors", "/etc/x.safetensors", "a\\x.safetensors", "x.bin", 7):
        with pytest.raises(BadModelFile):
            shards_of({"weight_map": {"a": bad}}, "i")
    empty: list[Any] = [{}, [], {"weight_map": []}, {"weight_map": {}}]
    for none in empty:
        with pytest.raises(BadModelFile):
            shards_of(none, "i")


def test_which_files_are_the_model() -> None:
    assert choose_files(["model.safetensors", "x.safetensors"]) == ("model.safetensors",)
    parts = ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"]
    assert choose_files([*parts, "consolidated.safetensors"]) == tuple(sorted(parts))
    assert choose_files(["only.safetensors", "readme.md"]) == ("only.safetensors",)
    assert choose_files(["a.safetensors", "b.safetensors"]) == ()


def test_llama_3_2_1b_is_counted_the_same_from_both_sides() -> None:
    config = hub_config("meta-llama__Llama-3.2-1B-Instruct")
    spec, remarks = spec_of_checkpoint(config, "L", stored(LLAMA))
    assert parameters_of(stored(LLAMA)) == 1_235_814_400
    assert remarks == ()  # rope_freqs, which the converter makes, are no parameters
    assert spec.tensors == spec_of_config(config, "L").tensors
    assert spec.n_merges == 280_147


def test_the_checkpoint_says_whether_the_head_is_the_embedding() -> None:
    config = dict(hub_config("meta-llama__Llama-3.2-1B-Instruct"))
    del config["tie_word_embeddings"]
    tied, remarks = spec_of_checkpoint(config, "L", stored(LLAMA))
    assert (tied.tied_embeddings, remarks) == (True, ())
    head = ("lm_head.weight", "BF16", (128256, 2048))
    untied, remarks = spec_of_checkpoint(config, "L", stored([*LLAMA, head]))
    assert (untied.tied_embeddings, remarks) == (False, ())
    assert untied.n_params - tied.n_params == 128256 * 2048


def test_a_difference_is_told() -> None:
    config = hub_config("meta-llama__Llama-3.2-1B-Instruct")
    more = [*LLAMA, ("vision.weight", "BF16", (1000, 10))]
    assert "10,000 more" in spec_of_checkpoint(config, "L", stored(more))[1][0]
    assert "fewer" in spec_of_checkpoint(config, "L", stored(LLAMA[:-1]))[1][0]
    buffers = [*LLAMA, ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (32,))]
    assert spec_of_checkpoint(config, "L", stored(buffers))[1] == ()
    packed = [*LLAMA, ("x.qweight", "I32", (10, 10))]
    assert "packed" in spec_of_checkpoint(config, "L", stored(packed))[1][0]
    in_f8 = [(name, "F8_E4M3" if "proj" in name else kind, shape) for name, kind, shape in LLAMA]
    in_f8 += [("model.layers.0.mlp.up_proj.weight_scale_inv", "F32", (64, 16))]
    assert spec_of_checkpoint(config, "L", stored(in_f8))[1] == ()


def test_a_folder_on_this_machine(tmp_path: Path) -> None:
    config = hub_config("HuggingFaceTB__SmolLM2-135M-Instruct")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert checkpoint_in(tmp_path) is None
    found = look_up(str(tmp_path), settings())
    assert not found.is_file
    assert found.spec.n_params == 134_515_008
    halves = [[("a", "F16", (2,))], [("b", "F16", (3,))]]
    for number, tensors in enumerate(halves):
        (tmp_path / f"model-{number}.safetensors").write_bytes(stored_bytes(tensors))
    names = {"a": "model-0.safetensors", "b": "model-1.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    whole = checkpoint_in(tmp_path)
    assert whole is not None
    assert [(t.name, t.file) for t in whole.tensors] == list(names.items())
    assert "fewer" in look_up(str(tmp_path), settings()).remarks[-1]
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(BadModelFile, match="cannot be read"):
        checkpoint_in(tmp_path)
    (tmp_path / "model-1.safetensors").write_bytes(stored_bytes(halves[0]))
    with pytest.raises(BadModelFile, match="has it too"):
        checkpoint_in(tmp_path)
    for text in ("no", "[]", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadModelFile, match=r"config\.json"):
            look_up(str(tmp_path), settings())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_stored_file(tmp_path / "none.safetensors")
