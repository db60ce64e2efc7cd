"""Bytes per device beside those of bench/device_memory.py: every split, other contexts, batches.

    python bench/device_memory_wide.py HEADERS [MODEL ...] [--rows]

As bench/device_memory.py --ask, of any config of tests/golden/configs or of the catalogue
(`/` written `__`): every number of layers on the GPU (every third of more than 32), and for
nine of them contexts of 2k to 64k, caches f16 and q8_0, micro-batches 128 and 1,024, two slots,
no flash attention, caches in RAM, and two GPUs evenly, 1:3 and 4:1. About 10 s a model.
Prints how many figures are within 2%, the most too low, the most too high.
"""

import argparse
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import device_memory
from config_engine import CATALOGUE

from snugly.units import MiB

MODELS = (
    "LiquidAI__LFM2-350M", "LiquidAI__LFM2-700M", "LiquidAI__LFM2.5-1.2B-Instruct",
    "LiquidAI__LFM2.5-VL-1.6B", "HuggingFaceTB__SmolLM2-135M-Instruct",
    "HuggingFaceTB__SmolLM3-3B", "meta-llama__Llama-3.2-1B-Instruct",
    "deepseek-ai__deepseek-coder-1.3b-instruct", "mistralai__Ministral-3-3B-Instruct-2512",
    "Qwen__Qwen2.5-0.5B-Instruct", "Qwen__Qwen3-0.6B", "Qwen__Qwen3-8B", "Qwen__Qwen3.5-0.8B",
    "qwen3_next", "google__gemma-2-2b-it", "google__gemma-2-9b-it", "google__gemma-3-270m-it",
    "google__gemma-3-1b-it", "google__gemma-3-4b-it", "google__gemma-4-E2B-it",
    "google__gemma-4-E4B-it", "microsoft__Phi-3.5-mini-instruct",
    "microsoft__Phi-4-mini-instruct", "ibm-granite__granite-3.3-2b-instruct",
    "ibm-granite__granite-4.0-h-micro", "ibm-granite__granite-4.0-h-tiny",
    "ai21labs__Jamba-v0.1", "mamba2", "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "allenai__OLMo-2-0425-1B-Instruct", "allenai__Olmo-3-7B-Instruct", "bigcode__starcoder2-3b",
    "stabilityai__stable-code-3b", "cohere2", "exaone4", "openai__gpt-oss-20b",
)  # fmt: skip


@lru_cache(maxsize=1)
def configs() -> dict[str, Any]:
    """Every config at hand, and the catalogue's."""
    catalogue = json.loads(CATALOGUE.read_text())
    named = {name.replace("/", "__"): entry["config"] for name, entry in catalogue.items()}
    return named | device_memory_configs()


def questions(name: str) -> Iterator[device_memory.Row]:
    """What is asked of one model."""
    _, build = device_memory.model(name)
    n = len(build.layers)

    def row(shares: str, layers: int, context: int, kept: str, **more: int) -> device_memory.Row:
        usual = {"cpu_moe": 0, "kv_on_gpu": 1, "ubatch": 512, "n_seq": 1, "flash": 1}
        values = {
            "model": name, "kind": "cuda" if layers else "cpu",
            "devices": len(shares.split(",")) if layers else 0, "layers": layers,
            "split": shares, "context": context, "unified": 1, "k_type": kept,
            "v_type": kept, "repack": 1,
        }  # fmt: skip
        return {key: str(value) for key, value in (values | usual | more).items()}

    for layers in range(1, n + 1, 1 if n <= 32 else 3):
        yield row("1", layers, 4096, "f16")
        if layers % 2:
            yield row("1", layers, 32768, "q8_0")
    for layers in sorted({1, 2, n // 4, n // 3, n // 2, 2 * n // 3, n - 1, n, n + 1}):
        for context, kept in ((2048, "f16"), (16384, "f16"), (16384, "q8_0"), (65536, "f16"),
                              (65536, "q8_0")):  # fmt: skip
            yield row("1", layers, context, kept)
        yield row("1", layers, 8192, "f16", ubatch=128)
        yield row("1", layers, 8192, "f16", ubatch=1024)
        yield row("1", layers, 8192, "q8_0", ubatch=1024)
        yield row("1", layers, 8192, "f16", n_seq=2)
        yield row("1", layers, 8192, "f16", flash=0)
        yield row("1", layers, 8192, "f16", kv_on_gpu=0)
        for shares in ("1,1", "1,3", "4,1") if layers > 1 else ():
            yield row(shares, layers, 4096, "f16")
            yield row(shares, layers, 32768, "q8_0")
    for context, kept in ((2048, "f16"), (16384, "q8_0"), (65536, "f16")):
        yield row("0", 0, context, kept)
    yield row("0", 0, 8192, "f16", ubatch=128)
    yield row("0", 0, 8192, "f16", ubatch=1024)
    for experts in (1, n // 4, n // 2, n - 1) if build.experts else ():
        yield row("1", n + 1, 4096, "f16", cpu_moe=experts)
        yield row("1", n + 1, 32768, "q8_0", cpu_moe=experts)


def show(name: str, rows: list[device_memory.Row], each: bool) -> list[float]:
    """One model's errors, after printing their range."""
    errors: list[float] = []
    for row in rows:
        pairs = zip(device_memory.ours(row), device_memory.theirs(row), strict=True)
        for device, (mine, true) in enumerate(pairs):
            if not true:  # a GPU that got no layer
                continue
            errors.append(mine / true - 1)
            if each and abs(errors[-1]) > 0.02:
                what = " ".join(f"{key} {row[key]}" for key in ("layers", "split", "context",
                                "k_type", "ubatch", "n_seq", "flash", "kv_on_gpu",
                                "cpu_moe"))  # fmt: skip
                print(
                    f"  {what}, device {device}: {errors[-1]:+.1%}, {(mine - true) / MiB:+.1f} MiB"
                )
    inside = sum(abs(error) <= 0.02 for error in errors)
    print(f"{name:<44}{inside:>6} of {len(errors):<6}{min(errors):>+8.1%}{max(errors):>+8.1%}")
    return errors


device_memory_configs = device_memory.configs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("headers", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rows", action="store_true", help="each figure that is off")
    asked = parser.parse_args()
    device_memory.configs, device_memory.questions = configs, questions
    errors: list[float] = []
    for name in asked.models or MODELS:
        errors += show(name, list(device_memory.ask([name], asked.headers)), asked.rows)
    inside = sum(abs(error) <= 0.02 for error in errors)
    low = sum(error < -0.02 for error in errors)
    print(
        f"{inside} of {len(errors)} figures within 2%; too low {low}, the most {min(errors):+.1%}"
    )


if __name__ == "__main__":
    main()
