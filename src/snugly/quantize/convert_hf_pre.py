r"""How text is cut before byte pairs are merged: llama.cpp's name for a tokenizer.json's rule.

llama.cpp's converter recognises a tokenizer by a hash of the numbers that it gives a test
text, so a model with one more token is not recognised, and the tokenizer's code has to run.
The rule itself stands in tokenizer.json, as a regular expression; the names and their
expressions are those of llama.cpp src/llama-vocab.cpp ("original regex from tokenizer.json").
"""

from collections.abc import Iterator, Mapping
from typing import Any
from unicodedata import category

from snugly.errors import UserError

_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# expression -> name, where one split decides
_EXPRESSIONS: Mapping[str, str] = {
    _WORDS + r"\p{N}{1,3}|" + _TAIL: "llama-bpe",
    _WORDS + r"\p{N}|" + _TAIL: "qwen2",
    f"{_UPPER}*{_LOWER}+|{_UPPER}+{_LOWER}*|" + r"\p{N}|" + _SLASH: "tekken",
    f"{_UPPER}*{_LOWER}+{_ENDINGS}|{_UPPER}+{_LOWER}*{_ENDINGS}|" + r"\p{N}{1,3}|" + _SLASH:
        "gpt-4o",
    _GPT2: "gpt-2",
}  # fmt: skip

# How byte-level vocabularies write bytes: printable ones as they are, the others from U+0100 on.
# Source: bytes_to_unicode of GPT-2's encoder.py.
_PLAIN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = [byte for byte in range(256) if byte not in _PLAIN]
_BYTES = {chr(byte): byte for byte in _PLAIN} | {chr(256 + n): b for n, b in enumerate(_OTHERS)}


def pre_tokenizer_of(whole: Mapping[str, Any], where: str) -> str:
    """The value of `tokenizer.ggml.pre` for a tokenizer.json.

    Raises: UserError for a rule that llama.cpp may not know: a wrong one would cut words
    wrongly without a word.
    """
    steps = list(_steps(whole.get("pre_tokenizer") or {}))
    kinds = [str(step.get("type")) for step in steps]
    splits = [_expression(step) for step in steps if step.get("type") == "Split"]
    bytes_ = [step for step in steps if step.get("type") == "ByteLevel"]
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"  # the same rule as starcoder's, refact's and command-r's
    if kinds == ["ByteLevel"] and bytes_[0].get("use_regex", True):
        return "smollm" if _digits_alone(whole) else "gpt-2"
    if len(splits) == 1 and set(kinds) <= {"Split", "ByteLevel"}:
        name = _EXPRESSIONS.get(splits[0])
        if name == "llama-bpe" and not whole.get("model", {}).get("ignore_merges"):
            return "dbrx"  # the same expression; Llama 3 looks whole words up first
        if name is not None:
            return name
    raise UserError(
        "This checkpoint's tokenizer is not known.",
        f"It cuts text by {splits or kinds}, for which llama.cpp has no name here ({where}).",
        "Convert it with llama.cpp's convert_hf_to_gguf.py, then quantize the GGUF.",
    )


def _digits_alone(whole: Mapping[str, Any]) -> bool:
    """Whether every digit is a token and none of them stands in a token with something else.

    Then it changes nothing whether digits are cut apart beforehand, and llama.cpp's converter,
    which goes by the numbers of its test text, names such a vocabulary of SmolLM by that rule.
    """
    texts = [_text(token) for token in whole.get("model", {}).get("vocab", {})]
    mixed = any(len(text) > 1 and any(category(c)[0] == "N" for c in text) for text in texts)
    return not mixed and set("0123456789") <= set(texts)


def _text(token: str) -> str:
    """What a byte-level token stands for; bytes that are no whole character are left out."""
    return bytes(_BYTES[char] for char in token if char in _BYTES).decode(errors="ignore")


def _steps(rule: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if rule.get("type") == "Sequence":
        for inner in rule.get("pretokenizers", ()):
            yield from _steps(inner)
    elif rule:
        yield rule


def _expression(step: Mapping[str, Any]) -> str:
    pattern = step.get("pattern")
    return str(pattern.get("Regex", "")) if isinstance(pattern, Mapping) else ""
