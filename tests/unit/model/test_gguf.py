"""Any bytes give a header or one BadModelFile that names the file."""

import os
import random
import struct
from pathlib import Path

import pytest
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
from hypothesis import HealthCheck, given
from hypothesis import settings as checks
from hypothesis import strategies as st
from tests.making import (
    LLAMA_PAIRS,
    gguf_bytes,
    gguf_pair,
    gguf_string,
    text_pair,
    u32_pair,
    words_pair,
)

from snugly.errors import BadModelFile
from snugly.model.ggml_types import FILE_TYPES, TENSOR_TYPES, row_bytes
from snugly.model.gguf import read_header
from snugly.model.spec import read_spec

GOLDEN = Path(__file__).parents[2] / "golden/gguf"


def refused(path: Path, data: bytes) -> BadModelFile:
    path.write_bytes(data)
    with pytest.raises(BadModelFile) as caught:
        read_spec(path)
    assert path.name in caught.value.problem
    return caught.value


def test_tables_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    newer = {42: ("Q2_0", 64, 18)}  # ggml.h of 0.20; gguf 0.19 does not have it
    assert newer | theirs == TENSOR_TYPES
    names = {int(kind): kind.name for kind in LlamaFileType if kind != LlamaFileType.GUESSED}
    plain = {n: name.removeprefix("MOSTLY_").removeprefix("ALL_") for n, name in names.items()}
    assert {41: "Q2_0"} | plain == FILE_TYPES


def test_a_q4_k_row_of_256_weights_takes_144_bytes() -> None:
    assert row_bytes("Q4_K", 256) == 144
    with pytest.raises(ValueError, match="not whole blocks of 256"):
        row_bytes("Q4_K", 576)


def test_a_tiny_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes())
    spec = read_spec(path)
    assert (spec.name, spec.architecture, spec.file_type) == ("Tiny", "llama", "F16")
    assert spec.n_params == 64 * 3 + 64 * 64
    assert spec.weight_bytes == 64 * 3 * 2 + 64 * 64 // 32 * 34
    assert [(la.kv_heads, la.key_length) for la in spec.layers] == [(2, 16), (2, 16)]
    assert spec.special_tokens == {"bos": "<s>", "eos": "</s>"}
    assert spec.file_bytes == path.stat().st_size


def test_the_official_reader_agrees_on_real_weights(smollm2: Path) -> None:
    ours, theirs = read_header(smollm2), GGUFReader(smollm2)
    assert [(t.name, list(t.shape), t.n_bytes) for t in ours.tensors] == [
        (t.name, t.shape.tolist(), t.n_bytes) for t in theirs.tensors
    ]
    assert [ours.data_offset + t.offset for t in ours.tensors] == [
        t.data_offset for t in theirs.tensors
    ]
    assert ours.lengths["tokenizer.ggml.tokens"] == 49152


def test_smollm2_is_what_its_card_says(smollm2: Path) -> None:
    spec = read_spec(smollm2)
    assert spec.n_params == 134_515_008
    assert spec.context_train == 8192
    assert len(spec.layers) == 30
    assert (spec.n_heads, spec.layers[0].kv_heads, spec.layers[0].key_length) == (9, 3, 64)
    assert spec.special_tokens["eos"] == "<|im_end|>"


@pytest.mark.parametrize("name", ["ggml-vocab-phi-3", "ggml-vocab-bert-bge"])
def test_real_vocabularies_without_weights_read(name: str) -> None:
    spec = read_spec(GOLDEN / f"{name}.gguf")
    assert spec.n_params == 0
    assert spec.is_causal is (name != "ggml-vocab-bert-bge")
    assert spec.vocab_size == {"ggml-vocab-phi-3": 32064, "ggml-vocab-bert-bge": 30522}[name]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "magic"),
        (b"GG", "magic"),
        (b"PK\x03\x04" + bytes(60), "magic"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "number of tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "number of metadata keys"),
        (gguf_bytes()[:-1], "blk.0.attn_q.weight"),
        (gguf_bytes(pairs=(*LLAMA_PAIRS, LLAMA_PAIRS[0])), "general.architecture"),
        (gguf_bytes(pairs=LLAMA_PAIRS[1:]), "general.architecture"),
        (gguf_bytes(pairs=(*LLAMA_PAIRS[:3], *LLAMA_PAIRS[4:])), "llama.block_count"),
        (gguf_bytes(pairs=(*LLAMA_PAIRS, u32_pair("general.alignment", 33))), "alignment"),
        (gguf_bytes(pairs=(*LLAMA_PAIRS, gguf_pair("x", 99, b""))), "'x'"),
        (
            gguf_bytes(pairs=(*LLAMA_PAIRS, gguf_pair("x", 9, struct.pack("<IQ", 4, 1 << 61)))),
            "'x'",
        ),
        (gguf_bytes(pairs=(*LLAMA_PAIRS, gguf_pair("x", 8, gguf_string(b"\xff\xfe")))), "'x'"),
        (gguf_bytes(pairs=(*LLAMA_PAIRS, text_pair("llama.expert_count", "8"))), "expert_count"),
        (gguf_bytes(tensors=(("t" * 64, (32,), "F32"),)), "t" * 20),
        (gguf_bytes(tensors=(("t", (32,), "F32"), ("t", (32,), "F32"))), "'t'"),
        (gguf_bytes(tensors=(("t", (32, 1, 1, 1, 1), "F32"),)), "dimensions of tensor 't'"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, field: str) -> None:
    assert field in refused(tmp_path / "bad.gguf", data).problem


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(BadModelFile, match="not a regular file"):
        read_header(pipe)


def test_a_folder_and_a_missing_file_are_clear(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(BadModelFile, match="cannot be read"):
            read_header(path)


def test_a_name_from_the_file_cannot_reach_the_terminal(tmp_path: Path) -> None:
    error = refused(tmp_path / "bad.gguf", gguf_bytes(pairs=(gguf_pair("\x1b[31mred\n", 99, b""),)))
    assert error.problem.isprintable()


@pytest.mark.parametrize("count", [81, 5000])
def test_long_per_layer_arrays_are_kept(tmp_path: Path, count: int) -> None:
    heads = gguf_pair(
        "llama.attention.head_count_kv", 9, struct.pack(f"<IQ{count}I", 4, count, *[3] * count)
    )
    path = tmp_path / "deep.gguf"
    pairs = tuple(p for p in LLAMA_PAIRS if b"head_count_kv" not in p)
    path.write_bytes(gguf_bytes(pairs=(*pairs, heads)))
    if count <= 4096:
        assert read_spec(path).layers[0].kv_heads == 3
    else:
        with pytest.raises(BadModelFile, match="head_count_kv"):
            read_spec(path)


def test_widths_and_heads_that_differ_by_layer_count_by_their_largest(tmp_path: Path) -> None:
    def pair(name: str, *values: int) -> bytes:
        return gguf_pair(name, 9, struct.pack(f"<IQ{len(values)}I", 4, len(values), *values))

    keys = (b"feed_forward_length", b"attention.head_count")
    pairs = [p for p in LLAMA_PAIRS if not any(key in p for key in keys)]
    pairs += [
        pair("llama.feed_forward_length", 1024, 8192),
        pair("llama.attention.head_count", 0, 8),
        pair("llama.attention.head_count_kv", 0, 2),
    ]
    path = tmp_path / "mixed.gguf"
    path.write_bytes(gguf_bytes(pairs=tuple(pairs)))
    spec = read_spec(path)
    assert (spec.feed_forward_length, spec.n_heads) == (8192, 8)


def test_vocabulary_larger_than_a_window_is_stepped_over(tmp_path: Path) -> None:
    words = ["x" * (i % 40) for i in range(100_000)]
    path = tmp_path / "wide.gguf"
    pairs = tuple(p for p in LLAMA_PAIRS if b"ggml.tokens" not in p)
    path.write_bytes(gguf_bytes(pairs=(*pairs, words_pair("tokenizer.ggml.tokens", words))))
    assert path.stat().st_size > 2 * 1024 * 1024
    skipped, kept = read_header(path), read_header(path, frozenset({"tokenizer.ggml.tokens"}))
    assert skipped.lengths == kept.lengths
    assert skipped.tensors == kept.tensors
    assert kept.metadata["tokenizer.ggml.tokens"] == words


@checks(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_spec_or_one_clear_error(tmp_path: Path, tail: bytes) -> None:
    for data in (tail, b"GGUF" + tail, b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + tail):
        path = tmp_path / "any.gguf"
        path.write_bytes(data)
        try:
            read_spec(path)
        except BadModelFile as error:
            assert "any.gguf" in error.problem  # noqa: PT017


def test_mutants_of_a_real_header(tmp_path: Path, smollm2: Path, soak: bool) -> None:
    """Bytes of the header changed at random: a spec or one clear error, quickly."""
    with smollm2.open("rb") as file:
        head = file.read(1_785_664)
    small = bytearray(head)
    rng = random.Random(20261120)
    path = tmp_path / "mutant.gguf"
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(98_362_432)  # sparse: the full size, no weights
        outcomes = {"read": 0, "refused": 0}
        for _ in range(5000 if soak else 300):
            # Half in the first 2 KB, where the counts and the shape of the model are.
            at = rng.randrange(2048 if rng.random() < 0.5 else len(small))
            new = bytes(rng.randrange(256) for _ in range(rng.choice((1, 1, 2, 4, 8))))
            file.seek(at)
            file.write(new)
            file.flush()
            try:
                read_spec(path)
                outcomes["read"] += 1
            except BadModelFile as error:
                assert "mutant.gguf" in error.problem  # noqa: PT017
                outcomes["refused"] += 1
            file.seek(at)
            file.write(head[at : at + len(new)])
    assert min(outcomes.values()) > 20, outcomes
