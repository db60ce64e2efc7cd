"""Predicted losses held against measured ones, group by group, so that the choice can be better.

Each group of a written file's tensors is put alone into the exact model and what that costs is
measured. Measured by predicted is the group's factor; with the factors the types are chosen
again. Only models whose build is known can be measured so.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from snugly.quantize.fit import Fitter
from snugly.quantize.jobs_pool import usable_threads
from snugly.quantize.measure import CONTEXT, Text
from snugly.quantize.measure_process import answers
from snugly.quantize.reader import read_gguf

# Kinds of tensors that err alike: by what they do in a layer, and both tables by themselves.
_GROUPS = (
    ("queries", re.compile(r"attn_(q|k|qkv)\.")), ("values", re.compile(r"attn_(v|output)\.")),
    ("gates", re.compile(r"ffn_(gate|up)\.")), ("down", re.compile(r"ffn_down\.")),
    ("head", re.compile(r"^output\.")), ("embeddings", re.compile(r"^token_embd\.")),
)  # fmt: skip
# A factor is believed by this much: half way in the logarithm. One text of 512 places measures
# a group to about 20%, and a group's loss is not the same in a model that errs elsewhere too.
_BELIEF = 0.5
_LEAST = 1e-6  # nats; below it a measured loss is rounding


def groups_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Tensors by what they do."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        group = next((title for title, pattern in _GROUPS if pattern.search(name)), "others")
        found[group].append(name)
    return dict(found)


def measured_groups(
    base: str,
    written: Path,
    groups: Mapping[str, Sequence[str]],
    text: Text,
    *,
    context: int = CONTEXT,
    threads: int | None = None,
) -> dict[str, float]:
    """Mean KLD of the exact model with one group at a time from a written file.

    Raises: UserError for a model of another build, EngineError.
    """  # fmt: skip
    config = {
        "task": "compare", "base": base, "over": str(written), "parts": list(groups.values()),
        "text": text.text, "context": context, "first": context // 2, "most": 1,
        "threads": threads or usable_threads(), "exact": True,
    }  # fmt: skip
    found = [answer["kld"] for answer in answers(config) if "kld" in answer]
    return dict(zip(groups, found, strict=True))


def factors(fitter: Fitter, written: Path, measured: Mapping[str, float]) -> dict[str, float]:
    """By what each tensor's predicted loss is to be multiplied."""
    tensors = [item.tensor for item in read_gguf(written).tensors]
    tried = [tensor for tensor in tensors if tensor.name in fitter.sensitivity.errors]
    result: dict[str, float] = {}
    for title, names in groups_of([tensor.name for tensor in tried]).items():
        expected = fitter.predicted([tensor for tensor in tried if tensor.name in set(names)])
        if expected > _LEAST and measured.get(title, 0.0) > _LEAST:
            result |= dict.fromkeys(names, (measured[title] / expected) ** _BELIEF)
    return result
