"""Fetched checkpoints are listed and removed as models are, and nothing else goes with them."""

import json
from pathlib import Path

import pytest

from snugly.cli.app import run
from snugly.errors import UserError
from snugly.model import download
from snugly.model.checkpoint_kept import Kept, kept_checkpoints, named, remove
from snugly.settings import settings


def put(cache: Path, ref: str, **files: bytes) -> Path:
    name, commit = ref.split("@")
    folder = cache / "checkpoints" / name / commit
    folder.mkdir(parents=True)
    for file, data in (files or {"config.json": b"{}", "model.safetensors": bytes(100)}).items():
        (folder / file).write_bytes(data)
    return folder


def test_what_is_here_is_found_by_name_and_commit(tmp_path: Path) -> None:
    assert kept_checkpoints(tmp_path) == ()
    folder = put(tmp_path, "Qwen/Qwen3-8B@0123456789ab")
    put(tmp_path, "a/b@ffffffffffff", **{".model.safetensors.part": bytes(7)})
    (tmp_path / "checkpoints/.locks").mkdir()
    (tmp_path / "checkpoints/linked").symlink_to(tmp_path / "checkpoints/Qwen")
    found = kept_checkpoints(tmp_path)
    assert [(item.ref, item.n_bytes, item.unfinished) for item in found] == [
        ("a/b@ffffffffffff", 7, True),
        ("Qwen/Qwen3-8B@0123456789ab", 102, False),
    ]
    assert found[1].path == folder
    for text in ("Qwen/Qwen3-8B", "hf:qwen/qwen3-8b", "Qwen/Qwen3-8B@0123456789ab"):
        assert named(text, found) is found[1]
    assert named("Qwen/Qwen3", found) is None
    twice = (*found, Kept("a/b@eeeeeeeeeeee", tmp_path, 1, unfinished=False))
    with pytest.raises(UserError, match="here 2 times"):
        named("a/b", twice)


def test_one_goes_whole_and_alone(tmp_path: Path) -> None:
    folder = put(tmp_path, "a/b@ffffffffffff", **{"config.json": b"{}", ".w.part": bytes(9),
                                                 ".w.part.json": b"{}"})  # fmt: skip
    other = put(tmp_path, "a/c@ffffffffffff")
    outside = tmp_path / "mine"
    outside.write_bytes(bytes(1000))
    (folder / "linked").symlink_to(outside)
    (item,) = (kept for kept in kept_checkpoints(tmp_path) if kept.ref.startswith("a/b"))
    with (
        download.only_one(tmp_path / "checkpoints", folder / "w"),
        pytest.raises(UserError, match="being fetched"),
    ):
        remove(item, tmp_path)
    assert remove(item, tmp_path) < 1000
    assert not folder.parent.exists()
    assert other.is_dir()
    assert outside.stat().st_size == 1000


def test_the_commands_know_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNUGLY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SNUGLY_STORE", str(tmp_path / "store"))
    settings.cache_clear()
    folder = put(tmp_path / "cache", "a/b@ffffffffffff")
    assert run(["models"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a/b@ffffffffffff: a checkpoint for `snugly quantize`, 102 B" in said
    assert run(["models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["checkpoints"]
    assert (row["ref"], row["n_bytes"], row["unfinished"]) == ("a/b@ffffffffffff", 102, False)
    assert run(["rm", "a/c"]) != 0
    assert folder.is_dir()
    capsys.readouterr()
    assert run(["rm", "a/b", "--json"]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert gone == {"removed": "a/b@ffffffffffff", "freed_bytes": 102, "file_kept": False}
    assert not folder.exists()
