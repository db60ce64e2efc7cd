"""llama.cpp's own functions, called by ctypes: what its server does not offer.

The `xllamacpp` wheel exports the C API of llama.h beside its Python module. Structures go by
value and have no version, so what the library fills in by default is compared with what this
file was written for: a layout that moved is an error, never a wrong number. The library ends
a process on what it does not like; use it in a worker process alone.

Source: llama.cpp include/llama.h and ggml/include/ggml.h (build 11549).
"""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from snugly.errors import EngineError
from snugly.machine.int8 import library as wheel_library

_POINTER, _INT, _FLAG = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool
# bool callback(ggml_tensor *, bool ask, void *): ggml_backend_sched_eval_callback
EVAL_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class ModelParams(ctypes.Structure):
    """llama_model_params."""

    _fields_ = (
        ("devices", _POINTER), ("tensor_buft_overrides", _POINTER), ("n_gpu_layers", _INT),
        ("split_mode", _INT), ("load_mode", _INT), ("lazy_mode", _INT), ("main_gpu", _INT),
        ("tensor_split", _POINTER), ("progress_callback", _POINTER),
        ("progress_callback_user_data", _POINTER), ("kv_overrides", _POINTER),
        ("vocab_only", _FLAG), ("check_tensors", _FLAG), ("use_extra_bufts", _FLAG),
        ("no_host", _FLAG), ("no_alloc", _FLAG), ("load_mtp", _FLAG),
    )  # fmt: skip


class ContextParams(ctypes.Structure):
    """llama_context_params."""

    _fields_ = (
        ("n_ctx", _INT), ("n_batch", _INT), ("n_ubatch", _INT), ("n_seq_max", _INT),
        ("n_rs_seq", _INT), ("n_outputs_max", _INT), ("n_outputs_max_per_seq", _INT),
        ("n_threads", _INT), ("n_threads_batch", _INT), ("ctx_type", _INT),
        ("rope_scaling_type", _INT), ("pooling_type", _INT), ("attention_type", _INT),
        ("flash_attn_type", _INT), ("rope_freq_base", ctypes.c_float),
        ("rope_freq_scale", ctypes.c_float), ("yarn_ext_factor", ctypes.c_float),
        ("yarn_attn_factor", ctypes.c_float), ("yarn_beta_fast", ctypes.c_float),
        ("yarn_beta_slow", ctypes.c_float), ("yarn_orig_ctx", _INT),
        ("defrag_thold", ctypes.c_float), ("cb_eval", EVAL_CALLBACK),
        ("cb_eval_user_data", _POINTER), ("type_k", _INT), ("type_v", _INT),
        ("abort_callback", _POINTER), ("abort_callback_data", _POINTER),
        ("since_11549", _POINTER),  # not in the source at hand; null by default
        ("embeddings", _FLAG), ("offload_kqv", _FLAG), ("no_perf", _FLAG),
        ("op_offload", _FLAG), ("swa_full", _FLAG),
        ("kv_unified", _FLAG), ("samplers", _POINTER), ("n_samplers", ctypes.c_size_t),
        ("ctx_other", _POINTER),
    )  # fmt: skip


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", _INT), ("token", ctypes.POINTER(_INT)), ("embd", _POINTER),
        ("pos", ctypes.POINTER(_INT)), ("n_seq_id", ctypes.POINTER(_INT)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_INT))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    )  # fmt: skip


class Tensor(ctypes.Structure):
    """ggml_tensor."""


Tensor._fields_ = (
    ("type", _INT), ("buffer", _POINTER), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4),
    ("op", _INT), ("op_params", _INT * 16), ("flags", _INT), ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", _POINTER), ("view_offs", ctypes.c_size_t), ("data", _POINTER),
    ("name", ctypes.c_char * 64), ("extra", _POINTER), ("padding", ctypes.c_char * 8),
)  # fmt: skip

# What llama_model_default_params and llama_context_default_params answer in this layout.
_MODEL_DEFAULTS = {
    "devices": None, "n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1,
    "main_gpu": 0, "kv_overrides": None, "vocab_only": False, "use_extra_bufts": True,
    "no_host": False, "no_alloc": False,
}  # fmt: skip
_CONTEXT_DEFAULTS = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max": 0,
    "n_threads": 4, "n_threads_batch": 4, "rope_scaling_type": -1, "pooling_type": -1,
    "attention_type": -1, "flash_attn_type": -1, "rope_freq_base": 0.0, "yarn_ext_factor": -1.0,
    "defrag_thold": -1.0, "type_k": 1, "type_v": 1, "embeddings": False, "offload_kqv": True,
    "no_perf": True, "n_samplers": 0, "ctx_other": None,
}  # fmt: skip


@lru_cache(maxsize=1)
def library() -> Any:
    """The loaded library, its functions declared and its layout checked.

    Raises: EngineError when the wheel is missing or is not one that this file knows.
    """
    path = wheel_library()
    if path is None:
        raise EngineError(
            "The engine is not installed.",
            "The package xllamacpp is missing.",
            "Install it with `pip install xllamacpp`.",
        )
    try:
        api = ctypes.CDLL(str(path))
        _declare(api)
        _check(api)
    except (OSError, AttributeError, ValueError) as error:
        raise EngineError(
            "The engine's own functions cannot be called.",
            f"{error} ({path}).",
            "Install the version of xllamacpp that Snugly names, or update Snugly.",
        ) from error
    api.llama_log_set(_quiet, None)
    api.llama_backend_init()
    return api


def _declare(api: Any) -> None:
    text, whole = ctypes.c_char_p, ctypes.c_int32
    signatures: dict[str, tuple[list[Any], Any]] = {
        "llama_model_default_params": ([], ModelParams),
        "llama_context_default_params": ([], ContextParams),
        "llama_backend_init": ([], None),
        "llama_log_set": ([_LOG_CALLBACK, _POINTER], None),
        "llama_model_load_from_file": ([text, ModelParams], _POINTER),
        "llama_model_free": ([_POINTER], None),
        "llama_model_get_vocab": ([_POINTER], _POINTER),
        "llama_model_n_ctx_train": ([_POINTER], whole),
        "llama_model_has_encoder": ([_POINTER], ctypes.c_bool),
        "llama_init_from_model": ([_POINTER, ContextParams], _POINTER),
        "llama_free": ([_POINTER], None),
        "llama_get_memory": ([_POINTER], _POINTER),
        "llama_memory_clear": ([_POINTER, ctypes.c_bool], None),
        "llama_memory_seq_rm": ([_POINTER, whole, whole, whole], _FLAG),
        "llama_memory_seq_pos_min": ([_POINTER, whole], whole),
        "llama_token_to_piece": ([_POINTER, whole, text, whole, whole, _FLAG], whole),
        "llama_vocab_is_eog": ([_POINTER, whole], _FLAG),
        "llama_max_devices": ([], ctypes.c_size_t),
        "llama_vocab_n_tokens": ([_POINTER], whole),
        "llama_vocab_bos": ([_POINTER], whole),
        "llama_vocab_get_add_bos": ([_POINTER], ctypes.c_bool),
        "llama_tokenize": (
            [_POINTER, text, whole, ctypes.POINTER(_INT), whole, _FLAG, _FLAG], whole,
        ),
        "llama_batch_init": ([whole, whole, whole], Batch),
        "llama_batch_free": ([Batch], None),
        "llama_decode": ([_POINTER, Batch], whole),
        "llama_get_logits_ith": ([_POINTER, whole], ctypes.POINTER(ctypes.c_float)),
        "ggml_op_name": ([ctypes.c_int], text),
        "ggml_backend_tensor_get": (
            [_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_size_t], None,
        ),
    }  # fmt: skip
    for name, (arguments, result) in signatures.items():
        function = getattr(api, name)
        function.argtypes, function.restype = arguments, result


def _check(api: Any) -> None:
    """Raise ValueError when a default is not what this layout says."""
    for made, expected in (
        (api.llama_model_default_params(), _MODEL_DEFAULTS),
        (api.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for field, value in expected.items():
            if getattr(made, field) != value:
                raise ValueError(
                    f"{type(made).__name__}.{field} is {getattr(made, field)}, not {value}:"
                    " another version of llama.cpp"
                )


def _collected(level: int, text: bytes, _: object) -> None:
    if level >= _WARNINGS and text:
        _said.append(text.decode(errors="replace").strip())
        del _said[:-_KEPT]


_WARNINGS = 3  # GGML_LOG_LEVEL_WARN; 4 is an error
_KEPT = 5  # lines; the last ones say why something failed
_said: list[str] = []
_quiet: Callable[..., None] = _LOG_CALLBACK(_collected)


def last_words() -> str:
    """What the library warned of last."""
    return " ".join(_said)
