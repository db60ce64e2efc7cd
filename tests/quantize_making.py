"""Small random models that the engine runs, for tests of quantizing."""

from pathlib import Path
from typing import Any

import numpy as np

from snugly.model.types import Tensor
from snugly.quantize import writer

WIDTH, HEADS, KV, LENGTH, FEED, WORDS = 64, 4, 2, 16, 128, 259


def tiny(path: Path, architecture: str, *, fused: bool = False, tied: bool = True,
         extra: dict[str, Any] | None = None, seed: int = 0) -> Path:  # fmt: skip
    """A random model of two layers, whose words are single bytes."""
    draw = np.random.default_rng(seed)
    q, kv = HEADS * LENGTH, KV * LENGTH
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WORDS, WIDTH)}
    if not tied:
        shapes["output.weight"] = (WORDS, WIDTH)
    for layer in range(2):
        inner = {"attn_output": (WIDTH, q), "ffn_down": (WIDTH, FEED), "attn_norm": (WIDTH,),
                 "ffn_norm": (WIDTH,)}  # fmt: skip
        if fused:
            inner |= {"attn_qkv": (q + 2 * kv, WIDTH), "ffn_up": (2 * FEED, WIDTH)}
        else:
            inner |= {"attn_q": (q, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH),
                      "ffn_gate": (FEED, WIDTH), "ffn_up": (FEED, WIDTH)}  # fmt: skip
        if architecture in ("qwen3", "gemma3"):
            inner |= {"attn_q_norm": (LENGTH,), "attn_k_norm": (LENGTH,)}
        if architecture.startswith("gemma") and architecture != "gemma":
            inner |= {"post_attention_norm": (WIDTH,), "post_ffw_norm": (WIDTH,)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in inner.items()}
        if architecture == "qwen2":
            shapes |= {f"blk.{layer}.attn_q.bias": (q,)}
    shapes["output_norm.weight"] = (WIDTH,)
    arch = {"block_count": 2, "embedding_length": WIDTH, "attention.head_count": HEADS,
            "attention.head_count_kv": KV, "feed_forward_length": FEED}  # fmt: skip
    pairs = {
        "general.architecture": writer.pair("STRING", architecture),
        f"{architecture}.attention.layer_norm_rms_epsilon": writer.pair("FLOAT32", 1e-5),
    }
    pairs |= {f"{architecture}.{key}": writer.pair("UINT32", n) for key, n in arch.items()}
    for key, value in (extra or {}).items():
        kind = "UINT32" if isinstance(value, int) else "FLOAT32"
        pairs[f"{architecture}.{key}"] = writer.pair(kind, value)
    words = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    pairs |= {
        "tokenizer.ggml.model": writer.pair("STRING", "llama"),
        "tokenizer.ggml.tokens": writer.pair("STRING", words),
        "tokenizer.ggml.scores": writer.pair("FLOAT32", [0.0] * WORDS),
        "tokenizer.ggml.token_type": writer.pair("INT32", [2, 3, 3, *[6] * 256]),
        f"{architecture}.context_length": writer.pair("UINT32", 512),
    }
    tensors, data = [], bytearray()
    for name, shape in shapes.items():
        values = draw.normal(size=shape) * (0.1 if len(shape) == 1 else shape[-1] ** -0.5)
        values += len(shape) == 1 and "bias" not in name
        data.extend(bytes(-len(data) % 32))
        raw = values.astype("<f4").tobytes()
        tensors.append(Tensor(name, tuple(reversed(shape)), "F32", len(data), len(raw)))
        data.extend(raw)
    path.write_bytes(writer.header(pairs, tensors) + data)
    return path
