"""`snugly explain` as a person calls it."""

import json

from tests.process.test_run import snugly


def test_alone_it_lists_what_it_knows() -> None:
    done = snugly("explain", COLUMNS="80")
    assert done.returncode == 0
    assert "KV cache" in done.stdout
    assert len(json.loads(snugly("explain", "--json").stdout)) >= 60


def test_several_words_are_one_term_or_several() -> None:
    one = json.loads(snugly("explain", "flash", "attention", "--json").stdout)
    two = json.loads(snugly("explain", "7B", "Q4_K_M", "--json").stdout)
    assert [answer["term"] for answer in one] == ["flash attention"]
    assert [answer["term"] for answer in two] == ["7B", "Q4_K_M"]
    assert all(answer["worked"] for answer in two)


def test_it_works_out_figures_for_this_machine() -> None:
    done = snugly("explain", "context")
    assert "was trained for 131,072 tokens" in done.stdout
    assert "of RAM that is free" in done.stdout


def test_an_unknown_word_gets_near_ones() -> None:
    done = snugly("explain", "quantisation")
    assert done.returncode == 2
    assert "quantization" in done.stderr
