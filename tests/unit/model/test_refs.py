import os
import random
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from snugly.errors import UserError
from snugly.model.names import quantization_of, split_of, unsafe_because
from snugly.model.refs import RefKind, parse
from snugly.model.store import Store

COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("smollm2", "smollm2", ""),
        ("qwen2.5-coder:1.5b", "qwen2.5-coder", "1.5b"),
        ("qwen2.5-coder:1.5b-q8_0", "qwen2.5-coder", "1.5b-q8_0"),
        (" smollm2 ", "smollm2", ""),
    ],
)
def test_a_short_name_is_a_name_and_a_tag(text: str, name: str, tag: str) -> None:
    ref = parse(text)
    assert (ref.kind, ref.name, ref.tag) == (RefKind.NAME, name, tag)


@pytest.mark.parametrize(
    ("text", "publisher", "model", "tag"),
    [
        ("ollama:llama3.2", "library", "llama3.2", "latest"),
        ("ollama:qwen2.5:0.5b-instruct-q8_0", "library", "qwen2.5", "0.5b-instruct-q8_0"),
        ("ollama:me/model:1b", "me", "model", "1b"),
        ("ollama.com/library/llama3.2:1b", "library", "llama3.2", "1b"),
        ("https://ollama.com/library/llama3.2", "library", "llama3.2", "latest"),
        ("https://ollama.com/me/model", "me", "model", "latest"),
        ("https://registry.ollama.ai/library/llama3.2:1b", "library", "llama3.2", "1b"),
    ],
)
def test_a_model_of_ollamas_registry(text: str, publisher: str, model: str, tag: str) -> None:
    ref = parse(text)
    assert (ref.kind, ref.publisher, ref.model, ref.tag) == (
        RefKind.OLLAMA, publisher, model, tag
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["ollama:", "ollama:../x", "ollama:a/b/c", "ollama:a:b:c", "ollama:a:../b", "ollama:con",
     "https://ollama.com/a/..", "https://ollama.com/library/x%2f..%2fy:z"],
)  # fmt: skip
def test_what_ollamas_registry_cannot_have(text: str) -> None:
    with pytest.raises(UserError):
        parse(text)
    with pytest.raises(UserError):
        parse("ollama:llama3.2", "main")


REPOSITORY = "bartowski/Qwen2.5-7B-Instruct-GGUF"
FILE = "Qwen2.5-7B-Instruct-Q4_K_M.gguf"


@pytest.mark.parametrize(
    ("text", "tag", "file", "revision"),
    [
        (REPOSITORY, "", "", ""),
        (f"{REPOSITORY}:Q4_K_M", "Q4_K_M", "", ""),
        (f"{REPOSITORY}/{FILE}", "", FILE, ""),
        (f"{REPOSITORY}/{FILE.removesuffix('.gguf')}", "", FILE, ""),
        (f"{REPOSITORY}@{COMMIT}:Q4_K_M", "Q4_K_M", "", COMMIT),
        (f"{REPOSITORY}:Q4_K_M@refs/pr/3", "Q4_K_M", "", "refs/pr/3"),
        (f"hf.co/{REPOSITORY}:Q4_K_M", "Q4_K_M", "", ""),
        (f"huggingface.co/{REPOSITORY}", "", "", ""),
        (f"https://huggingface.co/{REPOSITORY}", "", "", ""),
        (f"https://hf.co/{REPOSITORY}:Q4_K_M", "Q4_K_M", "", ""),
        (f"hf://{REPOSITORY}", "", "", ""),
        (f"https://huggingface.co/{REPOSITORY}/blob/main/{FILE}", "", FILE, "main"),
        (f"https://huggingface.co/{REPOSITORY}/resolve/v1/{FILE}?download=true", "", FILE, "v1"),
        (f"https://huggingface.co/{REPOSITORY}/blob/refs%2Fpr%2F3/{FILE}", "", FILE, "refs/pr/3"),
        (f"https://huggingface.co/{REPOSITORY}/tree/main", "", "", "main"),
    ],
)
def test_a_repository_of_the_hub(text: str, tag: str, file: str, revision: str) -> None:
    ref = parse(text)
    assert ref.kind is RefKind.HUB
    assert ref.repository == REPOSITORY
    assert (ref.tag, ref.file, ref.revision) == (tag, file, revision)


def test_a_file_in_a_folder_of_the_repository() -> None:
    assert parse("a/b/Q4_K_M/m-00001-of-00002.gguf").file == "Q4_K_M/m-00001-of-00002.gguf"


@pytest.mark.parametrize(
    "text",
    ["./file.gguf", "../file.gguf", "~/x.gguf", "/models/x.gguf", ".", "~me/x.gguf",
     r"C:\models\x.gguf", "c:/models/x.gguf", r"\\server\share\x.gguf", r".\x.gguf"],
)  # fmt: skip
def test_a_path(text: str) -> None:
    ref = parse(text)
    assert (ref.kind, ref.path) == (RefKind.PATH, text)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "a/../b", "a/b/../../c.gguf", "a/b/..", "a//b", "a/b\x00c", "a/b\nc",
     "smol\x1b[31m",
     "a/nul.gguf", "CON", "a/b/aux", "com1/x", "a/b:c:d", ".hidden/x", "a/x.", "a/b*c",
     "a/\u202egpj.gguf", "a/\uff0e\uff0e", "a/b\u0301", "smollm2@main",
     "x" * 5000, "a/" + "b" * 201,
     "https://huggingface.co/a/b/resolve/main/%2e%2e%2f%2e%2e%2fetc/passwd",
     "https://huggingface.co/a/b/resolve/main/..%5c..%5cx.gguf",
     "https://huggingface.co/datasets/a/b", "https://huggingface.co/a", "ftp://huggingface.co/a/b",
     "https://user:secret@huggingface.co/a/b", "https://example.com/a/b.gguf", "file:///etc/passwd",
     "https://[bad/a/b", "a/b@../x", "a/b@x/../y"],
)  # fmt: skip
def test_refused_with_a_reason_and_a_remedy(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text)
    assert error.value.because
    assert error.value.remedy
    assert "secret" not in str(error.value)


def test_revision_may_come_from_the_flag_but_not_contradict() -> None:
    assert parse("a/b:Q4_0", revision="v2").revision == "v2"
    assert parse("a/b@v2", revision="v2").revision == "v2"
    for text in ("a/b@v1", "smollm2", "./x.gguf"):
        with pytest.raises(UserError):
            parse(text, revision="v2")
    with pytest.raises(UserError):
        parse("a/b", revision="../x")


PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "a", "b.gguf", ":", "@", "%2e%2e", "%2f", "~", "C:", "nul", "\x00", " ",
     "hf.co/", "https://huggingface.co/", "resolve/main", "..%5c", "\u2025", "\uff0f", "-", "con."]
)  # fmt: skip


@given(st.one_of(st.text(), st.text(string.printable), st.lists(PIECES).map("".join)))
@example("a/b/..")
@example("https://huggingface.co/a/b/resolve/main/%2e%2e/%2e%2e/x")
@example("hf.co//etc/passwd")
def test_no_reference_ever_leads_out_of_the_store(text: str) -> None:
    root = Path("/store")
    try:
        ref = parse(text)
    except UserError:
        return
    if ref.kind is not RefKind.HUB:
        return
    place = Store(root).place(ref.publisher, ref.model, ref.file.replace("/", "__") or "x.gguf")
    assert place.parent.parent.parent == root
    assert ".." not in place.parts
    assert not any(unsafe_because(part) for part in place.parts[2:])
    for part in ref.file.split("/"):
        assert part not in (".", "..")


@given(st.text(), st.text(), st.text())
def test_no_names_ever_lead_out_of_the_store(publisher: str, model: str, file: str) -> None:
    try:
        place = Store(Path("/store")).place(publisher, model, file)
    except UserError:
        return
    assert place == Path("/store") / publisher / model / file
    assert place.parent.parent.parent == Path("/store")


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("m-IQ2_XXS-00001-of-00002.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model-fp16.gguf", "F16"),
        ("model.BF16.gguf", "BF16"),
        ("gemma-2-2b-it-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("Qwen2.5-7B-Instruct.gguf", ""),
        ("Meta-Llama-3.1-8B-Instruct-Q8_0_imat.gguf", "Q8_0"),
    ],
)
def test_quantization_in_a_file_name(name: str, quantization: str) -> None:
    assert quantization_of(name) == quantization


def test_parts_of_a_split_model() -> None:
    assert split_of("m-00002-of-00003.gguf") == ("m", 2, 3)
    assert split_of("m-00004-of-00003.gguf") is None
    assert split_of("m.gguf") is None


def test_ten_thousand_hostile_names_and_none_outside_the_store() -> None:
    # faults.md row 28
    dice = random.Random(28)
    pieces = "..|.|/|\\|a|b.gguf|:|@|%2e%2e|%2f|~|nul|\x00| |hf.co/|resolve/main/|..%5c|\uff0f|-"
    pieces += "|https://huggingface.co/"
    root, accepted = Path("/store"), 0
    for _ in range(10_000):
        text = "".join(dice.choices(pieces.split("|"), k=dice.randrange(1, 9)))
        try:
            ref = parse(text)
        except UserError:
            continue
        if ref.kind is RefKind.HUB:
            accepted += 1
            name = ref.file.replace("/", "__") or "x.gguf"
            place = Store(root).place(ref.publisher, ref.model, name)
            assert os.path.normpath(place) == str(place)
            assert place.parent.parent.parent == root
    assert 100 < accepted < 5_000  # neither all refused nor all taken
