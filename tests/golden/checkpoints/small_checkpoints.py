"""Small checkpoints of each family, the same wherever they are written: no random numbers."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from tests.golden.quantize.small_model import numbers

HERE = Path(__file__).parent
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CARD = """---
license: apache-2.0
language:
- en
- de
tags:
- text-generation
- test
base_model: Qwen/Qwen2-7B
---
"""
_PLAIN = {"add_prefix_space": False, "trim_offsets": True}


def names() -> list[str]:
    """The checkpoints there are."""
    return list(_all())


def pre_of(name: str) -> str:
    """What llama.cpp calls the rule of a checkpoint's tokenizer."""
    kind = str(_all()[name]["tokenizer"])
    return {"llama3": "llama-bpe", "sentencepiece": "default"}.get(kind, kind)


def write(name: str, folder: Path) -> Path:
    """Write one checkpoint into a folder of its name. Weights in BF16, in one file or two."""
    entry = _all()[name]
    here = folder / name
    here.mkdir(parents=True)
    (here / "config.json").write_text(json.dumps(entry["config"]))
    (here / "README.md").write_text(_CARD)
    tensors = entry["tensors"]
    if name == "qwen2":  # in two files, as large checkpoints are
        half = len(tensors) // 2
        parts = {"model-00001-of-00002.safetensors": tensors[:half],
                 "model-00002-of-00002.safetensors": tensors[half:]}  # fmt: skip
        index = {tensor: file for file, some in parts.items() for tensor, _ in some}
        (here / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    else:
        parts = {"model.safetensors": tensors}
    for number, (file, some) in enumerate(parts.items()):
        (here / file).write_bytes(stored(some, 1000 * number))
    _write_tokenizer(str(entry["tokenizer"]), here)
    return here


def _all() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((HERE / "small.json").read_text())
    return found


def stored(tensors: list[tuple[str, list[int]]], seed: int) -> bytes:
    """A safetensors file."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces, offset = [], 0
    for number, (name, shape) in enumerate(tensors):
        count = int(np.prod(shape))
        data = (numbers(count, seed + number).view(np.uint32) >> 16).astype("<u2").tobytes()
        end = offset + len(data)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        pieces.append(data)
        offset = end
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)


def _write_tokenizer(kind: str, here: Path) -> None:
    if kind == "sentencepiece":
        (here / "tokenizer.model").write_bytes((HERE / "tokenizer.model").read_bytes())
        (here / "added_tokens.json").write_text(json.dumps({"<extra>": 319}))
        (here / "tokenizer_config.json").write_text(json.dumps(_sentencepiece_config()))
        return
    whole = json.loads((HERE / "tokenizer.json").read_text())
    whole["model"]["ignore_merges"] = kind == "llama3"
    expression = _LLAMA3 if kind == "llama3" else _LLAMA3.replace("{1,3}", "")
    steps = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"},
        {"type": "ByteLevel", **_PLAIN, "use_regex": False},
    ]  # fmt: skip
    if kind == "smollm":
        steps = [{"type": "Digits", "individual_digits": True},
                 {"type": "ByteLevel", **_PLAIN, "use_regex": True}]  # fmt: skip
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    (here / "tokenizer.json").write_text(json.dumps(whole))
    stated = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }  # fmt: skip
    (here / "tokenizer_config.json").write_text(json.dumps(stated))


def _sentencepiece_config() -> dict[str, Any]:
    added = {
        "0": ("<unk>", True), "1": ("<s>", True), "2": ("</s>", True),
        "317": ("<|x|>", False), "318": ("a\u2581b", False),
    }  # fmt: skip
    return {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "chat_template": "{{ messages }}", "add_prefix_space": True,
        "added_tokens_decoder": {
            key: {"content": token, "special": special} for key, (token, special) in added.items()
        },
    }  # fmt: skip
