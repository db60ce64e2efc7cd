"""Small real things for tests: GGUF files, machines, specs, plans."""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from snugly.machine.types import (
    Cpu,
    Disk,
    Gpu,
    GpuKind,
    Machine,
    Memory,
    Platform,
    Pool,
    Rates,
    assumed,
    measured,
    probed,
    unknown,
)
from snugly.model.ggml_types import row_bytes
from snugly.model.safetensors import DTYPE_BITS
from snugly.model.types import Attention, AttentionKind, ModelSpec, Tensor
from snugly.plan.memory import estimate
from snugly.plan.types import EngineFacts, Placement, Plan, Setup
from snugly.units import GiB, MiB

CPU_ENGINE = EngineFacts("xllamacpp", 32 * MiB, frozenset({"Q4_0", "Q4_K"}))


def machine(
    ram: int = 16 * GiB,
    free: int | None = None,
    cores: int = 8,
    busy: float = 0.0,
    gpus: tuple[Gpu, ...] = (),
    performance: int | None = None,
    usable: float | None = None,
    rates: Rates | None = None,
) -> Machine:
    """A box with the given memory and cores, nothing else known."""
    no: Any = unknown("not in this test")
    cpu = Cpu(
        model=probed("Test CPU", "test"),
        architecture=probed("x86_64", "test"),
        sockets=probed(1, "test"),
        physical_cores=probed(cores, "test"),
        logical_cores=probed(2 * cores, "test"),
        performance_cores=no if performance is None else probed(performance, "test"),
        efficiency_cores=no if performance is None else probed(cores - performance, "test"),
        usable_cores=probed(float(2 * cores) if usable is None else usable, "test"),
        instructions=probed(("avx2", "fma", "bmi2", "f16c"), "test"),
        l1d_bytes=no,
        l2_bytes=no,
        l3_bytes=no,
        load=measured(busy, "test"),
    )
    memory = Memory(
        total_bytes=probed(ram, "test"),
        available_bytes=probed(ram if free is None else free, "test"),
        swap_total_bytes=probed(0, "test"),
        swap_free_bytes=probed(0, "test"),
        cgroup_limit_bytes=no,
    )
    disk = Disk("/", probed(100 * GiB, "test"), probed(200 * GiB, "test"), no)
    return Machine(cpu, memory, gpus, (), disk, Platform(no, no, no, no, no, no), (), rates)


def apple_gpu(limit: int) -> Gpu:
    """Apple silicon's GPU, which may wire `limit` bytes of the RAM."""
    no: Any = unknown("not in this test")
    return Gpu(
        "apple", 0, probed("Apple M2", "test"), probed(GpuKind.INTEGRATED, "test"),
        assumed(limit, "test"), no, probed(True, "test"), no, no, no,
    )  # fmt: skip


def layer(kv_heads: int = 8, length: int = 128, window: int | None = None) -> Attention:
    kind = AttentionKind.SLIDING if window else AttentionKind.FULL
    return Attention(kind, kv_heads, length, length, window)


def spec(
    layers: tuple[Attention, ...] | None = None,
    weight_bytes: int = 4 * GiB,
    kept_as: str = "Q6_K",
    context: int = 32768,
    **changes: Any,
) -> ModelSpec:
    """A model with the shape of Llama 3.1 8B unless told otherwise."""
    tensor = Tensor("blk.0.ffn_up.weight", (256, 1), kept_as, 0, weight_bytes)
    values: dict[str, Any] = {
        "path": "/m.gguf", "name": "Test model", "architecture": "llama",
        "file_bytes": weight_bytes, "n_params": 8_030_261_248, "weight_bytes": weight_bytes,
        "file_type": "Q4_K_M", "tensors": (tensor,), "layers": layers or (layer(),) * 32,
        "context_train": context, "embedding_length": 4096, "feed_forward_length": 14336,
        "n_heads": 32, "vocab_size": 128256, "n_merges": 280147, "tied_embeddings": False,
        "chat_template": "{{ messages }}", "licence": "", "special_tokens": {},
        "experts": 0, "experts_used": 0, "is_causal": True,
    }  # fmt: skip
    return ModelSpec(**(values | changes))


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Models of many shapes and sizes."""
    windows = st.one_of(st.none(), st.integers(1, 8192))
    layers = draw(
        st.lists(
            st.builds(layer, st.integers(1, 64), st.sampled_from((32, 64, 128, 256)), windows),
            min_size=1,
            max_size=6,
        )
    )
    return spec(
        tuple(layers) * draw(st.integers(1, 20)),
        draw(st.integers(1 * MiB, 200 * GiB)),
        draw(st.sampled_from(("Q6_K", "Q4_K", "F16"))),
        draw(st.integers(512, 1 << 20)),
        embedding_length=draw(st.integers(64, 16384)),
        feed_forward_length=draw(st.integers(64, 65536)),
        vocab_size=draw(st.integers(1, 300_000)),
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Boxes from a Raspberry Pi to a server, with any part of the memory free."""
    ram = draw(st.integers(512 * MiB, 1024 * GiB))
    cores = draw(st.integers(1, 128))
    return machine(
        ram,
        draw(st.integers(0, ram)),
        cores,
        draw(st.floats(0, 2 * cores)),
        performance=draw(st.one_of(st.none(), st.integers(0, cores))),
        usable=draw(st.floats(0.1, 2 * cores)),
    )


def plan(path: str | Path = "/m.gguf", context: int = 2048, **changes: Any) -> Plan:
    """A plan for the fake engine, or for a real file."""
    values: dict[str, Any] = {
        "model_path": str(path), "model_name": "Test model", "setup": Setup(context),
        "placement": Placement(), "threads": 2, "threads_batch": 2, "gpu_layers": 0,
        "pools": (Pool("RAM", 24 * GiB, 16 * GiB),), "reserves": (0,), "speed": None,
        "estimate": estimate(spec(), context, 512, CPU_ENGINE), "why": (),
    }  # fmt: skip
    return Plan(**{**values, **changes})


# ---- GGUF files, byte by byte, so that a test can put anything into one


def gguf_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def gguf_pair(key: str, kind: int, packed: bytes) -> bytes:
    return gguf_string(key) + struct.pack("<I", kind) + packed


def text_pair(key: str, value: str) -> bytes:
    return gguf_pair(key, 8, gguf_string(value))


def u32_pair(key: str, value: int) -> bytes:
    return gguf_pair(key, 4, struct.pack("<I", value))


def words_pair(key: str, words: list[str]) -> bytes:
    body = b"".join(gguf_string(word) for word in words)
    return gguf_pair(key, 9, struct.pack("<IQ", 8, len(words)) + body)


TENSOR_NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
LLAMA_PAIRS = (
    text_pair("general.architecture", "llama"),
    text_pair("general.name", "Tiny"),
    u32_pair("general.file_type", 1),
    u32_pair("llama.block_count", 2),
    u32_pair("llama.context_length", 4096),
    u32_pair("llama.embedding_length", 64),
    u32_pair("llama.feed_forward_length", 128),
    u32_pair("llama.attention.head_count", 4),
    u32_pair("llama.attention.head_count_kv", 2),
    words_pair("tokenizer.ggml.tokens", ["<s>", "</s>", "a"]),
    u32_pair("tokenizer.ggml.bos_token_id", 0),
    u32_pair("tokenizer.ggml.eos_token_id", 1),
)
TINY_TENSORS = (("token_embd.weight", (64, 3), "F16"), ("blk.0.attn_q.weight", (64, 64), "Q8_0"))


def gguf_bytes(
    pairs: tuple[bytes, ...] = LLAMA_PAIRS,
    tensors: tuple[tuple[str, tuple[int, ...], str], ...] = TINY_TENSORS,
    version: int = 3,
) -> bytes:
    """A whole GGUF file with zeros for weights."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs)
    offset, body = 0, b""
    for name, shape, kind in tensors:
        size = row_bytes(kind, shape[0])
        for extent in shape[1:]:
            size *= extent
        head += gguf_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", TENSOR_NUMBERS[kind], offset)
        body += bytes(size + -size % 32)
        offset = len(body)
    return head + bytes(-len(head) % 32) + body


def hub_configs() -> dict[str, dict[str, Any]]:
    """Published config.json files, by `publisher__model` (tests/golden/configs/README.md)."""
    text = (Path(__file__).parent / "golden/configs/configs.json").read_text(encoding="utf-8")
    configs: dict[str, dict[str, Any]] = json.loads(text)
    return configs


def hub_config(name: str) -> dict[str, Any]:
    """One of them."""
    return hub_configs()[name]


def stored_bytes(tensors: Sequence[tuple[str, str, tuple[int, ...]]], data: bool = True) -> bytes:
    """A safetensors file of (name, dtype, shape) with zeros, or its header alone."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape in tensors:
        end = offset + math.prod(shape) * DTYPE_BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + (bytes(offset) if data else b"")
