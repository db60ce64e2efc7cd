"""Models of many shapes, made for the oracle: names and sizes as the converter writes them.

Shapes are those of real models where a name says so, else chosen to reach a rule.
"""

from dataclasses import dataclass, field

Shape = tuple[int, ...]
Metadata = dict[str, int | float | list[int]]


@dataclass
class Made:
    """One model: metadata without the architecture's prefix, tensors in F16 and F32."""

    name: str
    architecture: str
    metadata: Metadata
    tensors: list[tuple[str, Shape, str]] = field(default_factory=list)

    def add(self, name: str, *shape: int, vector: bool = False) -> None:
        kind = "F32" if vector or len(shape) < 2 else "F16"
        self.tensors.append((f"{name}.weight", shape, kind))


def _metadata(width: int, layers: int, heads: int, kv: int, ff: int) -> Metadata:
    return {
        "context_length": 4096, "embedding_length": width, "block_count": layers,
        "feed_forward_length": ff, "attention.head_count": heads, "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5, "attention.layer_norm_epsilon": 1e-5,
        "rope.dimension_count": width // max(heads, 1), "vocab_size": 32000,
    }  # fmt: skip


def plain(
    name: str, width: int, layers: int, heads: int, kv: int, ff: int, vocab: int = 32000,
    tied: bool = False, architecture: str = "llama", fused: bool = False, experts: int = 0,
    head: int = 0, more: dict[str, int] | None = None,
) -> Made:  # fmt: skip
    """A model built like Llama; with `fused` query, key and value are one tensor."""
    metadata: Metadata = {**_metadata(width, layers, heads, kv, ff), **(more or {})}
    if experts:
        metadata |= {"expert_count": experts, "expert_used_count": 2,
                     "expert_feed_forward_length": ff}  # fmt: skip
    made = Made(name, architecture, metadata)
    made.add("token_embd", width, vocab)
    made.add("output_norm", width)
    if not tied:
        made.add("output", width, vocab)
    head = head or width // heads
    for layer in range(layers):
        block = f"blk.{layer}."
        made.add(f"{block}attn_norm", width)
        if fused:
            made.add(f"{block}attn_qkv", width, (heads + 2 * kv) * head)
        else:
            made.add(f"{block}attn_q", width, heads * head)
            made.add(f"{block}attn_k", width, kv * head)
            made.add(f"{block}attn_v", width, kv * head)
        made.add(f"{block}attn_output", heads * head, width)
        _feed_forward(made, block, width, ff, experts)
    return made


def _feed_forward(made: Made, block: str, width: int, ff: int, experts: int) -> None:
    made.add(f"{block}ffn_norm", width)
    if experts:
        made.add(f"{block}ffn_gate_inp", width, experts, vector=True)
        made.add(f"{block}ffn_gate_exps", width, ff, experts)
        made.add(f"{block}ffn_up_exps", width, ff, experts)
        made.add(f"{block}ffn_down_exps", ff, width, experts)
    else:
        made.add(f"{block}ffn_gate", width, ff)
        made.add(f"{block}ffn_up", width, ff)
        made.add(f"{block}ffn_down", ff, width)


def deepseek(name: str, layers: int, split: bool) -> Made:
    """DeepSeek V2: latent attention; the second projection whole, or split in two."""
    width, heads = 2048, 16
    made = plain(name, width, 0, heads, 1 if split else heads, 10944)
    made.architecture = "deepseek2"
    made.metadata |= {
        "block_count": layers, "expert_count": 64, "expert_used_count": 6,
        "expert_feed_forward_length": 1408, "leading_dense_block_count": 1,
        "attention.kv_lora_rank": 512, "attention.key_length": 192,
        "attention.value_length": 128, "expert_shared_count": 2, "expert_weights_scale": 1.0,
    }  # fmt: skip
    for layer in range(layers):
        block = f"blk.{layer}."
        made.add(f"{block}attn_norm", width)
        made.add(f"{block}attn_q", width, heads * 192)
        made.add(f"{block}attn_kv_a_mqa", width, 576)
        made.add(f"{block}attn_kv_a_norm", 512)
        if split:
            made.add(f"{block}attn_k_b", 128, 512, heads)
            made.add(f"{block}attn_v_b", 512, 128, heads)
        else:
            made.add(f"{block}attn_kv_b", 512, heads * 256)
        made.add(f"{block}attn_output", heads * 128, width)
        _feed_forward(made, block, width, 1408 if layer else 10944, 64 if layer else 0)
        if layer:
            made.add(f"{block}ffn_gate_shexp", width, 2816)
            made.add(f"{block}ffn_up_shexp", width, 2816)
            made.add(f"{block}ffn_down_shexp", 2816, width)
    return made


def mamba(name: str, layers: int) -> Made:
    """A pure state-space model."""
    width = 1024
    made = plain(name, width, 0, 1, 1, 1, tied=True)
    made.architecture = "mamba"
    made.metadata |= {
        "block_count": layers, "feed_forward_length": 0, "attention.head_count": 0,
        "ssm.conv_kernel": 4, "ssm.inner_size": 2048, "ssm.state_size": 16,
        "ssm.time_step_rank": 48,
    }  # fmt: skip
    del made.metadata["attention.head_count_kv"]
    for layer in range(layers):
        block = f"blk.{layer}."
        made.add(f"{block}attn_norm", width)
        made.add(f"{block}ssm_in", width, 4096)
        made.add(f"{block}ssm_conv1d", 4, 2048, vector=True)
        made.add(f"{block}ssm_x", 2048, 80)
        made.add(f"{block}ssm_dt", 48, 2048)
        made.tensors.append((f"{block}ssm_a", (16, 2048), "F32"))
        made.add(f"{block}ssm_out", 2048, width)
    return made


def gpt2(name: str, layers: int) -> Made:
    """Positions are learned, the feed-forward part has no gate."""
    width = 768
    made = plain(name, width, 0, 12, 12, 3072, tied=True)
    made.architecture = "gpt2"
    made.metadata["block_count"] = layers
    made.add("position_embd", width, 1024, vector=True)
    for layer in range(layers):
        block = f"blk.{layer}."
        made.add(f"{block}attn_norm", width)
        made.tensors.append((f"{block}attn_qkv.bias", (3 * width,), "F32"))
        made.add(f"{block}attn_qkv", width, 3 * width)
        made.add(f"{block}attn_output", width, width)
        made.add(f"{block}ffn_up", width, 3072)
        made.add(f"{block}ffn_down", 3072, width)
    return made


def gemma3n(name: str, layers: int) -> Made:
    """A second table of embeddings, and small tensors that are left alone."""
    made = plain(name, 2048, layers, 8, 2, 8192, 262144, True, "gemma3n",
                 more={"attention.sliding_window": 512, "attention.key_length": 256,
                    "attention.value_length": 256})  # fmt: skip
    made.add("per_layer_token_embd", 256 * layers, 262144)
    made.add("per_layer_model_proj", 2048, 256 * layers)
    made.add("altup_proj", 2048, 2048, 3)
    for layer in range(layers):
        made.add(f"blk.{layer}.laurel_l", 2048, 64)
        made.add(f"blk.{layer}.inp_gate", 2048, 256)
    return made


MADE = [
    plain("llama, rows of 576, tied", 576, 30, 9, 3, 1536, 49152, tied=True),
    plain("llama, rows of 896, seven heads to a value", 896, 24, 14, 2, 4864),
    plain("llama, rows of 1536, no sharing, odd count of layers", 1536, 13, 12, 12, 8960),
    plain("Llama 3.1 8B", 4096, 32, 32, 8, 14336, 128256),
    plain("Llama 2 7B", 4096, 32, 32, 32, 11008),
    plain("Llama 2 70B", 8192, 80, 64, 8, 28672),
    plain("Llama 65B", 8192, 80, 64, 64, 22016),
    plain("Qwen2.5 72B", 8192, 80, 64, 8, 29568, 152064, architecture="qwen2"),
    plain("three layers", 2048, 3, 16, 16, 5632, tied=True),
    plain("rows of 100", 100, 9, 10, 5, 260),
    plain("rows of 160", 160, 17, 5, 5, 416, tied=True),
    plain("Mixtral 8x7B", 4096, 32, 32, 8, 14336, experts=8),
    plain("eight experts, no sharing, tied", 1024, 12, 16, 16, 2048, tied=True, experts=8),
    plain("four experts", 1024, 18, 16, 8, 2048, experts=4),
    plain("two experts", 1024, 20, 16, 16, 2048, experts=2),
    plain("Qwen3 30B A3B", 2048, 48, 32, 4, 768, 151936, architecture="qwen3moe", experts=128),
    plain("gemma 2 9B", 3584, 42, 16, 8, 14336, 256000, True, "gemma2",
          more={"attention.sliding_window": 4096, "attention.key_length": 256,
             "attention.value_length": 256}),
    plain("Phi-3 mini", 3072, 32, 32, 32, 8192, 32064, architecture="phi3", fused=True),
    plain("Phi-4", 5120, 40, 40, 10, 17920, 100352, architecture="phi3", fused=True),
    plain("Falcon 7B", 4544, 32, 71, 1, 18176, 65024, architecture="falcon", fused=True),
    plain("Falcon, rows of 8192", 8192, 60, 128, 8, 32768, 65024, architecture="falcon",
          fused=True),
    plain("falcon, tied, apart", 1024, 20, 16, 4, 4096, tied=True, architecture="falcon"),
    deepseek("DeepSeek V2 Lite", 27, split=False),
    deepseek("DeepSeek V2 Lite, split", 27, split=True),
    mamba("Mamba 370M", 48),
    gpt2("GPT-2", 12),
    gemma3n("Gemma 3n, shorter", 10),
]  # fmt: skip
