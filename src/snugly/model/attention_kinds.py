"""Which architecture remembers how, as data. Used by `model.attention`.

What a header states counts; these tables hold what llama.cpp knows beside it. Source:
llama.cpp at xllamacpp 2026.10, src/models/*.cpp and src/llama-model.cpp (`create_memory`).
"""

# Which layers slide when the header does not say: every `period`-th layer is full, the
# last of each group, or the first where `dense_first`. Source: the arguments of
# load_swa_pattern. Others (gemma4, mimo2, step35, ...) always state an array.
SLIDING_PERIODS: dict[str, tuple[int, bool]] = {
    "afmoe": (4, False), "cohere2": (4, False), "cohere2moe": (4, True),
    "exaone-moe": (4, False), "exaone4": (4, False), "gemma2": (2, False),
    "gemma3": (6, False), "gemma3n": (5, False), "gpt-oss": (2, False),
    "laguna": (4, True), "llama4": (4, False), "mellum": (4, False),
    "muse-glimmer": (4, False), "olmo2": (4, False), "plamo3": (8, False),
    "smallthinker": (4, True),
}  # fmt: skip

CHUNK = 8192  # llama4 attends in chunks of this many tokens, whatever the header states
SMALLTHINKER_WINDOW = 4096  # likewise
DEFAULT_WINDOWS = {"exaone4": 4096, "gemma2": 4096, "llama4": CHUNK}  # when not stated
NO_WINDOW = frozenset({"phi3"})  # its window is stated wrongly and disabled by llama.cpp

# `create_memory` gives these none: encoders, and models that write by diffusion.
NO_CACHE = frozenset({
    "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada",
    "llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1",
    "wavtokenizer-dec",
})  # fmt: skip

# llm_arch_is_recurrent: no attention anywhere.
ALL_RECURRENT = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})

# Attention and a recurrent state side by side in every layer.
WIDE_BESIDE_STATE = frozenset({"falcon-h1"})

# Hybrids whose attention comes every n-th layer, unless the header lists the layers.
FULL_EVERY = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4, "qwen4exp": 4}

# Each layer is one of attention, recurrent state or feed-forward.
NEMOTRONS = frozenset({"nemotron_h", "nemotron_h_moe"})

# Layers that draft (multi-token prediction) have no cache unless they are loaded to draft;
# here `create_memory` does not filter them out.
KEEPS_NEXTN = frozenset({
    "bailingmoe3", "deepseek4", "hy_v4", "kimi-k3", "kimi-linear", "minimax-m3", "nemotron_h",
    "nemotron_h_moe",
})  # fmt: skip

# Sparse attention: an indexer keeps keys of its own, with one head, beside the main cache.
SECOND_CACHE = frozenset({
    "deepseek32", "dots3note", "glm-dsa", "glm5-next", "hy_v4", "minimax-m3", "qwen4exp",
})  # fmt: skip
