"""`snugly quantize` and `snugly inspect` as a person calls them, and what goes wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.golden.quantize.small_model import MATRICES, weights_of, write_matrix, write_model
from tests.making import hub_config, stored_bytes

from snugly.cli.app import run
from snugly.model.config import header_of_config
from snugly.model.gguf import read_header
from snugly.model.spec import read_spec

Snugly = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "small-F16.gguf", "F16")


@pytest.fixture
def snugly(capsys: pytest.CaptureFixture[str]) -> Snugly:
    """The command line in this process; the converting process is a real one."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        code = run(words)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return call


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_becomes_smaller_and_the_result_is_told(
    model: Path, tmp_path: Path, snugly: Snugly
) -> None:
    before = model.read_bytes()
    out = tmp_path / "out.gguf"
    done = snugly("quantize", str(model), "--to", "q4_k_m", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    spec = read_spec(out)
    assert told["file_bytes"] == spec.file_bytes == out.stat().st_size
    assert spec.file_type == "Q4_K_M"
    assert told["types"] == {"Q4_K": 6, "F32": 3, "Q6_K": 3}
    assert model.read_bytes() == before
    assert left(tmp_path) == {"small-F16.gguf", "out.gguf"}


def test_the_result_is_named_after_model_and_type(model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snugly", "quantize", model.name, "--tensor", "ffn_down=Q8_0"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "small-Q4_K_M.gguf\n"
    kinds = {t.name: t.ggml_type for t in read_header(tmp_path / "small-Q4_K_M.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--to", "Q9_Z"), 2, "not known"),
        (("--to", "IQ2_XXS"), 2, "importance matrix"),
        (("--tensor", "ffn"), 2, "says no type"),
        (("--tensor", "ffn=Q7_K"), 2, "no type 'Q7_K'"),
        (("--imatrix", "nowhere.gguf"), 5, "nowhere.gguf cannot be read"),
        (("--imatrix", "MODEL"), 5, "not a usable importance matrix"),
        (("--out", "MODEL"), 2, "read and written at once"),
        (("--threads", "-1"), 2, "below zero"),
    ],
)
def test_what_cannot_be_done(
    words: tuple[str, ...], code: int, text: str, model: Path, tmp_path: Path, snugly: Snugly
) -> None:
    out = () if "--out" in words else ("--out", str(tmp_path / "out.gguf"))
    given = (word.replace("MODEL", str(model)) for word in words)
    done = snugly("quantize", str(model), *out, *given)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert left(tmp_path) == {"small-F16.gguf"}


@pytest.mark.parametrize("to", ["Q4_0", "F16"])
def test_a_weight_that_is_no_number_is_named_and_nothing_stays(
    to: str, model: Path, tmp_path: Path, snugly: Snugly
) -> None:
    tensor = next(t for t in read_header(model).tensors if t.name == "blk.0.ffn_gate.weight")
    data = bytearray(model.read_bytes())
    at = read_header(model).data_offset + tensor.offset + 2 * 300
    data[at : at + 2] = np.float16("nan").tobytes()
    model.write_bytes(data)
    done = snugly("quantize", str(model), "--to", to, "--out", str(tmp_path / "out.gguf"))
    assert done.returncode == 5
    assert "blk.0.ffn_gate.weight" in done.stderr
    assert "not a number" in done.stderr
    assert left(tmp_path) == {"small-F16.gguf"}


def test_a_file_cut_short_is_refused(model: Path, tmp_path: Path, snugly: Snugly) -> None:
    os.truncate(model, model.stat().st_size - 1000)
    done = snugly("quantize", str(model), "--out", str(tmp_path / "out.gguf"))
    assert done.returncode == 5
    assert "cut short" in done.stderr
    assert left(tmp_path) == {"small-F16.gguf"}


def test_a_file_that_may_not_grow_leaves_nothing(model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snugly", "quantize", str(model), "--out", str(tmp_path / "o.gguf")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert left(tmp_path) == {"small-F16.gguf"}


def slow(model: Path, out: Path, *words: str) -> list[str]:
    """A command that takes a while: the slowest types, one thread."""
    matrix = write_matrix(model.parent / "m.imatrix")
    return [sys.executable, "-m", "snugly", "quantize", str(model), "--out", str(out), "--to",
            "IQ3_S", "--imatrix", str(matrix), "--threads", "1", *words]  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_file_is_resumed(how: signal.Signals, tmp_path: Path) -> None:
    model = write_model(tmp_path / "small.gguf")
    out, part = tmp_path / "out.gguf", tmp_path / ".out.gguf.part"
    journal = tmp_path / ".out.gguf.part.done"
    with subprocess.Popen(slow(model, out), stderr=subprocess.PIPE, text=True) as process:
        while not journal.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        code = process.returncode
    if code == 0:
        pytest.skip("it was done before it could be interrupted")
    assert not out.exists()
    assert part.exists()
    if how is signal.SIGINT:
        assert code == 130
        assert "--resume goes on" in said
    assert subprocess.run(slow(model, out, "--resume"), check=True, capture_output=True)
    whole = tmp_path / "whole.gguf"
    assert subprocess.run(slow(model, whole), check=True, capture_output=True)
    assert out.read_bytes() == whole.read_bytes()
    assert left(tmp_path) == {"small.gguf", "m.imatrix", "out.gguf", "whole.gguf"}


def test_a_split_model_becomes_one_file(tmp_path: Path, snugly: Snugly) -> None:
    names = tuple(MATRICES)
    for part, some in enumerate((names[:4], (*names[4:], "output_norm.weight")), 1):
        write_model(tmp_path / f"m-{part:05d}-of-00002.gguf", names=some)
    out = tmp_path / "out.gguf"
    first = str(tmp_path / "m-00001-of-00002.gguf")
    assert snugly("quantize", first, "--to", "F32", "--out", str(out)).returncode == 0
    header, data = read_header(out), out.read_bytes()
    for tensor in header.tensors:
        raw = data[header.data_offset + tensor.offset :][: tensor.n_bytes]
        assert raw == weights_of(tensor.name).tobytes()


def test_inspect_shows_every_tensor_and_the_sum(model: Path, snugly: Snugly) -> None:
    told = json.loads(snugly("inspect", str(model), "--outliers", "--json").stdout)
    rows = {row["name"]: row for row in told["tensors"]}
    assert rows["blk.0.ffn_up.weight"]["bytes"] == 2 * 256 * 256
    assert rows["blk.0.ffn_up.weight"]["bits_per_weight"] == 16
    weights = weights_of("blk.0.ffn_up.weight").astype(np.float16).astype(float)
    rms = float(np.sqrt((weights**2).mean()))
    assert rows["blk.0.ffn_up.weight"]["rms"] == pytest.approx(rms, rel=1e-4)
    assert rows["blk.0.ffn_up.weight"]["peak"] == pytest.approx(weights.max() / rms, rel=1e-2)
    assert told["weight_bytes"] == sum(row["bytes"] for row in told["tensors"])
    assert [row["layer"] for row in told["layers"]] == ["token_embd.weight", "output.weight", "0"]
    shown = snugly("inspect", str(model)).stdout
    assert "12 tensors" in shown
    assert "16.0" in shown


def test_inspect_of_a_checkpoint_says_what_transformers_prints(
    tmp_path: Path, snugly: Snugly
) -> None:
    folder = tmp_path / "SmolLM2-135M"
    folder.mkdir()
    config = hub_config("HuggingFaceTB__SmolLM2-135M-Instruct")
    config |= {"num_hidden_layers": 1, "vocab_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    names = {t.name: tuple(reversed(t.shape)) for t in header_of_config(config, "x").tensors}
    tensors = [(name, "BF16", shape) for name, shape in names.items()]
    (folder / "model.safetensors").write_bytes(stored_bytes(tensors))
    told = json.loads(snugly("inspect", str(folder), "--json").stdout)
    assert told["footprint"]["dtype"] == "bfloat16"
    # The library counts buffers too: 32 frequencies in F32, which it keeps twice.
    assert told["footprint"]["printed_bytes"] == told["weight_bytes"] + 2 * 32 * 4
