"""Reading what is to be quantized, and importance matrices, whole and damaged."""

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden.quantize.small_model import (
    MATRICES,
    matrix_of,
    pairs,
    write_legacy_matrix,
    write_matrix,
    write_model,
)

from snugly.errors import BadModelFile
from snugly.model.gguf import read_header
from snugly.quantize import writer
from snugly.quantize.reader import read_gguf
from snugly.quantize.reader_imatrix import read_imatrix


def test_metadata_are_copied_byte_for_byte(tmp_path: Path) -> None:
    source = read_gguf(write_model(tmp_path / "m.gguf"))
    assert source.pairs == pairs()
    assert {item.tensor.name for item in source.tensors} >= set(MATRICES)
    assert source.metadata["llama.block_count"] == 1


def test_a_split_model_is_one_source(tmp_path: Path) -> None:
    names = tuple(MATRICES)
    for part, some in enumerate((names[:4], names[4:]), 1):
        write_model(tmp_path / f"m-{part:05d}-of-00002.gguf", names=some)
    source = read_gguf(tmp_path / "m-00002-of-00002.gguf")
    assert tuple(item.tensor.name for item in source.tensors) == names
    assert {Path(item.segments[0].path).name[2:7] for item in source.tensors} == {"00001", "00002"}


def test_splitting_and_alignment_are_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    stated = pairs() | {
        "split.no": writer.pair("UINT32", 0),
        "general.alignment": writer.pair("UINT32", 64),
    }
    head = writer.header(stated, [])
    path.write_bytes(head + bytes(-len(head) % 64))
    assert read_gguf(path).pairs == pairs()


@pytest.mark.parametrize("write", [write_legacy_matrix, write_matrix])
def test_both_formats_of_a_matrix_say_the_same(write: object, tmp_path: Path) -> None:
    assert callable(write)
    found = read_imatrix(write(tmp_path / "m.imatrix"))
    assert set(found.entries) == set(MATRICES) - {"token_embd.weight"}
    assert (found.datasets, found.chunks) == (("text",), 7)
    for name in found.entries:
        expected = matrix_of(name) / np.float32(7)
        assert np.array_equal(found.weights(name), expected)


def test_experts_are_divided_one_by_one_and_unused_ones_weigh_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    out = gguf.GGUFWriter(path, "imatrix", use_temp_file=False)
    out.add_array("imatrix.datasets", ["a.txt", "b.txt"])
    out.add_uint32("imatrix.chunk_count", 3)
    out.add_uint32("imatrix.chunk_size", 512)
    name = "blk.0.ffn_up_exps.weight"
    out.add_tensor(f"{name}.in_sum2", np.array([[2, 4], [9, 9], [5, 10]], dtype=np.float32))
    out.add_tensor(f"{name}.counts", np.array([[2], [0], [5]], dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    found = read_imatrix(path)
    assert found.weights(name).tolist() == [1, 2, 1, 1, 1, 2]
    assert found.datasets == ("a.txt", "b.txt")


@pytest.mark.parametrize("write", [write_legacy_matrix, write_matrix])
def test_a_matrix_that_is_not_finite_is_refused(write: object, tmp_path: Path) -> None:
    assert callable(write)
    path: Path = write(tmp_path / "m")
    data = bytearray(path.read_bytes())
    value = struct.pack("<f", float(matrix_of("blk.0.attn_q.weight")[5]))
    at = data.index(value)
    data[at : at + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    with pytest.raises(BadModelFile, match="not finite"):
        read_imatrix(path)


@settings(max_examples=150, deadline=None)
@given(legacy=st.booleans(), cut=st.floats(0, 1), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_any_damage_is_one_clear_error(
    legacy: bool, cut: float, at: float, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damage") / "m"
    data = bytearray((write_legacy_matrix if legacy else write_matrix)(path).read_bytes())
    data[int(at * (min(len(data), 400) - 1))] = byte
    path.write_bytes(data[: int(cut * len(data))])
    with contextlib.suppress(BadModelFile):  # anything else fails the test
        assert read_imatrix(path).entries


def test_a_matrix_that_is_something_else(tmp_path: Path) -> None:
    for content in (b"", b"GGUF", b"hello, world, hello", write_model(tmp_path / "g").read_bytes()):
        path = tmp_path / "m"
        path.write_bytes(content)
        with pytest.raises(BadModelFile):
            read_imatrix(path)
    with pytest.raises(BadModelFile, match="No such file"):
        read_imatrix(tmp_path / "nowhere")


def test_ggufs_own_reader_reads_what_the_writer_writes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "F16")
    theirs, ours = gguf.GGUFReader(path), read_header(path)
    assert [t.name for t in theirs.tensors] == [t.name for t in ours.tensors]
    assert theirs.fields["llama.embedding_length"].contents() == 256
    assert theirs.fields["tokenizer.ggml.tokens"].contents()[3] == "w3"
    assert [t.tensor_type.name for t in theirs.tensors] == [t.ggml_type for t in ours.tensors]
