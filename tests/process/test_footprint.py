"""`snugly footprint` as a person calls it; the hub is a real HTTP server on loopback."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.making import hub_config
from tests.process.afar_server import Afar, running
from tests.process.test_run import snugly
from tests.unit.model.test_footprint import GEMMA, small

from snugly.errors import BadModelFile, DownloadError, UnknownModel, UserError
from snugly.model.config_source import config_of
from snugly.model.transfer import Patience
from snugly.settings import settings

FAST = Patience(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, silence_s=2.0)


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    path = tmp_path / "gemma-3-4b-it" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(GEMMA))
    return path


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Afar]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01, 0.01))
    with running() as server:
        monkeypatch.setenv("SNUGLY_HF_ENDPOINT", server.endpoint)
        settings.cache_clear()
        yield server
    from huggingface_hub import close_session

    close_session()


def test_a_config_alone_says_what_is_printed_and_what_is_true(gemma: Path) -> None:
    done = snugly("footprint", str(gemma), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[2:]}
    assert rows["float32"][:4] == ["17.2004", "GB", "17.2004", "GB"]
    assert rows["nf4"][:4] == ["3.1706", "GB", "3.3969", "GB"]
    assert rows["nf4-dq"][:4] == ["3.1706", "GB", "3.2285", "GB"]
    assert "Gemma3ForConditionalGeneration, 4.30 B parameters (4,300,079,472)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_one_dtype_says_which_modules_keep_which_type(gemma: Path) -> None:
    words = ("footprint", str(gemma.parent), "--dtype", "nf4-dq")  # the folder will do
    shown, told = snugly(*words).stdout, json.loads(snugly(*words, "--json").stdout)
    (only,) = told["footprints"]
    assert only["printed_bytes"] == 3_170_624_226
    assert sum(group["printed_bytes"] for group in only["groups"]) == only["printed_bytes"]
    kept = {(group["part"], group["kind"]): group["dtype"] for group in only["groups"]}
    assert kept["vision tower", "linear layers"] == "nf4-dq"
    assert kept["language model", "embeddings"] == "bfloat16"
    assert kept["projector", "other parameters"] == "bfloat16"
    assert "*.self_attn.q_proj" in shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("CONFIG", "--dtype", "int3"), "float32, float16, bfloat16, int8"),
        (("nowhere.json",), "nowhere.json cannot be read"),
        (("RWKV",), "rwkv"),
    ],
)
def test_what_cannot_be_counted(words: tuple[str, ...], text: str, gemma: Path) -> None:
    rwkv = gemma.with_name("other.json")
    rwkv.write_text('{"model_type": "rwkv"}')
    known = {"CONFIG": str(gemma), "RWKV": str(rwkv)}
    done = snugly("footprint", *(known.get(word, word) for word in words))
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_a_repository_gives_its_config_and_nothing_else(afar: Afar, tmp_path: Path) -> None:
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    config.write_text(json.dumps(small()["llama"]))
    weights.write_bytes(bytes(100_000))
    afar.repositories["maker/Tiny"] = {"config.json": config, "model.safetensors": weights}
    found = config_of("maker/Tiny", settings(), FAST)
    assert (found.config, found.name) == (small()["llama"], "maker/Tiny")
    assert afar.sent < 10_000


def test_a_short_name_means_the_weights_it_was_made_from(afar: Afar, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(hub_config("HuggingFaceTB__SmolLM2-135M-Instruct")))
    afar.repositories["HuggingFaceTB/SmolLM2-135M-Instruct"] = {"config.json": config}
    assert config_of("smollm2", settings(), FAST).name == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_without_the_hub_our_own_copy_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01,))
    monkeypatch.setenv("SNUGLY_HF_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    found = config_of("qwen2.5-coder:1.5b", settings(), FAST)
    assert found.config["hidden_size"] == 1536
    assert "copy that came with Snugly" in found.remarks[0]
    with pytest.raises(DownloadError):
        config_of("nobody/knows-this", settings(), FAST)


def test_what_has_no_config(afar: Afar, tmp_path: Path) -> None:
    words, lists = tmp_path / "a.gguf", tmp_path / "config.json"
    words.write_bytes(b"GGUF")
    lists.write_text("[]")
    afar.repositories["maker/Only-GGUF"] = {"a.gguf": words}
    afar.repositories["maker/List"] = {"config.json": lists}
    with pytest.raises(UnknownModel, match=r"no config\.json"):
        config_of("maker/Only-GGUF", settings(), FAST)
    with pytest.raises(BadModelFile, match="not a JSON object"):
        config_of("maker/List", settings(), FAST)
    with pytest.raises(UnknownModel, match="smollm2"):
        config_of("smolm2", settings(), FAST)
    with pytest.raises(UserError, match="is a GGUF file") as caught:
        config_of(str(words), settings(), FAST)
    assert f"snugly plan {words}" in caught.value.remedy
