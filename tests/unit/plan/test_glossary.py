"""The glossary: every word leads somewhere, and every figure in it is worked out."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, apple_gpu, hub_config, machine

from snugly.errors import UserError
from snugly.model.config import spec_of_config
from snugly.model.module_tree import tree_of_config
from snugly.model.quant_mixtures import COMMUNITY, MAIN_TYPES
from snugly.plan.glossary import TOPICS, find, known, losses, terms
from snugly.plan.glossary_ground import Ground
from snugly.plan.glossary_worked import names, worked
from snugly.units import GiB

CONFIG = hub_config("meta-llama__Llama-3.1-8B-Instruct")


@cache
def ground(free: int = 16 * GiB, unified: bool = False) -> Ground:
    gpus = (apple_gpu(10 * GiB),) if unified else ()
    return Ground(
        machine(16 * GiB, free, gpus=gpus),
        CPU_ENGINE,
        spec_of_config(CONFIG, "Llama"),
        tree_of_config(CONFIG, "Llama"),
    )


def said(text: str, on: Ground | None = None) -> str:
    return "\n".join(worked(find(text).worked, on or ground()))


def test_every_entry_is_whole_and_leads_on() -> None:
    assert len(terms()) >= 60
    for term in terms():
        assert term.topic in TOPICS
        assert 40 <= len(term.text) <= 600, term.name
        assert term.text.rstrip().endswith("."), term.name
        assert all(known(other) for other in term.see), term.name
        assert all(find(name) == term for name in (term.name, *term.also)), term.name
        assert not term.worked or term.worked in names(), term.name


def test_all_that_can_be_worked_out_is_used() -> None:
    used = {term.worked for term in terms()} | {"size", "type"}
    assert names() <= used


@pytest.mark.parametrize("free", [16 * GiB, 1 * GiB])
@pytest.mark.parametrize("unified", [False, True])
def test_every_entry_works_on_any_machine(free: int, unified: bool) -> None:
    for term in terms():
        if term.worked:
            lines = worked(term.worked, ground(free, unified))
            assert lines, term.name
            assert all(line and "None" not in line for line in lines), term.name


@pytest.mark.parametrize("name", sorted(MAIN_TYPES | COMMUNITY))
def test_every_quantization_is_explained_with_its_size(name: str) -> None:
    term = find(name.lower())
    assert term.text
    if name in ("BF16", "F16", "F32"):  # glossary entries of their own
        assert term.name in ("bfloat16", "float16", "float32")
        return
    lines = worked(term.worked, ground())
    assert " a file of " in lines[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kv-cache", "KV cache"), ("KVCACHE", "KV cache"), ("flash attention", "flash attention"),
        ("Flash-Attention", "flash attention"), ("tok/s", "tokens/s"), ("_K", "K-quant"),
        ("ppl", "perplexity"), ("a3b", "MoE"), ("Q4", "Q4_K_M"), ("q8", "Q8_0"), ("q2", "2-3 bits"),
        ("mxfp4", "MXFP4"), ("Q4_K_L", "Q4_K_L"), ("7b", "7b"), ("0.5B", "0.5B"), ("135M", "135M"),
        ("30B-A3B", "30B-A3B"), ("8x7B", "8x7B"), ("rtx 4060 ti 16gb", "rtx 4060 ti 16gb"),
        ("4060", "4060"), ("h100 80gb", "h100 80gb"), ("M3 Max", "M3 Max"),
    ],
)  # fmt: skip
def test_people_write_things_in_many_ways(text: str, name: str) -> None:
    assert find(text).name == name


def test_unknown_words_get_near_ones() -> None:
    with pytest.raises(UserError, match="perplexity"):
        find("perplexty")
    for text in ("flurb", "", "99999999B", "0B"):
        with pytest.raises(UserError):
            find(text)


@given(st.text(max_size=30))
def test_any_text_is_a_term_or_a_clear_error(text: str) -> None:
    if known(text):
        assert find(text).text
        return
    with pytest.raises(UserError, match="not in the glossary"):
        find(text)


def test_the_cache_of_llama_8b_by_hand() -> None:
    text = said("kv-cache")
    assert "32 layers x 8 heads x (128 + 128) x 2 bytes = 128 KiB" in text
    assert "8,192 tokens: 1.00 GiB in f16, 544 MiB in q8_0" in text


def test_seven_billion_by_hand() -> None:
    text = said("7B")
    # 2 bytes; 34 bytes for 32 weights; 144 bytes for 256
    assert "16 bits 14.00 GB, 8 bits 7.44 GB, 4 bits 3.94 GB" in text


def test_a_quantization_says_its_size_its_tensors_and_its_loss() -> None:
    text = said("Q4_K_M")
    assert "a file of 4.58 GiB" in text
    assert "74% Q4_K, 26% Q6_K" in text
    assert "mean KL divergence 0.0282" in text
    assert "it fits" in text
    assert "does not fit" in said("Q4_K_M", ground(4 * GiB))


def test_what_fits_here_leaves_second_copies_out_when_it_must() -> None:
    # 4.58 GiB of weights, 1 GiB of cache and 3.1 GiB of second copies
    assert "it fits" in said("Q4_K_M", ground(7 * GiB))


def test_losses_are_those_of_the_table() -> None:
    table = losses()
    assert {loss.type_name for loss in table} <= set(MAIN_TYPES)
    assert losses("Q2_K")[0].kld == 0.3322  # with the matrix, first because it is better
    assert not losses("Q9_Z")


def test_an_adapter_by_hand() -> None:
    # q, o: 4096 + 4096; k, v: 4096 + 1024; gate, up, down: 4096 + 14336; 32 layers, rank 16
    count = 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432)
    assert f"{count / 1e6:.1f} M parameters" in said("lora")
