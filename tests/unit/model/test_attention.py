"""What each layer remembers, from headers of every kind of architecture."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.errors import BadModelFile
from snugly.model.attention import layers_of
from snugly.model.fields import Fields
from snugly.model.spec import spec_of
from snugly.model.types import Attention, AttentionKind, GgufHeader, ModelSpec

GOLDEN = Path(__file__).parents[2] / "golden/kv"
MODELS: dict[str, Any] = json.loads((GOLDEN / "models.json").read_text())


def header(architecture: str, metadata: dict[str, Any]) -> GgufHeader:
    own = {f"{architecture}.{key}": value for key, value in metadata.items()}
    lengths = {key: len(value) for key, value in own.items() if isinstance(value, list)}
    return GgufHeader("/m.gguf", 3, 0, 0, {"general.architecture": architecture} | own, lengths, ())


def golden(name: str, **changes: Any) -> ModelSpec:
    """A model of tests/golden/kv; changes with __ for dots, None to leave a key out."""
    metadata = dict(MODELS[name]["metadata"])
    for key, value in changes.items():
        metadata[key.replace("__", ".")] = value
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return spec_of(header(MODELS[name]["architecture"], metadata), [], 0)


def kinds(spec: ModelSpec) -> str:
    """One letter per layer; capitals keep nothing of their own."""
    letters = "".join(
        "c" if layer.compression is not None else layer.kind.value[0] for layer in spec.layers
    )
    return "".join(
        letter if layer.cached else letter.upper()
        for letter, layer in zip(letters, spec.layers, strict=True)
    )


def test_gemma_slides_five_of_six_layers() -> None:
    assert kinds(golden("gemma3")) == "sssssfss"
    assert {layer.window for layer in golden("gemma3").layers} == {1024, None}


def test_a_pattern_is_an_array_a_number_or_what_llama_cpp_knows() -> None:
    stated = [True, False, False, True]
    pattern = "attention__sliding_window_pattern"
    assert kinds(golden("gpt-oss")) == "sfsf"
    assert kinds(golden("gpt-oss", **{pattern: stated})) == "sffs"
    assert kinds(golden("gpt-oss", **{pattern: 4})) == "sssf"
    assert kinds(golden("gpt-oss", **{pattern: 0})) == "ssss"
    assert kinds(golden("smallthinker")) == "fsss"  # the first of each group is full


def test_a_short_pattern_leaves_the_rest_full() -> None:
    assert kinds(golden("gemma3", attention__sliding_window_pattern=[True])) == "sfffffff"


def test_windows_that_llama_cpp_knows_better() -> None:
    assert kinds(golden("phi3")) == "ffff"  # stated, but disabled
    assert golden("llama4", attention__sliding_window=None).layers[0].window == 8192
    assert kinds(golden("llama4", attention__sliding_window=0)) == "ffff"
    assert golden("gemma2", attention__sliding_window=None).layers[0].window == 4096
    assert kinds(golden("exaone4-32b", block_count=30)) == "f" * 30  # only the 32B slides


def test_gemma_4_has_other_lengths_where_it_slides_and_shares_at_the_end() -> None:
    spec = golden("gemma4-e")
    assert kinds(spec) == "ssssfSSSSF"
    assert (spec.layers[0].key_length, spec.layers[4].key_length) == (256, 512)


def test_gemma_3n_keeps_twenty_caches() -> None:
    assert sum(layer.cached for layer in golden("gemma3n").layers) == 20


def test_latent_layers_keep_one_short_key() -> None:
    layer = Attention(AttentionKind.LATENT, 1, 576, 0)
    assert set(golden("deepseek2").layers) == {layer}
    assert kinds(golden("deepseek2-old")) == "fff"  # files from before: K and V in full


def test_layers_that_draft_are_not_cached() -> None:
    assert kinds(golden("deepseek2-mtp")) == "lllL"
    assert kinds(golden("glm4moe-mtp")) == "fffF"
    assert kinds(golden("qwen35")) == "rrrfrrrfF"


def test_an_indexer_keeps_keys_of_its_own() -> None:
    assert [layer.index_key for layer in golden("glm-dsa").layers] == [128] * 4 + [0]
    assert [bool(layer.index_key) for layer in golden("glm-dsa-5.2").layers] == [
        True, True, True, False, False, False, True,
    ]  # fmt: skip
    assert [layer.index_value for layer in golden("minimax-m3").layers] == [0, 128, 128, 128]


def test_hybrids_keep_a_state_where_they_have_no_attention() -> None:
    assert kinds(golden("jamba")) == "rrrrfrrr"
    assert kinds(golden("lfm2")) == "rrfrrf"
    assert kinds(golden("qwen3next")) == "rrrfrrrf"
    assert kinds(golden("qwen3next", full_attention_interval=2)) == "rfrfrfrf"
    listed = [1, 1, 0, 0, 0, 0, 0, 0]
    assert kinds(golden("qwen3next", attention__recurrent_layers=listed)) == "rrffffff"
    assert kinds(golden("nemotron_h")) == "rnrnfr"  # its feed-forward layers keep nothing
    assert kinds(golden("kimi-linear")) == "rrrlr"


def test_states_by_hand() -> None:
    # Mamba 2.8B: 3 columns of 5120, and 16 x 5120, in f32
    assert golden("mamba").layers[0].state_bytes == 4 * (3 * 5120 + 16 * 5120)
    # Falcon-H1 has both in every layer: 3 columns of 3072 + 2 x 256, and 256 x 3072
    layer = golden("falcon-h1").layers[0]
    assert layer.kind is AttentionKind.FULL
    assert layer.state_bytes == 4 * (3 * (3072 + 2 * 256) + 256 * 3072)
    # RWKV 7: two shifted tokens and a matrix of 64 per head
    assert golden("rwkv7").layers[0].state_bytes == 4 * (2 * 2560 + 2560 * 64)
    # LFM2: two columns; Kimi's KDA: three convolutions and 128 x 128 per head
    assert golden("lfm2").layers[0].state_bytes == 4 * 2 * 2048
    assert golden("kimi-linear").layers[0].state_bytes == 4 * 32 * (3 * 3 * 128 + 128 * 128)


def test_encoders_keep_nothing_and_cannot_chat() -> None:
    assert kinds(golden("bert")) == "nn"
    assert not golden("bert").is_causal


def test_an_unknown_architecture_is_read_by_what_it_states() -> None:
    metadata = MODELS["jamba"]["metadata"]
    layers = layers_of(Fields(header("new-hybrid", metadata)))
    assert "".join(layer.kind.value[0] for layer in layers) == "rrrrfrrr"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention__head_count_kv", [8]),
        ("attention__key_length", "long"),
        ("nextn_predict_layers", 9),
        ("block_count", 100_000),
        ("full_attention_interval", 0),
        ("ssm__state_size", -1),
    ],
)
def test_what_makes_no_sense_is_named(key: str, value: Any) -> None:
    with pytest.raises(BadModelFile, match=key.replace("__", r"\.")):
        golden("qwen3next", **{key: value})


VALUES = st.one_of(
    st.integers(-1, 1 << 33),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(0, 64), max_size=9),
)


@given(st.data())
def test_any_header_gives_layers_or_one_clear_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MODELS)))
    metadata = dict(MODELS[name]["metadata"])
    key = data.draw(st.sampled_from(sorted(metadata)))
    metadata[key] = data.draw(VALUES)
    try:
        layers = layers_of(Fields(header(MODELS[name]["architecture"], metadata)))
    except BadModelFile:
        return
    assert all(layer.state_bytes >= 0 and layer.kv_heads >= 0 for layer in layers)
