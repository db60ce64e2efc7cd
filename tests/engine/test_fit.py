"""From a size to a measured file, with the real engine and random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.quantize_making import tiny

from snugly.cli.app import run
from snugly.errors import EngineError
from snugly.model.gguf import read_header
from snugly.model.spec import read_spec
from snugly.settings import settings

Read = pytest.CaptureFixture[str]


@pytest.fixture
def call(tmp_path: Path, capfd: Read) -> Callable[..., tuple[int, str, str]]:
    """Runs `snugly quantize` on a model, and gives exit code, output and remarks."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} green bottles hanging on the wall.\n" for n in range(300)))
    model = tiny(tmp_path / "m-F32.gguf", "llama")

    def quantize(*words: str) -> tuple[int, str, str]:
        code = run(["quantize", str(model), "--calibrate", str(text), "--threads", "1", *words])
        heard = capfd.readouterr()
        return code, heard.out, heard.err

    return quantize


def test_a_size_becomes_a_file_and_its_loss_is_measured(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "small.gguf"
    code, said, _ = call("--budget", "90kB", "--out", str(out), "--json")
    assert code == 0
    made = json.loads(said)
    assert made["file_bytes"] == out.stat().st_size <= 90_000
    assert made["file_bytes"] > 0.95 * 90_000
    assert 0 < made["loss"]["kld"]["value"] < 5 * made["predicted_kld"]
    assert {"path", "measured_on", "seconds", "types", "tensors", "neighbours"} <= set(made)
    spec = read_spec(str(out))
    assert {t.name: t.ggml_type for t in spec.tensors if t.name in made["tensors"]} == made[
        "tensors"
    ]
    code, _, remarks = call("--budget", "40kB", "--out", str(tmp_path / "b.gguf"))
    assert code == 2
    assert "too small" in remarks
    assert not (tmp_path / "b.gguf").exists()


def test_a_box_holds_the_file_with_its_cache(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "boxed.gguf"
    code, _, remarks = call("--fit", "raspberry pi 5 8gb", "--context", "512", "--out", str(out),
                            "--no-refine")  # fmt: skip
    assert code == 0
    assert out.stat().st_size > 180_000  # it all fits: nothing is lost for want of room
    assert "Raspberry" in remarks or "assumed" in remarks or "snugly run" in remarks


def test_speed_has_its_price(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, remarks = call("--budget", "90kB", "--min-speed", "1e9", "--no-refine",
                            "--out", str(tmp_path / "fast.gguf"))  # fmt: skip
    assert code == 4
    assert "is expected to reach" in remarks
    assert not (tmp_path / "fast.gguf").exists()


def test_nonsense_is_said(call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, remarks = call("--budget", "much")
    assert code == 2
    assert "no size" in remarks


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "1MB", "--tensor", "a=Q8_0"), "nothing to choose to --tensor"),
        (("--fit", "--to", "Q4_K_M"), "nothing to choose to --to"),
        (
            ("--budget", "1MB", "--to", "Q4_K_M", "--imatrix", "m"),
            "nothing to choose to --to and --imatrix",
        ),
        (("--context", "512"), "no size for --context and --calibrate"),
        (("--to", "Q8_0", "--no-refine"), "no size for --calibrate and --no-refine"),
        (("--min-speed", "3"), "no size for --calibrate and --min-speed"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    words: tuple[str, ...], said: str, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, remarks = call(*words)
    assert code == 2
    assert said in remarks
    assert {path.name for path in tmp_path.iterdir()} == {"m-F32.gguf", "text.txt"}


@pytest.mark.parametrize(
    ("damage", "code", "said"), [("cut", 5, "cut short"), ("nan", 5, "Layer 1 of the model")]
)
def test_a_damaged_model_is_refused_and_nothing_stays(
    damage: str, code: int, said: str, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    model = tmp_path / "m-F32.gguf"
    header = read_header(model)
    tensor = next(t for t in header.tensors if t.name == "blk.1.ffn_up.weight")
    data = bytearray(model.read_bytes())
    if damage == "nan":
        at = header.data_offset + tensor.offset
        data[at : at + 4] = np.float32("nan").tobytes()
    model.write_bytes(data[: -100 if damage == "cut" else None])
    found, _, remarks = call("--budget", "90kB", "--out", str(tmp_path / "out.gguf"))
    assert (found, said in remarks) == (code, True), remarks
    assert {path.name for path in tmp_path.iterdir()} == {"m-F32.gguf", "text.txt"}


def test_a_cache_that_is_no_folder_is_named(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("SNUGLY_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    code, _, remarks = call("--budget", "90kB", "--out", str(tmp_path / "out.gguf"))
    assert code == 2
    assert "cannot be kept" in remarks
    assert not (tmp_path / "out.gguf").exists()


def test_a_whole_file_stays_when_only_measuring_it_failed(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise EngineError("It was killed.", "Memory ran out.")

    monkeypatch.setattr("snugly.quantize.fit_run.measure_all", out_of_memory)
    out = tmp_path / "out.gguf"
    code, _, remarks = call("--budget", "90kB", "--out", str(out), "--no-refine")
    assert code != 0
    assert "was not measured" in remarks
    assert read_spec(str(out)).n_params > 0
