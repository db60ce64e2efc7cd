"""Ask llama.cpp what its caches take, by a header with a sparse body and nothing allocated.

Which tensors an architecture needs is learnt from the engine too: offer none, read what it
misses, repeat. Every load is a forked process: the engine may abort, or crash once the
figures are out (it has no vocabulary to serve with).
"""

import math
import os
import re
import signal
import struct
import tempfile
import time
from typing import Any

import xllamacpp

Tensors = dict[str, list[int]]

_MISSING = re.compile(r"tensor '([^']+)' not found")
_SHAPE = re.compile(r"tensor '([^']+)' has wrong shape; expected\s+([\d, ]+), got")
_SIZE = re.compile(r"(?:: |, )size =\s+([\d.]+) MiB")
_DONE = ("sched_reserve:", "exiting due to model loading error")
_PATIENCE = 3  # seconds for a load that takes 30 ms
_TRIES = 40  # a crash may lose the last lines of the log, which another thread writes


def _packed(value: Any) -> tuple[int, bytes]:
    """GGUF's number for the type, and the bytes."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, _string(value)
    parts = [_packed(item) for item in value]
    head = struct.pack("<IQ", parts[0][0], len(parts))
    return 9, head + b"".join(part for _, part in parts)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write(path: str, architecture: str, metadata: dict[str, Any], tensors: Tensors) -> None:
    """A GGUF with a true header and a body of holes. Keys come without the architecture."""
    pairs = {"general.architecture": architecture, "tokenizer.ggml.model": "no_vocab"}
    own = {
        key if key.startswith("tokenizer.") else f"{architecture}.{key}": value
        for key, value in metadata.items()
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs) + len(own))
    for key, value in (pairs | own).items():
        number, packed = _packed(value)
        head += _string(key) + struct.pack("<I", number) + packed
    offset = 0
    for name, shape in tensors.items():
        head += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", 0, offset)  # F32
        offset += -(-4 * math.prod(shape) // 32) * 32
    head += bytes(-len(head) % 32)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)


def needed_tensors(path: str, architecture: str, metadata: dict[str, Any]) -> Tensors:
    """The names and shapes that the engine asks for, found by trial; `path` is overwritten.

    Raises: RuntimeError if the engine refuses the model for another reason.
    """
    tensors: Tensors = {"token_embd.weight": [1]}
    last = metadata["block_count"] - 1
    if metadata.get("nextn_predict_layers"):  # else it takes the file for a drafter alone
        tensors |= {"blk.0.attn_norm.weight": [1], f"blk.{last}.nextn.eh_proj.weight": [1]}
    if architecture == "rwkv6":  # one of two forms; the engine asserts that one is there
        tensors |= {f"blk.{i}.time_mix_lerp_fused.weight": [1] for i in range(last + 1)}
    for _ in range(10_000):
        write(path, architecture, metadata, tensors)
        text = _load(path, 4096, "F16", 1, True)
        if missing := _MISSING.search(text):
            tensors[missing[1]] = _like(tensors, missing[1])
        elif wrong := _SHAPE.search(text):
            shape = [int(extent) for extent in wrong[2].replace(" ", "").split(",") if extent]
            while len(shape) > 1 and shape[-1] == 1:
                shape.pop()
            tensors[wrong[1]] = shape
        else:
            break
    if _DONE[1] in text:
        raise RuntimeError("\n".join(line for line in text.splitlines() if " E " in line))
    return tensors


def _like(tensors: Tensors, name: str) -> list[int]:
    """The shape of the same tensor in another layer, as a first guess."""
    part = name.split(".", 2)[-1]
    return next((shape for key, shape in tensors.items() if key.split(".", 2)[-1] == part), [1])


def logged(path: str, context: int, kept: str, n_seq: int, unified: bool) -> list[float]:
    """MiB of every cache and state that the engine makes, as it logs them."""
    text = _load(path, context, kept, n_seq, unified)
    return [float(size) for size in _SIZE.findall(text)]


def _load(path: str, context: int, kept: str, n_seq: int, unified: bool) -> str:
    """The engine's log of loading; the longest of some tries when it crashes early."""
    best = ""
    for _ in range(_TRIES):
        with tempfile.TemporaryFile() as log:
            child = os.fork()
            if child == 0:
                _serve(log.fileno(), path, context, kept, n_seq, unified)
            _wait(child)
            log.seek(0)
            text = log.read().decode(errors="replace")
        best = max(best, text, key=len)
        if any(mark in text for mark in _DONE):
            return text
        if _MISSING.search(text) or _SHAPE.search(text):
            return text
    return best


def _wait(child: int) -> None:
    """Until the child ends, or for some seconds: an encoder is served without end."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _serve(
    log: int, path: str, context: int, kept: str, n_seq: int, unified: bool
) -> None:  # in the child; never returns
    os.environ["GGML_NO_BACKTRACE"] = "1"
    os.dup2(log, 1)
    os.dup2(log, 2)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.kv_unified = context, n_seq, unified
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{kept}")
    params.no_alloc, params.warmup, params.fit_params = True, False, False
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.verbosity, params.port, params.n_threads_http = 4, 0, 1
    try:
        xllamacpp.Server(params)
    except RuntimeError:
        pass
    time.sleep(0.02)  # the log is written by a thread of its own
    os._exit(0)
