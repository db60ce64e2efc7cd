"""Adoption from homes as the programs lay them out, on all three systems."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from snugly.errors import UserError
from snugly.model.adopt import adopt, search
from snugly.model.adopt_places import places
from snugly.model.lookup import find
from snugly.model.store import Store

BODY = b"GGUF" + b"\x03\x00\x00\x00" * 50
DIGEST = hashlib.sha256(BODY).hexdigest()
links = pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")


def put(path: Path, body: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def ollama_model(
    root: Path, name: str, digest: str = DIGEST, body: bytes = BODY, kind: str = "model"
) -> Path:
    """One manifest as Ollama 0.5 writes it, and its blobs."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                   "digest": "sha256:" + "1" * 64, "size": 485},
        "layers": [
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}",
             "size": len(body)},
            {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "2" * 64,
             "size": 358},
        ],
    }  # fmt: skip
    put(root / "manifests" / name, json.dumps(manifest).encode())
    return put(root / "blobs" / f"sha256-{digest}", body) if "/" not in digest else root


def refs(home: Path, *programs: str, **env: str) -> list[str]:
    return [item.ref for item in search(home, env, "Linux", programs)]


def test_ollama(tmp_path: Path) -> None:
    root = tmp_path / ".ollama" / "models"
    blob = ollama_model(root, "registry.ollama.ai/library/qwen2.5-coder/1.5b")
    ollama_model(
        root, "hf.co/bartowski/Qwen2.5-7B-Instruct-GGUF/Q4_K_M", "3" * 64, b"GGUF" + bytes(9)
    )
    found = search(tmp_path, {}, "Linux", ("ollama",))
    assert [(item.ref, item.n_bytes, item.sha256) for item in found] == [
        ("bartowski/Qwen2.5-7B-Instruct-GGUF/Q4_K_M.gguf", 13, "3" * 64),
        ("ollama/qwen2.5-coder/1.5b.gguf", len(BODY), DIGEST),
    ]
    assert found[1].parts == (str(blob),)


def test_old_ollama_blobs_have_a_colon(tmp_path: Path) -> None:
    root = tmp_path / ".ollama" / "models"
    blob = ollama_model(root, "registry.ollama.ai/library/llama2/7b")
    if os.name != "posix":
        pytest.skip("a colon cannot be in a file name on Windows")
    blob.rename(blob.with_name(f"sha256:{DIGEST}"))
    assert refs(tmp_path) == ["ollama/llama2/7b.gguf"]


def test_jan_imports_by_absolute_path(tmp_path: Path) -> None:
    file = put(tmp_path / "Downloads/Tiny-Q4_0.gguf")
    put(
        tmp_path / ".config/Jan/data/llamacpp/models/mine/model.yml",
        f"model_path: {file}\nname: mine\nsize_bytes: 9\n".encode(),
    )
    (item,) = search(tmp_path, {}, "Linux", ("jan",))
    assert (item.ref, item.parts) == ("jan/mine/Tiny-Q4_0.gguf", (str(file),))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/.lmstudio/models/p/m/\xff.gguf")))
    assert refs(tmp_path) == []


def test_an_ollama_model_answers_to_its_own_name(tmp_path: Path) -> None:
    ollama_model(tmp_path / "o", "registry.ollama.ai/library/qwen2.5-coder/1.5b")
    store = Store(tmp_path / "models")
    adopt(search(tmp_path, {"OLLAMA_MODELS": str(tmp_path / "o")}, "Linux"), store)
    for text in ("qwen2.5-coder:1.5b", "ollama/qwen2.5-coder", "ollama/qwen2.5-coder:1.5b"):
        item = find(store, text)
        assert item.ref == "ollama/qwen2.5-coder/1.5b.gguf"
        assert item.adopted
    assert store.verify(item).problem == ""
    assert store.verify(item).recorded


@pytest.mark.parametrize(
    "digest", ["../../../etc/passwd", "sha256", "A" * 64, "0" * 63, "/etc/passwd", ""]
)
def test_an_odd_digest_leads_nowhere(tmp_path: Path, digest: str) -> None:
    ollama_model(tmp_path / ".ollama" / "models", "registry.ollama.ai/library/x/y", digest)
    assert refs(tmp_path) == []


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"layers": 3}', b'{"layers": [3]}',
                                      b"\xff\xfe", b"[" * 100_000])  # fmt: skip
def test_a_broken_manifest_is_passed_over(tmp_path: Path, manifest: bytes) -> None:
    put(tmp_path / ".ollama/models/manifests/r/library/x/y", manifest)
    assert refs(tmp_path) == []


def test_what_is_no_gguf_is_passed_over(tmp_path: Path) -> None:
    root = tmp_path / ".ollama" / "models"
    ollama_model(root, "r/library/gone/latest").unlink()
    ollama_model(root, "r/library/safe/latest", "4" * 64, kind="tensor")
    ollama_model(root, "r/library/other/latest", "5" * 64, b"PK\x03\x04")
    put(tmp_path / ".lmstudio/models/p/m/x.gguf", b"<html>")
    put(tmp_path / ".lmstudio/models/p/m/mmproj-x.gguf")
    assert refs(tmp_path) == []


def test_lm_studio_keeps_publisher_and_model(tmp_path: Path) -> None:
    put(tmp_path / ".lmstudio/models/lmstudio-community/gemma-2-9b-it-GGUF/g-Q4_K_M.gguf")
    put(tmp_path / ".cache/lm-studio/models/p/old/o-Q8_0.gguf", BODY + b"2")
    assert refs(tmp_path, "lmstudio") == [
        "lmstudio-community/gemma-2-9b-it-GGUF/g-Q4_K_M.gguf",
        "p/old/o-Q8_0.gguf",
    ]


def test_lm_studio_with_folders_of_its_own_choice(tmp_path: Path) -> None:
    put(tmp_path / "big disk/p/m/x-Q4_0.gguf")
    settings = {"downloadsFolder": str(tmp_path / "big disk")}
    put(tmp_path / "studio/settings.json", json.dumps(settings).encode())
    put(tmp_path / ".lmstudio-home-pointer", str(tmp_path / "studio").encode() + b"\n")
    assert refs(tmp_path, "lmstudio") == ["p/m/x-Q4_0.gguf"]


def test_gpt4all_and_jan(tmp_path: Path) -> None:
    put(tmp_path / ".local/share/nomic.ai/GPT4All/Llama-3.2-1B-Instruct-Q4_0.gguf")
    put(tmp_path / "elsewhere/Phi-3.Q4_0.gguf", BODY + b"1")
    put(
        tmp_path / ".config/nomic.ai/GPT4All.ini",
        f"[General]\nmodelPath={tmp_path / 'elsewhere'}\n".encode(),
    )
    put(tmp_path / ".local/share/Jan/data/llamacpp/models/Menlo/Jan-nano/model.gguf", BODY + b"2")
    put(tmp_path / "jan/models/tiny/tiny-Q4_0.gguf", BODY + b"3")
    assert refs(tmp_path) == [
        "gpt4all/Phi-3.Q4_0/Phi-3.Q4_0.gguf",
        "gpt4all/Llama-3.2-1B-Instruct-Q4_0/Llama-3.2-1B-Instruct-Q4_0.gguf",
        "jan/Menlo--Jan-nano/model.gguf",
        "jan/tiny/tiny-Q4_0.gguf",
    ]


@links
def test_hugging_face_cache(tmp_path: Path) -> None:
    cache = tmp_path / ".cache/huggingface/hub/models--bartowski--Q-GGUF"
    blob = put(cache / "blobs" / DIGEST)
    for commit, name in (("a" * 40, "Q-Q4_K_M.gguf"), ("b" * 40, "Q-Q4_K_M.gguf")):
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / name).symlink_to(f"../../blobs/{DIGEST}")
    put(cache / "refs" / "main", b"b" * 40)
    (item,) = search(tmp_path, {}, "Linux", ("hf-cache",))
    assert item.ref == "bartowski/Q-GGUF/Q-Q4_K_M.gguf"
    assert (item.revision, item.sha256) == ("b" * 40, DIGEST)
    assert os.path.realpath(item.parts[0]) == str(blob)
    assert refs(tmp_path, "hf-cache", HF_HOME=str(tmp_path / ".cache/huggingface")) == [item.ref]


@links
def test_a_link_out_of_the_cache_and_a_circle(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside.gguf")
    snapshot = tmp_path / ".cache/huggingface/hub/models--p--m/snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "x-Q4_0.gguf").symlink_to(outside)
    loop = tmp_path / ".lmstudio/models/p"
    loop.mkdir(parents=True)
    (loop / "again").symlink_to(loop)
    (loop / "self.gguf").symlink_to(loop / "self.gguf")
    os.mkfifo(loop / "pipe.gguf")
    assert refs(tmp_path) == []


def test_a_split_model_is_adopted_whole(tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio/models/p/m"
    first = put(folder / "x-Q4_0-00001-of-00002.gguf")
    assert refs(tmp_path) == []
    second = put(folder / "x-Q4_0-00002-of-00002.gguf")
    (item,) = search(tmp_path, {}, "Linux")
    assert item.parts == (str(first), str(second))
    assert item.n_bytes == 2 * len(BODY)


def test_adopting_copies_nothing_and_giving_back_deletes_nothing(tmp_path: Path) -> None:
    file = put(tmp_path / ".lmstudio/models/p/m/x-Q4_0.gguf")
    store = Store(tmp_path / "models")
    found = search(tmp_path, {}, "Linux")
    assert [item.outcome for item in adopt(found, store, dry_run=True)] == ["adopted"]
    assert not store.root.exists()
    assert [item.outcome for item in adopt(found, store)] == ["adopted"]
    assert [item.outcome for item in adopt(found, store)] == ["known"]
    (item,) = store.installed()
    assert (item.ref, item.path, item.adopted) == ("p/m/x-Q4_0.gguf", str(file), True)
    assert item.provenance.source == "lmstudio"
    assert [p.name for p in store.root.rglob("*") if p.is_file()] == ["x-Q4_0.gguf.json"]
    assert (store.verify(item).problem, store.verify(item).recorded) == ("", False)
    assert store.remove(item) == 0
    assert file.read_bytes() == BODY
    assert store.survey() == ((), ())


def test_a_file_that_went_away_is_told(tmp_path: Path) -> None:
    file = put(tmp_path / ".lmstudio/models/p/m/x-Q4_0.gguf")
    store = Store(tmp_path / "models")
    adopt(search(tmp_path, {}, "Linux"), store)
    file.unlink()
    assert store.installed() == ()
    (problem,) = store.problems()
    assert "is gone" in problem.problem
    assert "snugly rm p/m/x-Q4_0.gguf" in problem.remedy
    assert store.discard(problem) == 0
    assert store.survey() == ((), ())


def test_a_stored_model_is_not_replaced(tmp_path: Path) -> None:
    put(tmp_path / ".lmstudio/models/p/m/x-Q4_0.gguf")
    store = Store(tmp_path / "models")
    mine = put(store.root / "p/m/x-Q4_0.gguf", BODY + b"mine")
    assert [item.outcome for item in adopt(search(tmp_path, {}, "Linux"), store)] == ["skipped"]
    assert store.installed()[0].path == str(mine)


def test_one_file_in_two_programs_is_one_model_and_two_files_are_two(tmp_path: Path) -> None:
    first = put(tmp_path / ".lmstudio/models/p/m/x-Q4_0.gguf")
    put(tmp_path / ".cache/huggingface/hub/models--p--m/snapshots/c/x-Q4_0.gguf", BODY + b"2")
    if os.name == "posix":
        folder = tmp_path / ".local/share/nomic.ai/GPT4All"
        folder.mkdir(parents=True)
        (folder / "same.gguf").symlink_to(first)
    assert refs(tmp_path) == ["p/m/x-Q4_0.gguf", "p/m-hf-cache/x-Q4_0.gguf"]


def test_an_unknown_program_suggests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ollama"):
        search(tmp_path, {}, "Linux", ("olama",))


def test_places_on_each_system() -> None:
    home = Path("/home/ada")
    linux = places(home, {}, "Linux")
    assert Path("/usr/share/ollama/.ollama/models") in linux["ollama"]
    assert linux["hf-cache"] == (home / ".cache/huggingface/hub",)
    assert linux["gpt4all"][0] == home / ".local/share/nomic.ai/GPT4All"
    mac = places(home, {}, "Darwin")
    assert mac["ollama"] == (home / ".ollama/models",)
    assert mac["gpt4all"][0] == home / "Library/Application Support/nomic.ai/GPT4All"
    assert mac["jan"][0] == home / "Library/Application Support/Jan/data/llamacpp/models"
    windows = places(home, {"LOCALAPPDATA": "/u/Local", "APPDATA": "/u/Roaming"}, "Windows")
    assert windows["gpt4all"][0] == Path("/u/Local/nomic.ai/GPT4All")
    assert windows["jan"][0] == Path("/u/Roaming/Jan/data/llamacpp/models")
    assert windows["ollama"] == (home / ".ollama/models",)


def test_variables_that_move_a_program() -> None:
    home = Path("/home/ada")
    env = {"OLLAMA_MODELS": "/big/ollama", "HF_HOME": "/big/hf", "XDG_DATA_HOME": "/d"}
    moved = places(home, env, "Linux")
    assert moved["ollama"][0] == Path("/big/ollama")
    assert moved["hf-cache"] == (Path("/big/hf/hub"),)
    assert moved["gpt4all"][0] == Path("/d/nomic.ai/GPT4All")
    assert places(home, env | {"HF_HUB_CACHE": "/c"}, "Linux")["hf-cache"] == (Path("/c"),)
    pointed = places(home, {}, "Linux", {"lmstudio": Path("/x")})
    assert pointed["lmstudio"][0] == Path("/x")
