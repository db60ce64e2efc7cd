"""Fill-in-the-middle: how each family of models wants prefix, suffix and other files put. Pure.

A family is told by the markers that a model's own vocabulary holds, and by its name only
where two families share their markers.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from snugly.chat.requests import ExtraFile


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker in a prompt: one special token, never ordinary text."""

    text: str


Piece = Mark | str  # a marker, or a person's text, in which no marker means anything


@dataclass(frozen=True, slots=True)
class FimFamily:
    """How one family of models is asked.

    `suffix_first` puts the suffix before the prefix. `other` stands before each other file
    and `head` before the file that is being written, each with {path}; `repo` before all of
    them, with {repo}. What of these is a marker is sent as one. Where `in_prefix` is set
    the files go into the prefix as text. `named`: a word of the model's name that it takes
    beside the markers. `blanks` stand around the texts. `source` is where the template is
    written down.
    """

    name: str
    prefix: str
    suffix: str
    middle: str
    source: str
    suffix_first: bool = False
    other: str = ""
    head: str = ""
    repo: str = ""
    in_prefix: bool = True
    gap: str = "\n\n"
    named: str = ""
    blanks: bool = False
    stops: tuple[str, ...] = ()


# The order matters: the first family whose markers are all there is taken.
FAMILIES: tuple[FimFamily, ...] = (
    FimFamily(
        "seed-coder", "<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>",
        "Seed-Coder technical report, arXiv 2506.03524, section on fill-in-the-middle",
        suffix_first=True,
    ),
    FimFamily(
        "deepseek", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>",
        "README of deepseek-ai/DeepSeek-Coder: insertion, and repository-level completion",
        other="#{path}\n", head="#{path}\n",
    ),
    FimFamily(
        "mellum", "<fim_prefix>", "<fim_suffix>", "<fim_middle>",
        "card of JetBrains/Mellum-4b-base: fill-in-the-middle with additional files",
        suffix_first=True, other="<filename>{path}\n", head="<filename>{path}\n",
        in_prefix=False, named="mellum", stops=("<filename>",),
    ),
    FimFamily(
        "starcoder2", "<fim_prefix>", "<fim_suffix>", "<fim_middle>",
        "StarCoder 2, arXiv 2402.19173, section 5.1; without file markers also StarCoder,"
        " StableCode and the older Granite",
        other="<file_sep>{path}\n", head="<file_sep>", repo="<repo_name>{repo}",
        in_prefix=False, gap="", stops=("<file_sep>",),
    ),
    FimFamily(
        "codegemma", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
        "CodeGemma, arXiv 2406.11409, section 2: multi-file packing",
        other="<|file_separator|>", head="<|file_separator|>", in_prefix=False, gap="",
        named="codegemma", stops=("<|file_separator|>",),
    ),
    FimFamily(
        "qwen", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
        "README of QwenLM/Qwen2.5-Coder: file-level and repository-level completion; without"
        " file markers also Granite 4",
        other="<|file_sep|>{path}\n", head="<|file_sep|>{path}\n",
        repo="<|repo_name|>{repo}\n", in_prefix=False, gap="\n",
        stops=("<|file_sep|>", "<|repo_name|>"),
    ),
    FimFamily(
        "codellama", "<PRE>", "<SUF>", "<MID>",
        "Code Llama, arXiv 2308.12950, and its tokenizer in transformers",
        blanks=True, stops=("<EOT>",),
    ),
    # Every Tekken vocabulary holds these markers; only Codestral was trained with them.
    FimFamily(
        "codestral", "[PREFIX]", "[SUFFIX]", "",
        "mistral-common, InstructTokenizer.encode_fim; files as Continue packs them",
        suffix_first=True, other="+++++ {path}\n", head="+++++ {path}\n", named="codestral",
    ),
)  # fmt: skip

# What to look for in a model's vocabulary.
MARKERS: tuple[str, ...] = tuple(
    sorted(
        {mark for f in FAMILIES for mark in (f.prefix, f.suffix, f.middle) if mark}
        | {"<file_sep>", "<repo_name>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>"}
        | {"<filename>"}
    )
)
_BLANK = "\u2581"  # how SentencePiece writes a blank: CodeLlama's marker is "▁<PRE>"
_MARK = re.compile(r"<\|?[a-z_]+\|?>")


def fim_family(
    special_tokens: Mapping[str, str], vocabulary: Container[str] = (), name: str = ""
) -> FimFamily | None:
    """The family of a model; None for one that was not made for this.

    `special_tokens` are the texts of a GGUF's special tokens by role ("fim_pre": ...);
    `vocabulary` is what of MARKERS its tokenizer takes for one token, which many files
    have without naming their roles. `name` decides between families with equal markers.
    """
    known = {text.lstrip(_BLANK) for text in special_tokens.values()}
    words = set(re.split(r"[^a-z0-9]+", name.lower()))

    def has(mark: str) -> bool:
        return not mark or mark in known or mark in vocabulary or _BLANK + mark in vocabulary

    for family in FAMILIES:
        if all(has(mark) for mark in (family.prefix, family.suffix, family.middle)):
            if not family.named or family.named in words:
                return family
    return None


def fim_pieces(
    family: FimFamily,
    prefix: str,
    suffix: str,
    extra: Sequence[ExtraFile] = (),
    path: str = "",
    repo: str = "",
) -> tuple[Piece, ...]:
    """The prompt in pieces, so that markers in a person's own text stay text.

    `extra` are other files, the least important first; `path` and `repo` name what is
    being written, where that is known.
    """
    before: list[Piece] = []
    if extra:
        before += _pieces(family.repo, repo=repo or "repository")
        for file in extra:
            before += _pieces(family.other, path=file.name or "file")
            before.append(file.text + family.gap)
        before += _pieces(family.head, path=path or "untitled")
        if path and "{path}" not in family.head and "{path}" in family.other:
            prefix = f"{path}\n{prefix}"  # StarCoder 2: the path of the last file is in the prefix
    inside = before if family.in_prefix else []
    outside = [] if family.in_prefix else before
    blank = " " if family.blanks else ""
    first: list[Piece] = [Mark(family.prefix), blank, *inside, prefix + blank]
    second: list[Piece] = [Mark(family.suffix), suffix + blank]
    halves = [*second, *first] if family.suffix_first else [*first, *second]
    end: list[Piece] = [Mark(family.middle)] if family.middle else []
    return tuple(piece for piece in (*outside, *halves, *end) if piece != "")


def _pieces(template: str, **names: str) -> list[Piece]:
    """A heading such as "<file_sep>{path}" as a marker and text."""
    found: list[Piece] = []
    mark = _MARK.match(template)
    if mark is not None:
        found.append(Mark(mark[0]))
        template = template[mark.end() :]
    return [*found, template.format(**names)] if template else found


def fim_prompt(
    family: FimFamily,
    prefix: str,
    suffix: str,
    extra: Sequence[ExtraFile] = (),
    path: str = "",
    repo: str = "",
) -> str:
    """The prompt as one text, for an engine that reads markers in text as such."""
    pieces = fim_pieces(family, prefix, suffix, extra, path, repo)
    return "".join(piece.text if isinstance(piece, Mark) else piece for piece in pieces)
