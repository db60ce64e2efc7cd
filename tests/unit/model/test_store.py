import json
import os
import random
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from snugly.errors import BadModelFile, UnknownModel, UserError
from snugly.model import sidecar
from snugly.model.lookup import find, short_name
from snugly.model.store import Store
from snugly.model.types import Provenance

BODY = b"GGUF" + b"\x03\x00\x00\x00" + b"weights " * 100


def put(store: Store, ref: str, body: bytes = BODY) -> Path:
    import hashlib

    path = store.root / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    known = Provenance("hub", ref.rpartition("/")[0], "c" * 40, digest, len(body), "mit")
    sidecar.write(sidecar.beside(path), sidecar.Sidecar(known))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


QWEN = "bartowski/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q4_K_M.gguf"
QWEN8 = "bartowski/Qwen2.5-7B-Instruct-GGUF/Qwen2.5-7B-Instruct-Q8_0.gguf"
CODER = "bartowski/Qwen2.5-Coder-1.5B-Instruct-GGUF/Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_store_that_does_not_exist_is_empty(store: Store) -> None:
    assert store.survey() == ((), ())


def test_what_is_stored_says_where_it_came_from(store: Store) -> None:
    path = put(store, QWEN)
    (item,) = store.installed()
    assert (item.ref, item.path, item.parts) == (QWEN, str(path), (str(path),))
    assert item.provenance.revision == "c" * 40
    assert not item.adopted
    beside = json.loads(path.with_name(path.name + ".json").read_text())
    assert beside == asdict(item.provenance)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (QWEN, QWEN),
        (QWEN.removesuffix(".gguf"), QWEN),
        (QWEN.upper(), QWEN),
        ("bartowski/Qwen2.5-7B-Instruct-GGUF:q8_0", QWEN8),
        ("hf.co/bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M", QWEN),
        ("bartowski/Qwen2.5-7B-Instruct-GGUF@" + "c" * 12 + ":Q4_K_M", QWEN),
        ("qwen2.5", QWEN),  # both are 7b; pull would have fetched Q4_K_M
        ("qwen2.5:7b", QWEN),
        ("qwen2.5:7b-q8_0", QWEN8),
        ("qwen2.5-coder:1.5b", CODER),
        ("qwen2.5-coder", CODER),  # the default of the family is 7b, which is not here
        ("smollm2", SMOL),
        ("SmolLM2-135M", SMOL),
        ("qwen2.5-c", CODER),
        ("Qwen2.5-7B-Instruct-Q8_0.gguf", QWEN8),
    ],
)
def test_find(store: Store, text: str, ref: str) -> None:
    for each in (QWEN, QWEN8, CODER, SMOL):
        put(store, each)
    assert find(store, text).ref == ref


def test_what_fits_several_is_an_error_that_lists_them(store: Store) -> None:
    put(store, QWEN)
    put(store, QWEN8)
    for text in ("bartowski/Qwen2.5-7B-Instruct-GGUF", "bart", "qwen2.5-7b"):
        with pytest.raises(UserError) as error:
            find(store, text)
        assert QWEN in error.value.because
        assert QWEN8 in error.value.because


def test_what_fits_nothing_suggests(store: Store) -> None:
    put(store, QWEN)
    with pytest.raises(UnknownModel) as error:
        find(store, "smolm2")
    assert "smollm2" in error.value.because
    with pytest.raises(UnknownModel, match="not installed") as error:
        find(store, "llama3.2:1b")
    assert "snugly pull llama3.2:1b" in error.value.remedy
    with pytest.raises(UnknownModel):
        find(store, "bartowski/Qwen2.5-7B-Instruct-GGUF:Q6_K")
    with pytest.raises(UnknownModel):
        find(store, QWEN + "@" + "d" * 40)


def test_the_shortest_name_that_leads_to_each(store: Store) -> None:
    third = "someone/Else-GGUF/Else-Q6_K.gguf"
    fourth = "someone/Else-GGUF/Else-Q8_0.gguf"
    for each in (QWEN, QWEN8, SMOL, third, fourth, "someone/One/one.gguf"):
        put(store, each)
    installed = store.installed()
    names = {item.ref: short_name(item, installed) for item in installed}
    assert names == {
        QWEN: "qwen2.5",
        QWEN8: "qwen2.5:7b-q8_0",
        SMOL: "smollm2",
        third: "someone/Else-GGUF:Q6_K",
        fourth: "someone/Else-GGUF:Q8_0",
        "someone/One/one.gguf": "someone/One",
    }
    assert all(find(store, name).ref == ref for ref, name in names.items())


def test_the_beginning_of_a_name_is_not_enough_to_remove(store: Store) -> None:
    put(store, QWEN)
    with pytest.raises(UnknownModel):
        find(store, "bart", whole_name=True)
    assert find(store, "qwen2.5", whole_name=True).ref == QWEN


def test_a_path_is_used_in_place(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # noqa: E501
    file = tmp_path / "my model.gguf"
    file.write_bytes(BODY)
    item = find(store, str(file))
    assert (item.path, item.adopted, item.provenance.source) == (str(file), True, "local")
    monkeypatch.chdir(tmp_path)
    assert find(store, "./my model.gguf").path == str(file)
    assert find(store, "my model.gguf").path == str(file)
    assert find(store, ".").path == str(file)
    assert store.survey() == ((), ())


def test_a_path_into_the_store_keeps_its_provenance(store: Store) -> None:
    path = put(store, QWEN)
    assert find(store, str(path)).ref == QWEN


@pytest.mark.parametrize("body", [b"", b"GG", b"PK\x03\x04", b"<html>"])
def test_a_path_to_something_else_is_refused(store: Store, tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(body)
    with pytest.raises(BadModelFile, match=r"x\.gguf"):
        find(store, str(file))


def test_a_missing_path_a_pipe_and_a_folder_of_many(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        find(store, str(tmp_path / "none.gguf"))
    with pytest.raises(UnknownModel):
        find(store, str(tmp_path))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(BadModelFile):  # and it does not wait for a writer
            find(store, str(tmp_path / "pipe.gguf"))
        (tmp_path / "pipe.gguf").unlink()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(BODY)
    with pytest.raises(UserError, match="2 models"):
        find(store, str(tmp_path))


def test_a_split_model_is_one_model(store: Store) -> None:
    for index in (1, 2, 3):
        put(store, f"p/m/x-Q4_K_M-{index:05d}-of-00003.gguf", BODY + bytes(index))
    (item,) = store.installed()
    assert len(item.parts) == 3
    assert item.provenance.n_bytes == 3 * len(BODY) + 1 + 2 + 3
    assert store.verify(item).problem == ""
    assert store.verify(item).recorded
    Path(item.parts[2]).write_bytes(BODY + b"abc")  # same size
    assert "00003-of-00003" in store.verify(item).problem
    Path(item.parts[1]).unlink()
    assert store.installed() == ()
    (problem,) = store.problems()
    assert "2 of its 3 parts" in problem.problem


def test_a_changed_byte_is_found_and_a_changed_size_at_once(store: Store) -> None:
    path = put(store, QWEN)
    (item,) = store.installed()
    assert store.verify(item).problem == ""
    body = bytearray(BODY)
    body[100] ^= 1
    path.write_bytes(body)
    assert "has changed" in store.verify(item).problem
    path.write_bytes(BODY[:-1])
    assert store.installed() == ()
    assert "pull" in store.problems()[0].remedy


def test_a_hundred_changed_bits_and_all_are_found(store: Store) -> None:
    # faults.md row 26; that pull then fetches again is in tests/process/test_pull.py
    path = put(store, QWEN)
    (item,) = store.installed()
    dice = random.Random(26)
    for _ in range(100):
        body = bytearray(BODY)
        body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
        path.write_bytes(body)
        assert "has changed" in store.verify(item).problem
    path.write_bytes(BODY)
    assert store.verify(item).problem == ""


def test_a_file_put_there_by_hand_is_a_model_without_a_checksum(store: Store) -> None:
    put(store, QWEN).with_name(QWEN.rpartition("/")[2] + ".json").unlink()
    (item,) = store.installed()
    assert item.provenance.source == "local"
    checked = store.verify(item)
    assert (checked.problem, checked.recorded) == ("", False)


def test_a_name_with_odd_characters_is_told_and_can_be_printed(store: Store) -> None:
    folder = store.root / "p" / "m"
    folder.mkdir(parents=True)
    name = "x\x1b[31m.gguf" if os.name == "posix" else "con.gguf"
    try:
        (folder / name).write_bytes(BODY)
    except OSError:
        pytest.skip("this system refuses the name itself")
    assert store.installed() == ()
    (problem,) = store.problems()
    assert problem.ref.isprintable()
    assert "Rename" in problem.remedy


def test_a_file_outside_is_never_removed(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(BODY)
    (tmp_path / "x.gguf.json").write_text("the person's own")
    with pytest.raises(UserError, match="not in the store"):
        store.remove(find(store, str(file)))
    assert sorted(p.name for p in tmp_path.glob("x*")) == ["x.gguf", "x.gguf.json"]


def test_remove_leaves_nothing_behind(store: Store) -> None:
    put(store, QWEN)
    put(store, SMOL)
    assert store.remove(find(store, QWEN)) == len(BODY)
    assert [item.ref for item in store.installed()] == [SMOL]
    assert not (store.root / "bartowski").exists()


def test_unfinished_downloads_are_told_and_can_be_dropped(store: Store) -> None:
    folder = store.root / "p" / "m"
    folder.mkdir(parents=True)
    (folder / ".x.gguf.part").write_bytes(b"12345")
    (folder / ".x.gguf.part.json").write_text("{}")
    assert store.installed() == ()
    (problem,) = store.unfinished()
    assert (problem.ref, "5 B" in problem.problem) == ("p/m/x.gguf", True)
    assert store.discard(problem) == 5
    assert not (store.root / "p").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"source": 1}', "\x00", "[" * 100_000, '"x"', '{"parts": 3}']
)
def test_a_broken_json_is_no_traceback(store: Store, text: str) -> None:
    path = put(store, QWEN)
    sidecar.beside(path).write_text(text)
    (item,) = store.installed()
    assert item.provenance.sha256 == ""
    path.unlink()
    assert store.installed() == ()
    assert "cannot be read" in store.problems()[0].problem


def test_json_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    sidecar.write_text(path, "old")

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        sidecar.write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX matter")
def test_json_can_be_read_by_others_but_not_written(tmp_path: Path) -> None:
    sidecar.write_text(tmp_path / "x.json", "{}")
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) & ~0o644 == 0


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_a_linked_folder_that_leads_out_of_the_store_is_refused(
    store: Store, tmp_path: Path
) -> None:  # noqa: E501
    (tmp_path / "elsewhere").mkdir()
    store.root.mkdir()
    (store.root / "p").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out"):
        store.place("p", "m", "x.gguf")
