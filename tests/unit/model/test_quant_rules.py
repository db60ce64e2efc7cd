"""The types llama-quantize gives, against llama.cpp's own library and real files."""

import csv
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bench.quant_sizes import ROWS, predict, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden.quant.models import Made, plain
from tests.making import gguf_bytes, spec

from snugly.errors import UserError
from snugly.model.gguf import read_header
from snugly.model.quant_facts import QuantFacts, facts_from_metadata, facts_of
from snugly.model.quant_mixtures import COMMUNITY, MAIN_TYPES, NEED_MATRIX, mixture_of
from snugly.model.quant_names import Part, is_quantizable, part_of
from snugly.model.quant_parts import more_bits
from snugly.model.quant_rules import quantized
from snugly.model.quant_size import (
    estimated_header_bytes,
    file_bytes,
    header_bytes_like,
    quantized_file_bytes,
    tensor_bytes,
)
from snugly.model.spec import spec_of
from snugly.model.types import Tensor

GOLDEN = Path(__file__).parents[2] / "golden" / "quant"
ORACLE = json.loads(gzip.decompress((GOLDEN / "oracle.json.gz").read_bytes()))
LLAMA_8B = QuantFacts("llama", 32, 32, 8)


def tensors_of(case: dict[str, Any]) -> list[Tensor]:
    return [Tensor(name, tuple(shape), kind, 0, 0) for name, shape, kind in case["tensors"]]


def made_tensors(made: Made) -> list[Tensor]:
    return [Tensor(name, shape, kind, 0, 0) for name, shape, kind in made.tensors]


def types(tensors: list[Tensor], facts: QuantFacts, name: str, **how: Any) -> dict[str, str]:
    return {t.name: t.ggml_type for t in quantized(tensors, facts, name, **how)}


@cache
def llama_8b() -> list[Tensor]:
    return made_tensors(plain("", 4096, 32, 32, 8, 14336, 128256))


# ---- against llama.cpp


@pytest.mark.parametrize("case", ORACLE, ids=lambda case: str(case["name"]))
def test_every_tensor_of_every_mixture_is_as_the_library_says(case: dict[str, Any]) -> None:
    tensors, facts = tensors_of(case), QuantFacts(*case["facts"])
    for mixture, row in case["types"].items():
        name, _, matrix = mixture.partition("+")
        if name in NEED_MATRIX and not matrix:
            continue  # a dry run answers, a real one refuses
        if not row:
            with pytest.raises(UserError):
                quantized(tensors, facts, name, imatrix=bool(matrix))
            continue
        found = types(tensors, facts, name, imatrix=bool(matrix))
        wanted = {t.name: case["letters"][c] for t, c in zip(tensors, row, strict=True)}
        assert found == wanted, mixture


def test_the_library_was_asked_about_every_mixture_on_32_models() -> None:
    assert len(ORACLE) == 32
    names = {mixture.partition("+")[0] for case in ORACLE for mixture in case["types"]}
    # Q2_0 came later; what llama-quantize makes of it stands in golden/quantize.
    assert names == set(MAIN_TYPES) - {"Q2_0"}
    compared = [
        row
        for case in ORACLE
        for mixture, row in case["types"].items()
        if mixture not in NEED_MATRIX  # without the "+" of a matrix these are passed over
    ]
    assert sum(map(len, compared)) == 545_268  # the figure in docs/quantization.md


# What real files say of themselves: tests/golden/quant/README.md.
REAL = {
    "qwen05.gguf": ("Q4_K_M", "file order"),
    "qwen15.gguf": ("Q4_K_M", "file order"),
    "gemma270.gguf": ("Q4_K_M", ""),
    "SmolLM2-135M-Instruct.Q4_1.gguf": ("Q4_1", ""),
    "tiny.gguf": ("IQ2_XXS", ""),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_types_the_rules_say(name: str) -> None:
    case = next(case for case in ORACLE if case["name"] == name)
    tensors = tensors_of(case)
    mixture, order = REAL[name]
    found = types(tensors, QuantFacts(*case["facts"]), mixture, file_order=bool(order))
    assert found == {t.name: t.ggml_type for t in tensors}


PUBLISHED = list(csv.DictReader(ROWS.read_text().splitlines()))


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: str(row["file"]))
def test_sizes_of_published_files(row: dict[str, str]) -> None:
    """`bench/quant_sizes.py` prints them; here only that none gets worse.

    3 in 1000: three Q4_0 files were made with an importance matrix that nothing tells of.
    """
    guess, actual = predict(row, *shapes()[row["shape"]]), int(row["bytes"])
    bound = {"tensors_exact": 0.0, "tensors_from_bpw_4dp": 2.5e-5}.get(row["bytes_kind"], 3.2e-3)
    assert abs(guess / actual - 1) <= bound


# ---- by hand


def test_llama_8b_q8_0_has_the_bytes_of_the_published_file() -> None:
    # 8,030,261,248 weights, of them 266,240 in norms; and 64 factors of rope in F32.
    tensors = [*llama_8b(), Tensor("rope_freqs.weight", (64,), "F32", 0, 0)]
    found = quantized(tensors, LLAMA_8B, "Q8_0")
    by_hand = (8_030_261_248 - 266_240) // 32 * 34 + 266_240 * 4 + 64 * 4
    assert tensor_bytes(found) == by_hand == 8_532_934_912
    assert file_bytes(found, 7_840_928) == 8_540_775_840  # sizes.csv, file_exact


def test_q4_k_m_gives_more_bits_to_the_first_and_last_eighth_and_every_third_layer() -> None:
    found = types(llama_8b(), LLAMA_8B, "Q4_K_M")
    better = [n for n in range(32) if found[f"blk.{n}.ffn_down.weight"] == "Q6_K"]
    assert better == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert [n for n in range(32) if more_bits(n, 32)] == better
    assert found["blk.4.attn_v.weight"] == found["token_embd.weight"] == "Q4_K"
    assert found["output.weight"] == "Q6_K"
    assert found["blk.0.attn_norm.weight"] == "F32"


def test_embeddings_that_serve_as_output_get_the_outputs_type() -> None:
    tied = [t for t in llama_8b() if t.name != "output.weight"]
    assert types(tied, LLAMA_8B, "Q4_K_M")["token_embd.weight"] == "Q6_K"


def test_a_matrix_protects_the_first_down_projections_of_q4_0() -> None:
    found = types(llama_8b(), LLAMA_8B, "Q4_0", imatrix=True)
    assert [n for n in range(32) if found[f"blk.{n}.ffn_down.weight"] == "Q4_1"] == [0, 1, 2, 3]
    assert "Q4_1" not in types(llama_8b(), LLAMA_8B, "Q4_0").values()


def test_mixtures_that_need_a_matrix_imply_one() -> None:
    for name in NEED_MATRIX:
        with_matrix = types(llama_8b(), LLAMA_8B, name, imatrix=True)
        assert types(llama_8b(), LLAMA_8B, name) == with_matrix


def test_publishers_large_variants_keep_embeddings_and_output_in_q8_0() -> None:
    for name, base in COMMUNITY.items():
        found, plainly = types(llama_8b(), LLAMA_8B, name), types(llama_8b(), LLAMA_8B, base)
        differing = {tensor for tensor in found if found[tensor] != plainly[tensor]}
        assert differing == {"token_embd.weight", "output.weight"}
        assert {found[tensor] for tensor in differing} == {"Q8_0"}
    older = types(llama_8b(), LLAMA_8B, "Q4_K_L", embeddings="F16")
    assert older["output.weight"] == "F16"


@pytest.mark.parametrize(
    ("made", "name", "embeddings", "gigabytes"),
    [  # model card tables, rounded to 0.01 GB: data/gguf/sizes.csv
        (("ministral", 4096, 36, 32, 8, 12288, 131072), "Q3_K_XL", None, 4.80),
        (("ministral", 4096, 36, 32, 8, 12288, 131072), "Q4_K_L", None, 5.31),
        (("internlm 2.5", 4096, 32, 32, 8, 14336, 92544), "Q3_K_XL", "F16", 5.17),
        (("internlm 2.5", 4096, 32, 32, 8, 14336, 92544), "Q4_K_L", "F16", 5.70),
    ],
)
def test_large_variants_have_the_size_of_their_cards(
    made: tuple[Any, ...], name: str, embeddings: str | None, gigabytes: float
) -> None:
    found = quantized(
        made_tensors(plain(*made)), QuantFacts("llama", made[2], 32, 8), name, embeddings=embeddings
    )
    merges = 0 if made[0] == "internlm 2.5" else None
    total = file_bytes(found, estimated_header_bytes(found, made[-1], merges))
    assert total / 1e9 == pytest.approx(gigabytes, abs=0.01)


def test_old_rule_for_query_key_and_value_in_one_tensor() -> None:
    case = next(case for case in ORACLE if case["name"] == "Phi-3 mini")
    facts = QuantFacts(*case["facts"])
    name = "blk.10.attn_qkv.weight"
    assert types(tensors_of(case), facts, "Q4_K_M", fused_as_values=False)[name] == "Q5_K"
    assert types(tensors_of(case), facts, "Q4_K_M")[name] == "Q4_K"


def test_offsets_are_those_of_a_file_and_padded() -> None:
    found = quantized([Tensor("b.weight", (32, 3), "F16", 0, 0),
                       Tensor("a.weight", (32, 2), "F16", 0, 0)], LLAMA_8B, "Q4_0")  # fmt: skip
    assert [(t.name, t.offset, t.n_bytes) for t in found] == [
        ("a.weight", 0, 36), ("b.weight", 64, 54)]  # fmt: skip
    assert tensor_bytes(found) == 64 + 64


@given(
    st.sampled_from((64, 96, 100, 256, 576, 1024)), st.integers(1, 24), st.integers(1, 4),
    st.booleans(), st.sampled_from((0, 2, 4, 8, 64)),
    st.sampled_from(sorted(MAIN_TYPES.keys() - {"Q1_0"})),  # which refuses small rows
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_shape_has_a_size_no_larger_than_it_was(
    width: int, layers: int, sharing: int, tied: bool, experts: int, name: str
) -> None:
    made = plain("", width, layers, 4 * sharing, 4, 2 * width, 512, tied, experts=experts)
    tensors = made_tensors(made)
    facts = QuantFacts("llama", layers, 4 * sharing, 4, experts)
    found = tensor_bytes(quantized(tensors, facts, name))
    assert found <= tensor_bytes(quantized(tensors, facts, "F32" if name == "F32" else "F16"))


def test_within_a_family_more_bits_take_more_bytes() -> None:
    for family in (
        "Q2_K_S Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0 F16 F32",
        "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_XS IQ4_NL",
        "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 BF16",
    ):
        sizes = [tensor_bytes(quantized(llama_8b(), LLAMA_8B, n)) for n in family.split()]
        assert sizes == sorted(sizes), family


# ---- names and facts


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("output.weight", Part.OUTPUT), ("output_norm.weight", Part.OTHER),
        ("token_embd.weight", Part.EMBEDDING), ("blk.1.attn_qkv.weight", Part.ATTENTION_QKV),
        ("blk.1.attn_kv_b.weight", Part.ATTENTION_KV_B), ("blk.3.attn_v.weight", Part.ATTENTION_V),
        ("blk.1.ffn_gate_up_exps.weight", Part.FFN_GATE), ("blk.1.attn_v_b.weight", Part.OTHER),
        ("blk.1.ffn_down_shexp.weight", Part.FFN_DOWN), ("blk.1.ssm_in.weight", Part.OTHER),
    ],
)  # fmt: skip
def test_parts_by_name(name: str, part: Part) -> None:
    assert part_of(name) is part


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_norm.weight", (64, 64)), ("blk.0.ffn_gate_inp.weight", (64, 8)),
        ("blk.0.ssm_conv1d.weight", (4, 64)), ("blk.0.attn_q.bias", (64, 64)),
        ("position_embd.weight", (64, 64)), ("blk.0.attn_q.weight", (64,)),
        ("blk.0.attn_q.weight", (64, 1)), ("blk.0.ssm_a", (64, 64)),
    ],
)  # fmt: skip
def test_what_is_never_quantized(name: str, shape: tuple[int, ...]) -> None:
    assert not is_quantizable(Tensor(name, shape, "F32", 0, 0), "llama")


def test_facts_from_a_header_and_from_a_spec() -> None:
    found = facts_from_metadata({
        "general.architecture": "jamba", "jamba.block_count": 4,
        "jamba.attention.head_count": 32, "jamba.attention.head_count_kv": [0, 8, 0, 8],
        "jamba.expert_count": 16,
    })  # fmt: skip
    assert found == QuantFacts("jamba", 4, 32, 0, 16)
    assert found.heads_per_kv == 0
    assert facts_of(spec()) == QuantFacts("llama", 32, 32, 8, 0)
    with pytest.raises(UserError, match="no number of layers"):
        facts_from_metadata({"general.architecture": "llama"})


def test_which_models_llama_cpp_takes_for_a_70b() -> None:
    assert QuantFacts("llama", 80, 64, 8).is_70b
    assert QuantFacts("qwen2", 80, 64, 64).is_70b
    assert not QuantFacts("llama", 80, 64, 64).is_70b
    assert not QuantFacts("llama", 32, 64, 8).is_70b


def test_names_that_are_no_mixture() -> None:
    assert mixture_of("q4_k").name == "Q4_K_M"
    with pytest.raises(UserError, match="chosen tensor by tensor"):
        mixture_of("UD-Q4_K_XL")
    with pytest.raises(UserError, match="Q9_0"):
        mixture_of("Q9_0")


def test_embeddings_in_a_type_that_does_not_fit_are_refused() -> None:
    tensors = made_tensors(plain("", 100, 1, 4, 4, 200, 50))
    with pytest.raises(UserError, match="whole blocks of 32"):
        quantized(tensors, LLAMA_8B, "Q4_K_L")
    with pytest.raises(UserError, match="no such type"):
        quantized(tensors, LLAMA_8B, "Q4_K_M", embeddings="Q99")


def test_a_tensor_of_no_layer_is_refused_in_a_mixture_of_experts() -> None:
    tensors = [Tensor("blk.9.ffn_down_exps.weight", (256, 256, 4), "F16", 0, 0)]
    with pytest.raises(UserError, match="none of its 2 layers"):
        quantized(tensors, QuantFacts("llama", 2, 4, 4, 4), "Q4_K_M")


# ---- headers


@pytest.mark.parametrize(
    ("vocabulary", "merges", "template", "actual"),
    [  # bytes before the first tensor, less the list of tensors
        (151936, 151387, 2507, 5947776 - 16552),  # Qwen2.5-Coder 0.5B
        (262144, 0, 0, 6525120 - 13945),  # gemma-3-270m
        (32000, 0, 410, 736224 - 11906),  # TinyLlama
        (49152, 48900, 368, 1785664 - 16157),  # SmolLM2
        (128256, 280147, 4705, 7840928 - 17000),  # Llama 3.1 8B
        (50257, 50000, 0, 1766816),  # GPT-2
        (32064, 0, 269, 726048),  # Phi-3
    ],
)
def test_headers_are_estimated_within_5_percent(
    vocabulary: int, merges: int, template: int, actual: int
) -> None:
    guess = estimated_header_bytes((), vocabulary, merges, template)
    assert abs(guess / actual - 1) < 0.05
    assert guess % 32 == 0


def test_a_vocabulary_of_unknown_kind() -> None:
    assert estimated_header_bytes((), 32000) == estimated_header_bytes((), 32000, 0)
    assert estimated_header_bytes((), 151936) == estimated_header_bytes((), 151936, 151936)
    assert estimated_header_bytes((), 128256) == estimated_header_bytes((), 128256, 280147)


def test_a_file_at_hand_gives_the_header_of_its_other_quantizations(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes())
    header = read_header(path)
    tiny = spec_of(header, list(header.tensors), header.file_bytes)
    found = quantized(tiny.tensors, facts_from_metadata(header.metadata), "F16")
    # attn_q: 64 x 64 from Q8_0 (4,352 bytes) to F16 (8,192).
    wanted = header.file_bytes - 4352 + 8192
    assert file_bytes(found, header_bytes_like(header)) == wanted
    assert quantized_file_bytes(tiny, "F16") == wanted


def test_without_a_file_the_header_is_estimated() -> None:
    tensors = quantized(llama_8b(), LLAMA_8B, "F16")
    alone = spec(tensors=tensors, file_bytes=tensor_bytes(tensors), chat_template="")
    found = quantized_file_bytes(alone, "Q8_0")
    assert abs(found / 8_540_775_840 - 1) < 1e-4
    gemma = spec(tensors=tensors, file_bytes=0, architecture="gemma3", n_merges=0)
    assert quantized_file_bytes(gemma, "Q8_0") < found
