"""A checkpoint's vocabulary: from tokenizer.model or tokenizer.json, without a tokenizer's code.

Source: llama.cpp conversion/base.py, `_create_vocab_sentencepiece` and `get_vocab_base`,
conversion/{llama,qwen,gemma,phi}.py, `set_vocab`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snugly.errors import BadModelFile
from snugly.quantize.convert_hf_pieces import Kind, read_pieces
from snugly.quantize.convert_hf_pre import pre_tokenizer_of

# gguf.TokenType
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_SPACE = "\u2581"  # how SentencePiece writes a space


@dataclass(slots=True)
class Vocabulary:
    """Tokens by number, with a score (SentencePiece) and a kind each."""

    tokens: list[bytes]
    scores: list[float]
    kinds: list[int]

    @classmethod
    def empty(cls, size: int) -> "Vocabulary":
        """`size` places that nothing stands in."""
        padding = [f"[PAD{n}]".encode() for n in range(size)]
        return cls(padding, [-10000.0] * size, [UNUSED] * size)

    def put(self, number: int, token: str, score: float, kind: int) -> None:
        """Set one token; a number beyond the end is left out, as converters do."""
        if 0 <= number < len(self.tokens):
            self.tokens[number] = token.encode(errors="surrogateescape")
            self.scores[number], self.kinds[number] = score, kind


def add_vocabulary(
    collected: Any, folder: Path, config: dict[str, Any], architecture: str, size: int
) -> None:
    """Put the vocabulary, special tokens and chat template into a `gguf.GGUFWriter`.

    Raises: UserError or BadModelFile when the tokenizer is missing, damaged or not known.
    """
    import gguf

    stated = _json(folder / "tokenizer_config.json")
    if architecture == "llama" and stated.get("add_prefix_space") is not None:
        collected.add_add_space_prefix(bool(stated["add_prefix_space"]))
    model, whole = folder / "tokenizer.model", _json(folder / "tokenizer.json")
    is_gpt2 = architecture == "phi3" and stated.get("tokenizer_class") == "GPT2Tokenizer"
    if model.is_file() and not is_gpt2:
        found = _sentencepiece(folder, size, architecture, stated, whole)
        _add(collected, found, "llama", "default")
        special = gguf.SpecialVocab(folder, n_vocab=size)
    elif whole.get("model", {}).get("byte_fallback"):
        _add(collected, _byte_fallback(whole, size), "llama", "default")
        special = gguf.SpecialVocab(folder, n_vocab=size)
    elif whole.get("model", {}).get("type") == "BPE":
        found = _byte_pairs(whole, size)
        _add(collected, found, "gpt2", pre_tokenizer_of(whole, str(folder)))
        special = gguf.SpecialVocab(folder, load_merges=True)
    else:
        raise BadModelFile(
            f"{folder.name} has no tokenizer that can be kept.",
            "There is neither a tokenizer.model nor a tokenizer.json of byte pairs.",
            "Fetch the checkpoint again, with all its files.",
        )
    special.add_to_gguf(collected, quiet=True)
    if architecture == "gemma3" and model.is_file():
        collected.add_add_space_prefix(False)
    if architecture == "llama":
        _llama_extras(collected, folder, size)


def _llama_extras(collected: Any, folder: Path, size: int) -> None:
    """Two vocabularies that converters know by their size."""
    import gguf

    if size == 32016:  # Code Llama: fill-in-the-middle tokens that its files do not name
        special = gguf.SpecialVocab(
            folder, special_token_types=("prefix", "suffix", "middle", "eot")
        )
        for role, number in (("prefix", 32007), ("suffix", 32008), ("middle", 32009),
                             ("eot", 32010)):  # fmt: skip
            special._set_special_token(role, number)
        special.add_to_gguf(collected, quiet=True)
    if size == 49152:  # Granite's small models and SmolLM
        collected.add_add_bos_token(False)


def _add(collected: Any, found: Vocabulary, model: str, pre: str) -> None:
    collected.add_tokenizer_model(model)
    collected.add_tokenizer_pre(pre)
    collected.add_token_list(found.tokens)
    if model == "llama":
        collected.add_token_scores(found.scores)
    collected.add_token_types(found.kinds)


def looks_special(token: str) -> bool:
    """Whether an added token is one of control, though its file does not say so."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or token.startswith(("<|", "<\uff5c")) and token.endswith(("|>", "\uff5c>"))
        or token.startswith("<unused") and token.endswith(">")
    )  # fmt: skip


def _sentencepiece(
    folder: Path, size: int, architecture: str, stated: dict[str, Any], whole: dict[str, Any]
) -> Vocabulary:
    found = Vocabulary.empty(size)
    kinds = {Kind.UNKNOWN: UNKNOWN, Kind.CONTROL: CONTROL, Kind.UNUSED: UNUSED, Kind.BYTE: BYTE}
    for number, piece in enumerate(read_pieces(folder / "tokenizer.model")):
        found.put(number, piece.text, piece.score, kinds.get(piece.kind, NORMAL))
    for token, number in _json(folder / "added_tokens.json").items():
        found.put(number, token, -1000.0, USER_DEFINED)
    phi3 = architecture == "phi3"
    for key, entry in stated.get("added_tokens_decoder", {}).items():
        _put_added(found, int(key), entry, plain=phi3)
    if phi3:
        for entry in whole.get("added_tokens", ()):
            _put_added(found, int(entry["id"]), entry, plain=True)
    return found


def _put_added(found: Vocabulary, number: int, entry: dict[str, Any], *, plain: bool) -> None:
    """An added token. `plain`: as it stands, and special only where it says so (Phi-3)."""
    token = str(entry["content"])
    if entry.get("special") or (not plain and looks_special(token)):
        found.put(number, token, -1000.0, CONTROL)
    else:
        found.put(number, token if plain else token.replace(_SPACE, " "), -1000.0, USER_DEFINED)


def _byte_fallback(whole: dict[str, Any], size: int) -> Vocabulary:
    """SentencePiece's vocabulary out of tokenizer.json, where tokenizer.model is missing.

    Its scores are not there; the order of the merges says the same: a piece that an earlier
    merge makes has the higher score. llama.cpp's converter gives all -1000 instead, with
    which words are split wrongly.
    """
    found = Vocabulary.empty(size)
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(whole["model"].get("merges", ())):
        ranks.setdefault("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1),
                         rank)  # fmt: skip
    for token, number in whole["model"]["vocab"].items():
        is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        found.put(number, token, -float(ranks.get(token, 0)), BYTE if is_byte else NORMAL)
    for entry in whole.get("added_tokens", ()):
        kind = CONTROL if entry.get("special") or looks_special(entry["content"]) else USER_DEFINED
        kind = UNKNOWN if entry["content"] == whole["model"].get("unk_token") else kind
        found.put(entry["id"], entry["content"], -1000.0, kind)
    return found


def _byte_pairs(whole: dict[str, Any], size: int) -> Vocabulary:
    found = Vocabulary.empty(size)
    for token, number in whole["model"]["vocab"].items():
        found.put(number, token, 0.0, NORMAL)
    for entry in whole.get("added_tokens", ()):
        token = str(entry["content"])
        if entry.get("special") or looks_special(token):
            found.put(entry["id"], token, 0.0, CONTROL)
        else:
            found.put(entry["id"], token.replace(_SPACE, " "), 0.0, USER_DEFINED)
    return found


def _json(path: Path) -> dict[str, Any]:
    """A JSON object that may be missing. Raises: BadModelFile when it is damaged."""
    if not path.is_file():
        return {}
    read: Callable[[str], Any] = json.loads
    try:
        found = read(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "it holds no object"
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise BadModelFile(
        f"{path.name} cannot be read.",
        f"{reason} ({path}).",
        "Fetch the checkpoint again, with all its files.",
    )
