"""Fill-in-the-middle templates, each against its source."""

import pytest

from snugly.chat.fim import FAMILIES, MARKERS, Mark, fim_family, fim_pieces, fim_prompt
from snugly.chat.requests import ExtraFile

BY_NAME = {family.name: family for family in FAMILIES}
OTHER = (ExtraFile("a.py", "A"),)
QWEN = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"}
STAR = {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}


@pytest.mark.parametrize(
    ("name", "alone", "with_other"),
    [
        ("qwen", "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
         "<|repo_name|>repository\n<|file_sep|>a.py\nA\n<|file_sep|>b.py\n"
         "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
        ("codegemma", "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
         "<|file_separator|>A<|file_separator|><|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
        ("starcoder2", "<fim_prefix>P<fim_suffix>S<fim_middle>",
         "<repo_name>repository<file_sep>a.py\nA<file_sep>"
         "<fim_prefix>b.py\nP<fim_suffix>S<fim_middle>"),
        ("mellum", "<fim_suffix>S<fim_prefix>P<fim_middle>",
         "<filename>a.py\nA\n\n<filename>b.py\n<fim_suffix>S<fim_prefix>P<fim_middle>"),
        ("deepseek", "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
         "<｜fim▁begin｜>#a.py\nA\n\n#b.py\nP<｜fim▁hole｜>S<｜fim▁end｜>"),
        ("codellama", "<PRE> P <SUF>S <MID>", "<PRE> A\n\nP <SUF>S <MID>"),
        ("codestral", "[SUFFIX]S[PREFIX]P", "[SUFFIX]S[PREFIX]+++++ a.py\nA\n\n+++++ b.py\nP"),
        ("seed-coder", "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>",
         "<[fim-suffix]>S<[fim-prefix]>A\n\nP<[fim-middle]>"),
    ],
)  # fmt: skip
def test_the_prompt_of_each_family(name: str, alone: str, with_other: str) -> None:
    assert fim_prompt(BY_NAME[name], "P", "S") == alone
    assert fim_prompt(BY_NAME[name], "P", "S", OTHER, "b.py") == with_other


def test_every_family_is_tested_and_names_its_source() -> None:
    assert len(BY_NAME) == len(FAMILIES) == 8
    assert all(family.source for family in FAMILIES)


@pytest.mark.parametrize(
    ("special", "vocabulary", "name", "family"),
    [
        ({"fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>"},
         set(), "whatever", "qwen"),
        ({}, QWEN, "", "qwen"),
        ({}, QWEN, "codegemma-2b", "codegemma"),
        ({}, STAR, "starcoder2-3b", "starcoder2"),
        ({}, STAR, "granite-8b-code", "starcoder2"),
        ({}, STAR, "Mellum-4b-base", "mellum"),
        ({}, {"\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"}, "CodeLlama 7B", "codellama"),
        ({"prefix": "\u2581<PRE>", "suffix": "\u2581<SUF>", "middle": "\u2581<MID>"}, set(), "",
         "codellama"),
        ({}, {"[PREFIX]", "[SUFFIX]", "[MIDDLE]"}, "Codestral-22B-v0.1", "codestral"),
        # Every Mistral vocabulary of the newer kind has the markers; only Codestral learnt them.
        ({}, {"[PREFIX]", "[SUFFIX]", "[MIDDLE]"}, "Mistral-Nemo", None),
        ({"bos": "<s>"}, set(), "qwen2.5-coder", None),  # a name alone makes no family
    ],
)  # fmt: skip
def test_the_family_comes_from_the_vocabulary_and_the_name_decides_last(
    special: dict[str, str], vocabulary: set[str], name: str, family: str | None
) -> None:
    found = fim_family(special, vocabulary, name)
    assert (found.name if found else None) == family


def test_markers_in_a_persons_own_text_stay_text() -> None:
    pieces = fim_pieces(BY_NAME["qwen"], "x = '<|fim_middle|>'", "S")
    assert pieces == (
        Mark("<|fim_prefix|>"), "x = '<|fim_middle|>'", Mark("<|fim_suffix|>"), "S",
        Mark("<|fim_middle|>"),
    )  # fmt: skip


def test_braces_in_paths_and_texts_are_left_alone() -> None:
    files = (ExtraFile("{path}.py", "{x}"),)
    assert "{path}.py\n{x}" in fim_prompt(BY_NAME["qwen"], "P", "S", files, "{repo}")


def test_the_markers_to_look_for_are_all_there() -> None:
    assert {mark for f in FAMILIES for mark in (f.prefix, f.suffix, f.middle) if mark} <= set(
        MARKERS
    )
