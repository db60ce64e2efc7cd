"""A config.json gives the tensors that a converter writes: held against transformers and files."""

import csv
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.errors import SnuglyError, UserError
from snugly.model.config import covered, header_of_config, open_points, spec_of_config
from snugly.model.types import AttentionKind, GgufHeader

GOLDEN = Path(__file__).parents[2] / "golden/configs"
CONFIGS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "configs.json").read_text())
DEFAULTS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "class_defaults.json").read_text())
HEADERS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "headers.json").read_text())
LINES = (GOLDEN / "transformers.csv").read_text().splitlines()
COUNTS = {row["config"]: row for row in csv.DictReader(LINES)}

# Why our count is not transformers', by the tensors that it has no parameter for.
# rope_f*: factors that a converter computes. exp_probs_b, layer_output_scale: buffers there.
NOT_PARAMETERS = ("rope_freqs", "rope_factors", "exp_probs_b", "layer_output_scale")
# transformers leaves the prediction layer (MTP) out, a converter writes it.
LAST_LAYER_IS_EXTRA = {
    "Qwen__Qwen3.5-122B-A10B": 48, "Qwen__Qwen3.5-397B-A17B": 60, "glm4_moe": 46,
}  # fmt: skip
# The copies say 262144 rows, the checkpoints have 262208 (golden/configs/README.md).
MORE_ROWS = {"google__gemma-3-4b-it": 64 * 2560, "google__gemma-3-27b-it": 64 * 5376}
# transformers leaves out keys and values of layers that read another's cache; checkpoints have
# them and a converter writes them (config_hybrids._gemma4). Of 30 layers the last 10:
UNUSED_KEYS = {"gemma4_shared": range(20, 30)}
# transformers takes its class default 1536 for a q_lora_rank that the copy dropped.
OTHERS = {"deepseek-ai__DeepSeek-V2-Lite-Chat"}
REFUSED = {
    "XiaomiMiMo__MiMo-7B-Base", "deepseek-ai__DeepSeek-V4-Pro", "google__recurrentgemma-2b",
}  # fmt: skip
CONFIGS |= DEFAULTS
READ = sorted(set(CONFIGS) - REFUSED)


def header(name: str) -> GgufHeader:
    return header_of_config(CONFIGS[name], name)


def shapes(name: str, config: dict[str, Any] | None = None) -> dict[str, tuple[int, ...]]:
    found = header_of_config(config or CONFIGS[name], name).tensors
    assert len({tensor.name for tensor in found}) == len(found)
    return {tensor.name: tensor.shape for tensor in found}


def file_shapes(name: str) -> dict[str, tuple[int, ...]]:
    real = HEADERS[name]
    found = {tensor: tuple(shape) for tensor, shape in real["top"].items()}
    for number in range(real["blocks"]):
        found |= {f"blk.{number}.{t}": tuple(shape) for t, shape in real["block"].items()}
    return found


@pytest.mark.parametrize("name", sorted(set(COUNTS) & set(READ) - OTHERS))
def test_parameters_and_tying_are_those_of_transformers(name: str) -> None:
    tensors = [
        tensor
        for tensor in header(name).tensors
        if not any(word in tensor.name for word in NOT_PARAMETERS)
        and not tensor.name.startswith(f"blk.{LAST_LAYER_IS_EXTRA.get(name, -1)}.")
        and not any(
            tensor.name.startswith((f"blk.{n}.attn_k", f"blk.{n}.attn_v"))
            for n in UNUSED_KEYS.get(name, ())
        )
    ]
    count = sum(tensor.n_elements for tensor in tensors) - MORE_ROWS.get(name, 0)
    assert count == int(COUNTS[name]["parameters"])
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    assert tied == bool(int(COUNTS[name]["tied"]))


def test_configs_of_which_published_counts_are_known() -> None:
    counts = {name: spec_of_config(CONFIGS[name], name).n_params for name in READ}
    assert counts["meta-llama__Llama-3.1-8B-Instruct"] == 8_030_261_248
    assert counts["Qwen__Qwen2.5-7B-Instruct"] == 7_615_616_512
    assert counts["HuggingFaceTB__SmolLM2-135M-Instruct"] == 134_515_008
    assert counts["mistralai__Mistral-7B-Instruct-v0.3"] == 7_248_023_552
    assert counts["mistralai__Mixtral-8x7B-v0.1"] == 46_702_792_704
    assert counts["mistralai__Mixtral-8x7B-Instruct-v0.1"] == 46_702_792_704
    assert counts["google__gemma-3-4b-it"] == 3_880_263_168
    assert counts["openai__gpt-oss-20b"] == 20_914_757_184
    assert counts["deepseek-ai__DeepSeek-V2-Lite"] == 15_706_484_224
    assert counts["deepseek-ai__DeepSeek-V2-Lite-Chat"] == 15_706_484_224
    assert counts["Qwen__Qwen3-30B-A3B"] == 30_532_122_624
    assert counts["THUDM__chatglm3-6b"] == 6_243_584_000
    assert counts["microsoft__phi-2"] == 2_779_683_840
    assert counts["deepseek-ai__deepseek-moe-16b-chat"] == 16_375_728_128


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("HuggingFaceTB__SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"),
        ("Qwen__Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-0.5B-Instruct"),
        ("Qwen__Qwen2.5-Coder-1.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"),
        ("meta-llama__Llama-3.1-8B", "Meta-Llama-3.1-8B-Instruct"),
    ],
)
def test_tensors_are_those_of_real_files_by_name_and_shape(config: str, file: str) -> None:
    # Both Qwen files keep an output matrix of their own; the copied configs leave open whether
    # they do, and their class says so.
    assert shapes(config) == file_shapes(file)


def test_gemma_270m_from_its_published_config() -> None:
    config = {
        "model_type": "gemma3_text", "hidden_size": 640, "num_hidden_layers": 18,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "intermediate_size": 2048, "vocab_size": 262144, "sliding_window": 512,
        "max_position_embeddings": 32768,
    }  # fmt: skip
    assert shapes("gemma-3-270m", config) == file_shapes("gemma-3-270m")
    spec = spec_of_config(config, "gemma-3-270m")
    assert [layer.window for layer in spec.layers[:6]] == [512] * 5 + [None]


@pytest.mark.parametrize("name", READ)
def test_every_config_becomes_a_spec_whose_bytes_are_laid_out(name: str) -> None:
    spec = spec_of_config(CONFIGS[name], name)
    end = 0
    for tensor in spec.tensors:
        assert tensor.offset == end
        end += tensor.n_bytes + -tensor.n_bytes % 32
        one_dimensional = len(tensor.shape) == 1
        assert tensor.ggml_type in (("F32",) if one_dimensional else ("F16", "F32", "MXFP4"))
    assert spec.file_type == "F16"
    assert spec.weight_bytes <= spec.file_bytes <= end
    assert spec.vocab_size >= 30_000


def test_names_do_not_matter_and_a_caller_may_know_about_tying() -> None:
    config = CONFIGS["Qwen__Qwen2.5-0.5B-Instruct"]
    assert spec_of_config(config, "x").n_params == 630_167_424
    assert spec_of_config(config, "x", tied=True).n_params == 494_032_768  # as published
    (point,) = open_points(config)
    assert "tie_word_embeddings" in point
    assert open_points(CONFIGS["meta-llama__Llama-3.1-8B-Instruct"]) == ()


def test_layers_remember_what_their_kind_remembers() -> None:
    def kinds(name: str) -> list[AttentionKind]:
        return [layer.kind for layer in spec_of_config(CONFIGS[name], name).layers]

    assert set(kinds("deepseek-ai__DeepSeek-V2-Lite")) == {AttentionKind.LATENT}
    jamba = kinds("ai21labs__Jamba-v0.1")
    assert [n for n, kind in enumerate(jamba) if kind is AttentionKind.FULL] == [4, 12, 20, 28]
    oss = kinds("openai__gpt-oss-20b")
    assert oss[:2] == [AttentionKind.SLIDING, AttentionKind.FULL]
    nas = spec_of_config(CONFIGS["nvidia__Llama-3_3-Nemotron-Super-49B-v1"], "nas").layers
    assert sum(layer.kv_heads for layer in nas) == 8 * 49  # 31 of 80 layers do not attend


def test_kv_heads_that_are_missing_are_the_class_default_or_the_heads() -> None:
    def kv_heads(name: str, **changes: int) -> int:
        config = {k: v for k, v in CONFIGS[name].items() if k != "num_key_value_heads"}
        return spec_of_config(config | changes, name).layers[0].kv_heads

    assert kv_heads("meta-llama__Llama-2-7b-hf") == 32  # LlamaConfig has no default
    assert kv_heads("mistralai__Mistral-7B-v0.1") == 8  # MistralConfig: 8
    # Qwen2Config says 32, which 16 heads cannot have: a copy that dropped what equals the heads.
    assert kv_heads("Qwen__Qwen2-7B-Instruct", num_attention_heads=16) == 16


def test_gpt_oss_keeps_its_experts_in_four_bits() -> None:
    types = {t.name: t.ggml_type for t in header("openai__gpt-oss-20b").tensors}
    assert types["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert types["blk.0.ffn_up_exps.bias"] == "F32"
    assert types["blk.0.attn_q.weight"] == "F16"


def test_gemma_4_has_as_many_tensors_as_published_files() -> None:
    # Load logs: animehacker/llama-turboquant issue 3, ggml-org/llama.cpp issues 21328 and 21760.
    catalogue = json.loads(files("snugly.model").joinpath("catalog_configs.json").read_text())
    for name, count in (("E2B", 601), ("E4B", 720), ("31B", 833)):
        config = catalogue[f"google/gemma-4-{name}-it"]["config"]
        assert len(header_of_config(config, name).tensors) == count


def test_the_width_of_lfm2_is_the_adjusted_one() -> None:
    # int(2 * 12288 / 3) = 8192, a multiple of 256 already.
    assert shapes("LiquidAI__LFM2.5-VL-1.6B")["blk.0.ffn_up.weight"] == (2048, 8192)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_covered_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError) as caught:
        header(name)
    assert CONFIGS[name]["model_type"] in caught.value.problem
    assert all(kind in caught.value.because for kind in covered())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None), ("hidden_size", "4096"), ("num_hidden_layers", 10**7),
        ("num_attention_heads", 0), ("vocab_size", -1), ("num_hidden_layers", True),
        ("tie_word_embeddings", "no"), ("num_local_experts", 8),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        header_of_config(CONFIGS["01-ai__Yi-34B"] | {key: value}, "Yi")
    assert key in caught.value.problem
    assert "Yi" in caught.value.problem


@given(st.data())
def test_a_damaged_config_gives_a_header_or_one_clear_error(data: st.DataObject) -> None:
    config = dict(CONFIGS[data.draw(st.sampled_from(READ))])
    text = dict(config.get("text_config", config))
    key = data.draw(st.sampled_from(sorted(text)))
    junk = st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5000), st.floats(), st.text(max_size=5),
        st.lists(st.integers(-1, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.none()),
    )  # fmt: skip
    inner = text[key]
    if isinstance(inner, dict) and inner:
        text[key] = inner | {data.draw(st.sampled_from(sorted(inner))): data.draw(junk)}
    elif isinstance(inner, list) and inner:
        text[key] = [data.draw(junk), *inner[1:]]
    if not isinstance(inner, dict | list) or data.draw(st.booleans()):
        text[key] = data.draw(junk)
    config = config | {"text_config": text} if "text_config" in config else text
    try:
        spec = spec_of_config(config, "damaged")
    except SnuglyError:
        return
    assert spec.n_params > 0
