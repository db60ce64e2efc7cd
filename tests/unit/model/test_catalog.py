import pytest

from snugly.model import catalog
from snugly.model.names import unsafe_because
from snugly.model.types import AttentionKind


def test_every_entry_can_be_typed_and_leads_back_to_itself() -> None:
    for entry in catalog.entries():
        assert catalog.lookup(entry.name, entry.tag) == (entry, "")
        assert catalog.lookup(*entry.alias.partition(":")[::2]) == (entry, "")


def test_entries_are_whole() -> None:
    names = [(entry.name, entry.tag) for entry in catalog.entries()]
    assert len(names) == len(set(names)) >= 80
    for entry in catalog.entries():
        assert all(not unsafe_because(part) for part in entry.repository.split("/"))
        assert entry.n_params > 10**7
        assert entry.context_train >= (2048 if "chat" in entry.tasks else 512)
        assert len(entry.attention) > 0
        assert entry.licence
        assert entry.tasks
    for family in {name for name, _ in names}:
        assert sum(e.default for e in catalog.entries() if e.name == family) == 1


def test_llama_3_1_8b_keeps_128_kib_per_token() -> None:
    # 32 layers x 8 heads x 128 x (K + V) x 2 bytes
    found = catalog.lookup("llama3.1")
    assert found is not None
    per_token = sum(a.kv_heads * (a.key_length + a.value_length) * 2 for a in found[0].attention)
    assert per_token == 128 * 1024
    assert found[0].file_bytes == 4_920_739_168  # lmstudio-ai/model-catalog


def test_gemma_3_1b_has_4_layers_that_keep_everything() -> None:
    # 26 layers, each 6th: 6, 12, 18, 24
    found = catalog.lookup("gemma3", "1b")
    assert found is not None
    full = [i for i, a in enumerate(found[0].attention) if a.kind is AttentionKind.FULL]
    assert full == [5, 11, 17, 23]


@pytest.mark.parametrize(
    ("name", "tag", "alias", "quantization"),
    [
        ("qwen2.5-coder", "1.5b-q8_0", "qwen2.5-coder:1.5b", "Q8_0"),
        ("qwen2.5-coder", "1.5b-instruct-q8_0", "qwen2.5-coder:1.5b", "Q8_0"),
        ("Qwen2.5-Coder", "1.5B", "qwen2.5-coder:1.5b", ""),
        ("llama3.2", "latest", "llama3.2", ""),
        ("llama3.2", "q6_k", "llama3.2", "Q6_K"),
        ("qwen3", "30b-a3b", "qwen3:30b-a3b", ""),
        ("qwen3", "30b", "qwen3:30b-a3b", ""),
        ("qwen3", "30b-a3b-instruct-2507-q4_K_M", "qwen3:30b-a3b-instruct-2507", "Q4_K_M"),
        ("deepseek-r1", "8b", "deepseek-r1", ""),
    ],
)
def test_tags_as_people_type_them(name: str, tag: str, alias: str, quantization: str) -> None:
    found = catalog.lookup(name, tag)
    assert found is not None
    assert (found[0].alias, found[1]) == (alias, quantization)


def test_a_size_that_does_not_exist_is_not_another_size() -> None:
    assert catalog.lookup("qwen2.5-coder", "13b") is None
    assert catalog.lookup("nothing") is None


def test_near_names() -> None:
    assert set(catalog.suggest("smollm", catalog.aliases())) > {"smollm2", "smollm3"}
    assert "qwen2.5-coder" in catalog.suggest("quen2.5-coder", catalog.aliases())
    assert "qwen2.5-coder:1.5b" in catalog.suggest("qwen2.5-coder:1.6b", catalog.aliases())
    assert catalog.suggest("zzzzzz", catalog.aliases()) == ()


def test_names_in_the_documentation_exist() -> None:
    import re
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    pulled = re.findall(r"^    snugly (?:pull|rm) ([\w.:-]+)(?: |$)", text, re.M)
    assert len(pulled) >= 3
    for name in pulled:
        family, _, tag = name.partition(":")
        assert catalog.lookup(family, tag) is not None, name
