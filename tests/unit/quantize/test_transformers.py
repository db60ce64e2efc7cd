"""Checkpoints of transformers: what is said and left behind, without torch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.golden.checkpoints.small_checkpoints import write

from snugly.cli.app import run
from snugly.errors import BadModelFile, EngineError, UserError
from snugly.model.footprint import DTYPES as COUNTED
from snugly.quantize import transformers_libraries, transformers_make
from snugly.quantize.transformers_make import DTYPES, is_checkpoint_type, make_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write("qwen2", tmp_path)
    (folder / "LICENSE").write_text("mine")
    return folder


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The process that would run transformers: it copies, and tells what it was asked."""
    asked: list[dict[str, Any]] = []

    def answers(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
        asked.append(config)
        yield {"step": 0, "what": "reading"}
        for file in Path(config["source"]).glob("model*"):
            (Path(config["target"]) / file.name).write_bytes(file.read_bytes())
        yield {
            "printed_bytes": 5,
            "true_bytes": 6,
            "answer": "Paris",
            "remarks": [],
            "versions": {"torch": "2"},
        }

    monkeypatch.setattr(transformers_make, "answers", answers)
    monkeypatch.setattr(transformers_make, "demand", lambda: None)
    return asked


def test_a_type_is_one_of_transformers_or_of_llama_cpps_and_never_both() -> None:
    assert is_checkpoint_type("NF4")
    assert not is_checkpoint_type("BF16")  # a GGUF's
    assert set(DTYPES) < set(COUNTED)  # what is made can be counted beforehand


def test_it_appears_whole_with_its_licence_and_says_how_it_was_made(
    source: Path, worker: list[dict[str, Any]], tmp_path: Path
) -> None:
    made = make_checkpoint(source, tmp_path / "out", "NF4", threads=2)
    assert (worker[0]["dtype"], worker[0]["threads"]) == ("nf4", 2)
    assert (made.printed_bytes, made.true_bytes, made.answer) == (5, 6, "Paris")
    assert made.file_bytes == sum(f.stat().st_size for f in source.glob("*.safetensors"))
    said = json.loads((made.path / "snugly.json").read_text())
    assert (said["to"], said["from"], said["versions"]) == ("nf4", "qwen2", {"torch": "2"})
    assert (made.path / "LICENSE").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "qwen2"]


def test_the_command_says_what_it_takes_and_what_it_answers(
    source: Path, worker: list[dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(transformers_libraries, "demand", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert run(["quantize", str(source), "--to", "int8"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == "qwen2-int8"
    assert "get_memory_footprint() prints 0.0 MB" in said.err
    assert "Paris" in said.err
    assert run(["quantize", str(source), "--to", "nf4", "--out", "mine", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["to"], document["path"]) == ("nf4", str(tmp_path / "mine"))
    assert run(["quantize", str(source), "--to", "nf4", "--imatrix", "x.gguf"]) == 2
    assert "takes no --imatrix" in capsys.readouterr().err
    assert run(["quantize", str(source), "--to", "nf4", "--resume"]) == 2
    assert "nothing to go on with" in " ".join(capsys.readouterr().err.split())
    assert len(worker) == 2


def test_nothing_is_left_when_it_fails(
    source: Path, worker: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
        (Path(config["target"]) / "model.safetensors").write_bytes(b"half")
        yield {"step": 0, "what": "reading"}
        raise EngineError("The process died.")

    monkeypatch.setattr(transformers_make, "answers", dies)
    before = {p: p.read_bytes() for p in source.iterdir()}
    with pytest.raises(EngineError):
        make_checkpoint(source, tmp_path / "out", "nf4")
    assert [p.name for p in tmp_path.iterdir()] == ["qwen2"]
    assert {p: p.read_bytes() for p in source.iterdir()} == before


def test_what_is_refused_before_anything_runs(
    source: Path, worker: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists already"):
        make_checkpoint(source, tmp_path / "there", "nf4")
    with pytest.raises(UserError, match="read and written at once"):
        make_checkpoint(source, source, "nf4")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Disk", (), {"free": 1000}))
    with pytest.raises(UserError, match="not enough room"):
        make_checkpoint(source, tmp_path / "out", "nf4")
    monkeypatch.undo()
    monkeypatch.setattr(transformers_make, "demand", lambda: None)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"quantization_config": {"a": 1}}))
    with pytest.raises(UserError, match="quantized already"):
        make_checkpoint(source, tmp_path / "out", "nf4")
    (source / "config.json").write_text(json.dumps(config))
    next(source.glob("*.safetensors")).write_bytes(b"no")
    with pytest.raises(BadModelFile):
        make_checkpoint(source, tmp_path / "out", "nf4")
    assert not worker
    assert sorted(p.name for p in tmp_path.iterdir()) == ["qwen2", "there"]


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_libraries, "find_spec", lambda name: name != "torch" or None)
    with pytest.raises(UserError) as raised:
        transformers_libraries.demand()
    assert "need torch, which is" in raised.value.problem
    assert "`pip install 'snugly[transformers]'`" in raised.value.remedy
