"""Bytes per device: ours beside llama.cpp's own accounting, for many architectures and splits.

    python bench/device_memory.py [MODEL ...] [--rows]      from tests/golden/pools/devices.csv
    python bench/device_memory.py --ask HEADERS [MODEL ...] [--write]

Models are configs of tests/golden/configs, whole and in Q4_K_M. `--ask` writes each as a GGUF
with a true header and a body of holes and has the library in the xllamacpp wheel load it
without allocating (bench/pool_oracle.cpp, compiled here against HEADERS, a checkout of
llama.cpp): on the CPU, and with devices that look like CUDA's to it. `--write` keeps the
answers. Not compared, for llama.cpp does not count it: overhead, output rows, snapshots.
"""

import argparse
import csv
import ctypes.util
import json
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from config_engine import MORE, put
from gguf import GGMLQuantizationType, GGUFWriter

from snugly.engine.llama_cpp import AVX2_REPACKS
from snugly.machine.int8 import library
from snugly.machine.types import Pool
from snugly.model.build import build_of
from snugly.model.config import header_of_config, spec_of_config
from snugly.model.ggml_types import row_bytes
from snugly.model.quant_facts import facts_of
from snugly.model.quant_rules import quantized
from snugly.model.types import Build, ModelSpec
from snugly.plan.buffers import output_bytes
from snugly.plan.memory import CHECKPOINTS, pool_uses
from snugly.plan.profile import profile_of
from snugly.plan.types import EngineFacts, Placement, Setup
from snugly.units import MiB

GOLDEN = Path(__file__).parents[1] / "tests/golden"
MODELS = (
    "meta-llama__Llama-3.1-8B-Instruct", "meta-llama__Llama-3.2-1B-Instruct",
    "meta-llama__Llama-3.1-70B-Instruct", "HuggingFaceTB__SmolLM2-135M-Instruct",
    "TinyLlama__TinyLlama-1.1B-Chat-v1.0", "tiiuae__Falcon3-1B-Instruct", "01-ai__Yi-34B",
    "Qwen__Qwen2.5-0.5B-Instruct", "Qwen__Qwen2.5-Coder-1.5B-Instruct",
    "Qwen__Qwen2.5-Coder-7B-Instruct", "Qwen__Qwen2.5-32B-Instruct", "Qwen__Qwen3-0.6B",
    "Qwen__Qwen3-8B", "Qwen__Qwen3-30B-A3B", "Qwen__Qwen3-235B-A22B",
    "Qwen__Qwen3-VL-8B-Instruct", "Qwen__Qwen3-VL-30B-A3B-Instruct", "google__gemma-2-9b-it",
    "google__gemma-3-1b-it", "google__gemma-3-4b-it", "google__gemma-3-27b-it",
    "google__gemma-4-26B-A4B", "gemma4_text", "microsoft__Phi-4-mini-instruct",
    "microsoft__phi-2", "openai__gpt-oss-20b", "deepseek-ai__DeepSeek-V2-Lite", "glm4_moe_lite",
    "mistralai__Mixtral-8x7B-Instruct-v0.1", "allenai__OLMo-2-1124-7B-Instruct", "olmoe",
    "bigcode__starcoder2-7b", "gpt2", "gpt_bigcode", "gpt_neox", "falcon", "glm4", "cohere2",
    "smollm3", "granite", "granitemoe", "exaone4", "seed_oss", "ernie4_5", "minimax_m2",
    "meta-llama__Llama-4-Maverick-17B-128E-Instruct", "MiniMaxAI__MiniMax-M3",
    "XiaomiMiMo__MiMo-V2-Flash", "nvidia__Llama-3_3-Nemotron-Super-49B-v1",
    "LiquidAI__LFM2.5-VL-1.6B", "mamba", "mamba2", "granitemoehybrid", "qwen3_next",
    "qwen3_5_text", "Qwen__Qwen3.5-122B-A10B", "ai21labs__Jamba-v0.1",
    "nvidia__Nemotron-H-56B-Base-8K", "nvidia__NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
)  # fmt: skip
COLUMNS = (
    "model", "kind", "devices", "layers", "split", "cpu_moe", "kv_on_gpu", "context", "ubatch",
    "n_seq", "unified", "flash", "k_type", "v_type", "repack", "bytes",
)  # fmt: skip
Row = dict[str, str]


@lru_cache(maxsize=1)
def configs() -> dict[str, Any]:
    """Every config at hand, by name."""
    told = json.loads((GOLDEN / "configs/configs.json").read_text())
    return dict(told | json.loads((GOLDEN / "configs/class_defaults.json").read_text()))


@lru_cache(maxsize=64)
def model(name: str) -> tuple[ModelSpec, Build]:
    """A model in Q4_K_M."""
    spec = spec_of_config(configs()[name], name)
    tensors = quantized(spec.tensors, facts_of(spec), "Q4_K_M")
    spec = replace(spec, tensors=tensors, weight_bytes=sum(t.n_bytes for t in tensors))
    return spec, build_of(spec)


def questions(name: str) -> Iterator[Row]:
    """What is asked of one model."""
    _, build = model(name)
    n = len(build.layers)

    def row(kind: str, shares: str, layers: int, context: int, kept: str, **more: int) -> Row:
        usual = {"cpu_moe": 0, "kv_on_gpu": 1, "ubatch": 512, "n_seq": 1, "flash": 1}
        values = {
            "model": name, "kind": kind, "devices": len(shares.split(",")) if layers else 0,
            "layers": layers, "split": shares, "context": context, "unified": 1,
            "k_type": kept, "v_type": kept, "repack": 1,
        }  # fmt: skip
        return {key: str(value) for key, value in (values | usual | more).items()}

    for context in (4096, 32768):
        for kept in ("f16", "q8_0"):
            yield row("cpu", "0", 0, context, kept)
    yield row("cpu", "0", 0, 8192, "f16", ubatch=128)
    yield row("cpu", "0", 0, 8192, "f16", ubatch=2048)
    yield row("cpu", "0", 0, 8192, "f16", n_seq=4)
    yield row("cpu", "0", 0, 8192, "f16", flash=0)
    for context, kept in ((4096, "f16"), (32768, "q8_0")):
        for shares, layers in (("1", n + 1), ("1", n // 2), ("1", n // 4), ("1,1", n + 1),
                               ("3,1", n + 1), ("2,1", n // 2)):  # fmt: skip
            yield row("cuda", shares, layers, context, kept)
        if build.experts:
            yield row("cuda", "1", n + 1, context, kept, cpu_moe=n)
            yield row("cuda", "1", n + 1, context, kept, cpu_moe=n // 2)
            yield row("cuda", "1,1", n + 1, context, kept, cpu_moe=n // 4)
    for layers in (n + 1, n // 2):
        yield row("cuda", "1", layers, 8192, "f16", n_seq=4)
        yield row("cuda", "1", layers, 8192, "f16", ubatch=128)
        yield row("cuda", "1", layers, 8192, "f16", flash=0)
    yield row("cuda", "1", n + 1, 8192, "f16", kv_on_gpu=0)
    yield row("plain", "1", n + 1, 4096, "f16")
    yield row("plain", "1", n // 2, 4096, "f16")


def counts(row: Row) -> tuple[int, ...]:
    """How many layers each device gets: llama-model.cpp, get_layer_buft_list."""
    shares = np.cumsum(np.array(row["split"].split(","), dtype=np.float32))
    shares /= shares[-1] or 1
    layers, found = int(row["layers"]), [0] * int(row["devices"])
    for layer in range(layers):
        found[int(np.searchsorted(shares, np.float32(layer) / np.float32(layers), "right"))] += 1
    return tuple(found)


def ours(row: Row) -> list[int]:
    """Our bytes per device, RAM first, of what llama.cpp counts."""
    _, build = model(row["model"])
    setup = Setup(int(row["context"]), int(row["n_seq"]), row["k_type"].upper(),
                  ubatch=int(row["ubatch"]), flash_attention=row["flash"] == "1")  # fmt: skip
    placement = Placement(counts(row), int(row["cpu_moe"]), row["kv_on_gpu"] == "1")
    engine = EngineFacts("llama.cpp", 0, AVX2_REPACKS, row["kind"])
    pools = [Pool(str(i), 0, 0) for i in range(len(placement.gpu_layers) + 1)]
    uses = pool_uses(build, setup, placement, pools, engine)
    found = [use.weights_bytes + use.kv_bytes + use.compute_bytes for use in uses]
    snapshot = profile_of(build).remembered(setup).snapshot_bytes
    found[0] -= CHECKPOINTS * setup.n_seq * snapshot + output_bytes(build, setup)
    head = {kind for kind, n_bytes in build.output if n_bytes >= build.tied_bytes}
    if build.tied_embeddings and not placement.gpu_layers and head & AVX2_REPACKS:
        found[0] += build.tied_bytes  # looked up as it is, and multiplied in another layout
    return found


def theirs(row: Row) -> list[int]:
    """llama.cpp's bytes per device, RAM first: weights, second layouts, caches, compute."""
    told = [int(n) for n in row["bytes"].split()]
    return [sum(told[:4])] + [sum(told[i : i + 3]) for i in range(4, len(told), 3)]


def write_header(name: str, path: str) -> None:
    """The model as a GGUF of this header with a body of holes."""
    spec, _ = model(name)
    header = header_of_config(configs()[name], name)
    kind = header.metadata["general.architecture"]
    more = {f"{kind}.{key}": value for key, value, only in MORE if not only or kind in only}
    metadata = more | header.metadata
    metadata.setdefault(f"{kind}.vocab_size", header.lengths["tokenizer.ggml.tokens"])
    writer = GGUFWriter(path, kind)
    for key, value in metadata.items():
        if key != "general.architecture":
            put(writer, key, value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    total = 0
    for tensor in spec.tensors:
        plain = {"F32": "float32", "F16": "float16"}.get(tensor.ggml_type)
        first = tensor.shape[0] if plain else row_bytes(tensor.ggml_type, tensor.shape[0])
        shape, raw = (*reversed(tensor.shape[1:]), first), GGMLQuantizationType[tensor.ggml_type]
        dtype = np.dtype(plain or "uint8")
        writer.add_tensor_info(tensor.name, shape, dtype, tensor.n_bytes, raw)
        total += tensor.n_bytes + -tensor.n_bytes % 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, os.path.getsize(path) + total + 64)


def build_oracle(headers: Path, folder: str) -> str:
    """Compile bench/pool_oracle.cpp against the wheel's library."""
    places = [f"-I{headers / part}" for part in ("include", "ggml/include", "ggml/src", "src")]
    source, engine = Path(__file__).with_name("pool_oracle.cpp"), str(library())
    strings = b"get_tensor_mapB5cxx11" in Path(engine).read_bytes()  # which std::string it has
    command = ["g++", "-std=c++17", f"-D_GLIBCXX_USE_CXX11_ABI={strings:d}", "-O1", "-w",
               *places, str(source), engine,
               "-Wl,--unresolved-symbols=ignore-all", f"-Wl,-rpath,{Path(engine).parent}",
               "-o", f"{folder}/pool_oracle"]  # fmt: skip
    subprocess.run(command, check=True)
    return f"{folder}/pool_oracle"


def ask(names: list[str], headers: Path) -> Iterator[Row]:
    """llama.cpp's answers. The library is a Python module and needs Python's symbols."""
    name = sysconfig.get_config_var("INSTSONAME")
    python = str(Path(sysconfig.get_config_var("LIBDIR")) / name)
    if not os.path.exists(python):
        python = ctypes.util.find_library("python3") or name
    with tempfile.TemporaryDirectory() as folder:
        oracle = build_oracle(headers, folder)
        for name in names:
            path = f"{folder}/{name}.gguf"
            write_header(name, path)
            asked = list(questions(name))
            lines = [" ".join([path, *(row[c] for c in COLUMNS[1:-1])]) for row in asked]
            told = subprocess.run(
                [oracle], input="\n".join(lines), capture_output=True, text=True,
                env=os.environ | {"LD_PRELOAD": python, "GGML_NO_BACKTRACE": "1"},
            )  # fmt: skip
            answers = told.stdout.splitlines()
            print(f"{name}: {len(answers)} of {len(asked)}", flush=True)
            for row, answer in zip(asked, answers, strict=False):
                if not answer.startswith("FAILED"):
                    yield row | {"bytes": answer}
            os.unlink(path)


def show(rows: list[Row], each: bool) -> None:
    """Print the worst of every model, or every row, and the worst of all."""
    print(f"{'model':<38}{'architecture':<15}{'figures':>8}{'worst':>8}{'over 2%':>9}")
    total: list[tuple[float, bool]] = []
    for name in dict.fromkeys(row["model"] for row in rows):
        errors: list[tuple[float, bool]] = []
        for row in (row for row in rows if row["model"] == name):
            for device, (mine, true) in enumerate(zip(ours(row), theirs(row), strict=True)):
                errors.append((mine / true - 1, not int(row["devices"])))
                if each:
                    where = f"{row['kind']} {row['layers']}/{row['split']} moe {row['cpu_moe']}"
                    what = f"{row['context']} {row['k_type']} {row['ubatch']} x{row['n_seq']}"
                    print(f"  {where:<26}{what:<24}device {device}{mine / MiB:>10.1f}"
                          f"{true / MiB:>10.1f}{mine / true - 1:>+8.2%}")  # fmt: skip
        worst = max((error for error, _ in errors), key=abs)
        over = sum(abs(error) > 0.02 for error, _ in errors)
        kind = model(name)[1].architecture
        print(f"{name[:36]:<38}{kind:<15}{len(errors):>8}{worst:>+8.1%}{over:>9}")
        total += errors
    for words, part in (("CPU alone", [e for e, cpu in total if cpu]),
                        ("with devices", [e for e, cpu in total if not cpu])):  # fmt: skip
        inside = sum(abs(error) <= 0.02 for error in part)
        middle, worst = np.median(np.abs(part)), max(part, key=abs)
        share = f"{inside} of {len(part)} figures within 2%"
        print(f"{words}: {share}, median {middle:.2%}, worst {worst:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--ask", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rows", action="store_true")
    asked = parser.parse_args()
    path = GOLDEN / "pools/devices.csv"
    if asked.ask:
        rows = list(ask(asked.models or list(MODELS), asked.ask))
        if asked.write:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    else:
        with path.open(newline="") as file:
            rows = [
                r for r in csv.DictReader(file) if not asked.models or r["model"] in asked.models
            ]
    show(rows, asked.rows)


if __name__ == "__main__":
    main()
