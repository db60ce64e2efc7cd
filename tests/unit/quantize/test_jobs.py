"""Pieces of work: together they are the whole file, and none crosses a border."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.quantize.small_model import numbers

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Tensor
from snugly.quantize.jobs import CHUNK_WEIGHTS, bytes_read, bytes_written, jobs_of
from snugly.quantize.jobs_journal import Journal, discard, journal_of, read_done
from snugly.quantize.jobs_worker import Damage, convert, interleaved
from snugly.quantize.types import Job, Segment, SourceTensor


@given(
    blocks=st.integers(1, 40),
    rows=st.integers(1, 3000),
    experts=st.integers(1, 5),
    weighed=st.booleans(),
    apart=st.booleans(),
)
def test_pieces_tile_a_tensor_in_both_files(
    blocks: int, rows: int, experts: int, weighed: bool, apart: bool
) -> None:
    length = 256 * blocks
    shape = (length, rows, experts)
    read, written = row_bytes("F16", length), row_bytes("Q4_K", length)
    tensor = Tensor("t", shape, "F16", 0, read * rows * experts)
    target = Tensor("t", shape, "Q4_K", 64, written * rows * experts)
    segments = (
        tuple(Segment("f", 1000 + e * read * rows, rows) for e in range(experts))
        if apart
        else (Segment("f", 1000, rows * experts),)
    )
    source = SourceTensor(tensor, segments, "F16")
    jobs = jobs_of([source], [target], 4096, {"t": experts} if weighed else {})
    at, to, row = 1000, 4096 + 64, 0
    for job in jobs:
        assert (job.offset, job.target) == (at, to)
        assert job.rows * length <= max(CHUNK_WEIGHTS, length)
        if weighed:
            assert job.matrix == row // rows == (row + job.rows - 1) // rows
        at, to, row = at + bytes_read(job), to + bytes_written(job), row + job.rows
    assert row == rows * experts


def test_heads_are_never_cut() -> None:
    tensor = Tensor("q", (4096, 3 * 96), "F16", 0, 0)
    source = SourceTensor(tensor, (Segment("f", 0, 288),), "BF16", interleave=96)
    jobs = jobs_of([source], [tensor], 0, {})
    assert [job.rows for job in jobs] == [192, 96]


def test_a_head_is_interleaved_as_llamas_permute_does() -> None:
    rows = np.arange(2 * 4 * 3, dtype=np.float32).reshape(8, 3)
    # LlamaModel.permute of llama.cpp: reshape(heads, 2, rows // heads // 2, ...).swapaxes(1, 2)
    expected = rows.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(8, 3)
    found = interleaved(rows.view(np.uint8).reshape(-1), 8, 4).view(np.float32).reshape(8, 3)
    assert np.array_equal(found, expected)


def job(kind: str, to: str, rows: int, row: int, **more: float) -> Job:
    return Job("t", "f", 0, rows, row, kind, to, 0, **more)  # type: ignore[arg-type]


def test_norms_of_gemma_gain_one_in_the_precision_of_their_file() -> None:
    half = np.array([[0.0001, -0.3, 1.0]], dtype=np.float16)
    out = convert(job("F16", "F32", 1, 3, add=1.0), half.view(np.uint8).reshape(-1), None)
    assert np.array_equal(out.view(np.float32), (half + np.float16(1)).astype(np.float32)[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("to", ["F32", "F16", "Q4_K"])
def test_weights_that_are_not_finite_are_named(bad: float, to: str) -> None:
    rows = numbers(4 * 256, 1).reshape(4, 256).copy()
    rows[2, 7] = bad
    with pytest.raises(Damage, match="NaN" if bad != bad else "infinite"):
        convert(job("F32", to, 4, 256), rows.view(np.uint8).reshape(-1), None)


def test_a_large_piece_is_the_sum_of_its_blocks() -> None:
    rows = numbers(1200 * 256, 2).reshape(1200, 256)
    whole = convert(job("F32", "Q8_0", 1200, 256), rows.view(np.uint8).reshape(-1), None)
    last = convert(job("F32", "Q8_0", 3, 256), rows[1197:].view(np.uint8).reshape(-1), None)
    assert np.array_equal(whole[-len(last) :], last)


def test_the_journal_tells_what_is_done_and_of_which_work(tmp_path: Path) -> None:
    part = tmp_path / ".m.gguf.part"
    part.write_bytes(b"x" * 10)
    journal = Journal(part, "work", {5})
    journal.add(3)
    assert read_done(part, "work", 10) == {5}  # 3 is not on the disk yet
    journal.flush()
    assert read_done(part, "work", 10) == {3, 5}
    assert read_done(part, "other work", 10) == set()
    assert read_done(part, "work", 4) == {3}
    with journal_of(part).open("a") as file:
        file.write("[7, 8")  # cut by a power failure
    assert read_done(part, "work", 10) == {3, 5}
    discard(part)
    assert list(tmp_path.iterdir()) == []
    assert read_done(part, "work", 10) == set()


def test_a_journal_of_nonsense_is_no_journal(tmp_path: Path) -> None:
    part = tmp_path / ".m.gguf.part"
    part.write_bytes(b"")
    for text in ("", "{}", "[]\n[1]\n", json.dumps({"work": "w"}) + '\n{"a": 1}\n[2]\n'):
        journal_of(part).write_text(text)
        assert read_done(part, "w", 10) == set()
