"""Ask transformers and bitsandbytes themselves; writes tests/golden/footprint/*.csv.

    python -m venv v && v/bin/pip install torch transformers==5.23.0 bitsandbytes==0.50.2 accelerate
    v/bin/python bench/footprint_ask.py          (two minutes, 2 GB of memory, no GPU)

whole.csv   every config of tests/golden/configs on torch's meta device: each parameter and
            buffer by name, shape and dtype (as a digest), what bitsandbytes replaces, bytes
small.csv   small models of random weights (small.json), saved and loaded by from_pretrained in
            every dtype on the CPU: get_memory_footprint(), and the bytes of all tensors there are
"""

import csv
import hashlib
import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.integrations.finegrained_fp8 import replace_with_fp8_linear
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.utils.quantization_config import FineGrainedFP8Config

HERE = Path(__file__).parents[1] / "tests/golden/footprint"
CONFIGS = HERE.parent / "configs"
COUNTED_BY_US = ("float32", "float16", "bfloat16", "int8", "nf4", "nf4-dq", "fp4", "fp4-dq", "fp8")


def config_of(raw: dict[str, Any]) -> Any:
    kind = raw["model_type"]
    found = transformers.CONFIG_MAPPING[kind]
    raw = {key: value for key, value in raw.items() if key != "model_type"}
    for part in ("text_config", "vision_config"):
        if isinstance(raw.get(part), dict) and kind != "mistral3":  # that takes any kind inside
            raw[part] = {k: v for k, v in raw[part].items() if k != "model_type"}
    return found(**raw)


def class_of(raw: dict[str, Any]) -> Any:
    """The language model alone where a multimodal config came without its vision part."""
    if raw["model_type"] in ("gemma3", "gemma4") and not raw.get("vision_config"):
        text = raw["model_type"] + "_text"
        inner = raw.get("text_config", {})
        flat = {key: value for key, value in raw.items() if key != "text_config"}
        return config_of({**flat, **inner, "model_type": text})
    return config_of(raw)


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def auto(raw: dict[str, Any]) -> Any:
    """What people load this kind of model with."""
    pictures = raw["model_type"] in ("qwen3_vl", "qwen3_vl_moe", "mistral3")
    return AutoModelForImageTextToText if pictures else AutoModelForCausalLM


def on_meta(raw: dict[str, Any], dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        return auto(raw).from_config(class_of(raw), dtype=dtype)


def kept_by_default(model: Any) -> list[str]:
    """As from_pretrained asks: before weights are tied, when the head is the last parameter."""
    found = {*get_keys_to_not_convert(model), *model._keep_in_fp32_modules}
    last = list(model.named_parameters())[-1][0].removesuffix(".weight")
    if model.all_tied_weights_keys and "lm_head" in found:
        found.discard(last)
    return sorted(found)


def whole(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"config": name, "class": "", "parameters": ""}
    if raw["model_type"] not in transformers.CONFIG_MAPPING:
        return row
    try:
        model = on_meta(raw, torch.bfloat16)
    except ValueError as error:
        if "Unrecognized configuration" not in str(error):
            raise
        return row
    row["class"] = type(model).__name__
    row["parameters"] = sum(p.numel() for p in model.parameters())
    named = [*model.named_parameters(), *model.named_buffers()]
    row["weights"] = digest([f"{n} {tuple(p.shape)}" for n, p in named])
    # Where transformers registers a buffer without a dtype the loader decides (small.csv).
    row["buffers"] = sum(1 for _ in model.buffers())
    row["bfloat16"] = model.get_memory_footprint()
    row["float32"] = on_meta(raw, torch.float32).get_memory_footprint()
    kept = kept_by_default(model)
    before = {n: p.numel() for n, p in model.named_parameters()}
    model = replace_with_bnb_linear(model, kept, BitsAndBytesConfig(load_in_4bit=True))
    replaced = [n for n, m in model.named_modules() if type(m).__name__ == "Linear4bit"]
    row["replaced"] = digest(replaced)
    row["replaced_weights"] = sum(before[f"{n}.weight"] for n in replaced)
    row["fp8"] = fp8(raw)
    return row


def fp8(raw: dict[str, Any]) -> int | str:
    """As it would be after loading; on meta the biases of FP8Linear are float32 still."""
    model = on_meta(raw, torch.bfloat16)
    kept = kept_by_default(model)
    try:
        model = replace_with_fp8_linear(model, kept, FineGrainedFP8Config())
    except (AssertionError, AttributeError, TypeError) as error:
        return f"no: {type(error).__name__}"
    biases = [m.bias for m in model.modules() if type(m).__name__ == "FP8Linear"]
    float32 = sum(b.numel() for b in biases if b is not None and b.dtype == torch.float32)
    return model.get_memory_footprint() - 2 * float32


def storages(model: Any) -> int:
    """Bytes of every tensor that the model holds on to, scales included, each once."""
    found: dict[int, int] = {}

    def keep(tensor: Any) -> None:
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            found[tensor.data_ptr()] = max(
                found.get(tensor.data_ptr(), 0), tensor.numel() * tensor.element_size()
            )

    for tensor in [*model.parameters(), *model.buffers()]:
        keep(tensor)
        keep(getattr(tensor, "SCB", None))
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            for one in (state, getattr(state, "state2", None)):
                for key in ("absmax", "code", "offset"):
                    keep(getattr(one, key, None))
    for module in model.modules():
        keep(getattr(getattr(module, "state", None), "SCB", None))
    return sum(found.values())


def loaded(folder: str, dtype: str, kind: Any) -> Any:
    if dtype in ("float32", "float16", "bfloat16"):
        return kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    if dtype == "int8":
        how = BitsAndBytesConfig(load_in_8bit=True)
    else:
        how = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=dtype[:3],
            bnb_4bit_use_double_quant=dtype.endswith("-dq"),
        )  # fmt: skip
    return kind.from_pretrained(
        folder, quantization_config=how, dtype=torch.bfloat16, device_map={"": "cpu"}
    )


def small(name: str, raw: dict[str, Any]) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        auto(raw).from_config(config_of(raw), dtype=torch.bfloat16).save_pretrained(folder)
        for dtype in COUNTED_BY_US[:-1]:
            model = loaded(folder, dtype, auto(raw))
            rows.append({"config": name, "dtype": dtype, "class": type(model).__name__,
                         "printed": model.get_memory_footprint(),
                         "held": storages(model)})  # fmt: skip
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, max(rows, key=len), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    sys.setrecursionlimit(100_000)  # transformers wraps FP8Experts once more for each model
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    only = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    configs = json.loads((CONFIGS / "configs.json").read_text())
    configs |= json.loads((CONFIGS / "class_defaults.json").read_text())
    models = json.loads((HERE / "small.json").read_text())
    configs |= {name: raw for name, raw in models.items() if raw.get("vision_config")}
    rows = [whole(name, raw) for name, raw in configs.items() if only.search(name)]
    if rows:
        write(HERE / "whole.csv", rows)
    found = []
    for name, raw in models.items():
        if only.search(name):
            print(name, flush=True)
            found += small(name, raw)
    write(HERE / "small.csv", found)


if __name__ == "__main__":
    main()
