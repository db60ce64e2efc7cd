"""Checkpoints of the hub, fetched for quantizing: resumed, verified, and turned into a GGUF."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.golden.checkpoints.small_checkpoints import write
from tests.process.hub_server import COMMIT, Hub, running

from snugly.errors import DownloadError, UnknownModel
from snugly.model.checkpoint_fetch import fetch_checkpoint
from snugly.model.refs import parse
from snugly.model.transfer import Patience
from snugly.quantize.open import locate, open_source
from snugly.settings import Settings, settings

REPOSITORY = "tester/Qwen2-Tiny"
QUICK = Patience(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, silence_s=10)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "/dev/null")
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01, 0.01))
    folder = write("qwen2", tmp_path)
    with running() as hub:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        hub.repositories[REPOSITORY] = {
            **files, "modeling_evil.py": b"print()", "pytorch_model.bin": b"x", "LICENSE": b"mine",
        }  # fmt: skip
        hub.plain = {name for name in files if not name.endswith(".safetensors")}
        hub.repositories["tester/Tiny-GGUF"] = {"tiny-Q4_0.gguf": b"GGUF"}
        monkeypatch.setenv("SNUGLY_HF_ENDPOINT", hub.endpoint)
        settings.cache_clear()
        yield hub
    from huggingface_hub import close_session

    close_session()


def fetch(hub: Hub, text: str = REPOSITORY) -> Path:
    return fetch_checkpoint(parse(text), settings(), patience=QUICK)


def test_it_comes_whole_by_commit_without_programs(hub: Hub) -> None:
    folder = fetch(hub)
    assert folder.parts[-3:] == ("tester", "Qwen2-Tiny", COMMIT[:12])
    here = {path.name: path.read_bytes() for path in folder.iterdir()}
    whole = hub.repositories[REPOSITORY]
    assert here == {name: whole[name] for name in whole if not name.endswith((".py", ".bin"))}


def test_it_goes_on_where_it_was_cut_and_asks_for_nothing_twice(hub: Hub) -> None:
    shards = [n for n in hub.repositories[REPOSITORY] if n.endswith(".safetensors")]
    fetch(hub)  # to know how many requests there are before the first shard
    before = [name for name, _ in hub.bodies].index(shards[0])
    hub.bodies.clear()
    for path in fetch(hub).iterdir():
        path.unlink()
    hub.bodies.clear()
    whole = [1 << 30] * before
    hub.cut_after = [*whole, 1000, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch(hub)
    hub.cut_after, hub.bodies = [], []
    folder = fetch(hub)
    assert hub.bodies[0] == (shards[0], "bytes=1000-")
    assert (folder / shards[0]).read_bytes() == hub.repositories[REPOSITORY][shards[0]]
    hub.bodies.clear()
    fetch(hub)
    assert hub.bodies == []


def test_other_bytes_than_promised_are_refused_and_damage_is_mended(hub: Hub) -> None:
    shard = next(n for n in hub.repositories[REPOSITORY] if n.endswith(".safetensors"))
    right = hub.repositories[REPOSITORY][shard]
    hub.served[shard] = bytes(len(right))
    with pytest.raises(DownloadError, match="What was received is not"):
        fetch(hub)
    hub.served.clear()
    path = fetch(hub) / shard
    path.write_bytes(bytes(len(right)))
    assert (fetch(hub) / shard).read_bytes() == right


def test_what_is_no_checkpoint_says_so(hub: Hub) -> None:
    with pytest.raises(UnknownModel, match="holds no checkpoint"):
        fetch(hub, "tester/Tiny-GGUF")
    hub.plain.update(hub.repositories[REPOSITORY])
    with pytest.raises(DownloadError, match="cannot be verified"):
        fetch(hub)


@pytest.mark.parametrize("text", [REPOSITORY, f"hf:{REPOSITORY}", f"hf:{REPOSITORY}@main"])
def test_a_reference_is_a_source_for_quantizing(hub: Hub, text: str) -> None:
    opened = open_source(text, Settings(hf_endpoint=hub.endpoint, cache=settings().cache))
    assert opened.name == "Qwen2-Tiny"
    assert opened.source.metadata["general.architecture"] == "qwen2"
    with pytest.raises(UnknownModel):
        locate("tester/Qwen2-Tiny:Q4_K_M", settings())  # a quantization is a GGUF, and not here
