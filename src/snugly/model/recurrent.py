"""Bytes of the state that a recurrent layer keeps, whatever the length of the context.

Source: llama.cpp src/llama-hparams.cpp, n_embd_r() (convolution, token shift) and
n_embd_s() (the state itself); src/llama-memory-recurrent.cpp keeps both in f32.
"""

from snugly.model.fields import Fields

_F32 = 4
_KEYS = ("ssm.", "wkv.", "shortconv.", "kda.")
_UNGROUPED = frozenset({"mamba", "jamba"})  # Mamba 1: ssm.group_count is not read
_RWKV_SHIFTS = 2  # tokens kept by RWKV when `token_shift_count` is not stated


def is_recurrent_by_heads(fields: Fields) -> bool:
    """Whether a layer without KV heads keeps a state: the header describes one."""
    prefix = f"{fields.architecture}."
    return any(key.startswith(tuple(prefix + k for k in _KEYS)) for key in fields.header.metadata)


def state_bytes(fields: Fields, heads: int, key_length: int) -> int:
    """Bytes that one recurrent layer keeps for one sequence; 0 without such layers.

    `heads` are the query heads of the first layer, as llama.cpp takes them.
    """
    embedding = fields.own("embedding_length")
    if head := fields.own("wkv.head_size", 0):
        shifts = fields.own("token_shift_count", _RWKV_SHIFTS)
        return _F32 * (shifts * embedding + embedding * head)
    kernel = fields.own("ssm.conv_kernel", 0)
    if head := fields.own("kda.head_dim", 0):
        steps = kernel - 1 if kernel else 3
        return _F32 * (3 * steps * heads * head + head * head * heads)
    if kept := fields.own("shortconv.l_cache", 0):
        return _F32 * embedding * (kept - 1)
    if fields.architecture == "minimax-01":
        return _F32 * key_length * key_length * heads
    inner, state = fields.own("ssm.inner_size", 0), fields.own("ssm.state_size", 0)
    groups = 0 if fields.architecture in _UNGROUPED else fields.own("ssm.group_count", 0)
    convolution = max(kernel - 1, 0) * (inner + 2 * groups * state)
    return _F32 * (convolution + state * inner)
