"""The process that llama.cpp runs in: `python -m snugly.engine.worker PARENT_PID`.

Protocol: one JSON line of configuration on stdin; one JSON line on stdout when the
server listens; then stdin is held open, and its end means that the parent is gone.
Everything the library prints goes to stderr, where the parent keeps the tail.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1
ENGINE_PING_SECONDS = 10  # a sign of life while a long prompt is read


def main() -> None:
    """Serve one model until told to stop or until the parent is gone."""
    die_with_parent(int(sys.argv[1]))
    config = json.loads(sys.stdin.buffer.readline())
    answer = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=watch_parent, args=(config["socket"],), daemon=True).start()
    server = _serve(config)
    os.write(answer, b'{"event": "listening"}\n')
    os.close(answer)
    # Never unload: destroying a server was seen to hang. The process simply ends.
    threading.Event().wait()
    del server  # not reached; keeps the server referenced until then


def die_with_parent(parent: int) -> None:
    """On Linux the kernel kills us when the parent's thread that started us ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


def watch_parent(socket: str) -> None:
    """End with the parent everywhere else: its end closes our stdin."""
    # os.read, not sys.stdin: a reader that holds the lock of a buffered stdin when the
    # interpreter shuts down is a fatal error.
    while os.read(0, 4096):
        pass
    if socket:
        shutil.rmtree(os.path.dirname(socket), ignore_errors=True)
    os._exit(0)


def _set_mode(xllamacpp: Any, params: Any, mode: str, pooling: str) -> None:
    """What vectors and relevances need. An encoder reads a text in one micro-batch then."""
    if mode == "generate":
        return
    params.embedding = True
    params.n_batch = params.n_ubatch
    if pooling:
        params.pooling_type = getattr(
            xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}"
        )


def _set_memory(xllamacpp: Any, params: Any, config: dict[str, Any]) -> None:
    """Slots, caches and what lies where, as the plan has it."""
    params.n_parallel = config.get("n_seq", 1)
    params.kv_unified = True  # all slots share the context
    types = xllamacpp.ggml_type
    params.cache_type_k = getattr(types, "GGML_TYPE_" + config.get("kv_type", "F16"))
    params.cache_type_v = getattr(types, "GGML_TYPE_" + config.get("v_type", "F16"))
    params.flash_attn_type = int(config.get("flash_attention", True))  # 1 is on
    params.no_kv_offload = not config.get("kv_on_gpu", True)
    split = config.get("tensor_split", [])
    if len(split) > 1:
        room = len(params.tensor_split)  # llama.cpp's most devices; zeros follow
        params.tensor_split = [float(count) for count in split] + [0.0] * (room - len(split))
    # As --n-cpu-moe names them: llama.cpp common/common.h, LLM_FFN_EXPS_REGEX.
    params.tensor_buft_overrides = ",".join(
        rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
        for layer in range(config.get("cpu_experts", 0))
    )


def _set_guessing(xllamacpp: Any, params: Any, guess: dict[str, Any]) -> None:
    """Tokens that are guessed ahead (llama.cpp docs/speculative.md)."""
    if not guess:
        return
    kinds = xllamacpp.common_speculative_type
    names = (f"COMMON_SPECULATIVE_TYPE_{t.upper().replace('-', '_')}" for t in guess["types"])
    chosen = params.speculative
    chosen.types = [getattr(kinds, name) for name in names]
    for name, value in guess["lookup"].items():
        setattr(chosen.ngram_mod, name, value)
    if drafter := guess["drafter"]:
        chosen.draft.mparams.path = drafter["path"]
        chosen.draft.n_max = drafter["n_tokens"]
        chosen.draft.n_gpu_layers = -1 if params.n_gpu_layers else 0
        chosen.draft.cpuparams.n_threads = params.cpuparams.n_threads
        chosen.draft.cpuparams_batch.n_threads = params.cpuparams_batch.n_threads


def _serve(config: dict[str, Any]) -> object:
    if config.get("polite") and hasattr(os, "nice"):
        os.nice(10)
    if config.get("spin_rounds"):  # read by libgomp when the extension is loaded
        os.environ["GOMP_SPINCOUNT"] = str(config["spin_rounds"])

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model_path"]
    params.model_alias = {config["model_name"]}
    if config.get("projector") and config.get("mode", "generate") == "generate":
        params.mmproj.path = config["projector"]
        params.mmproj_use_gpu = bool(config["gpu_layers"])
    params.n_ctx = config["context"]
    params.n_batch = config["batch"]
    params.n_ubatch = config["ubatch"]
    params.n_gpu_layers = config["gpu_layers"]
    params.no_extra_bufts = not config["repack"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads_batch"]
    params.n_ctx_checkpoints = config["checkpoints"]
    # The plan has sized everything: the engine must neither shrink nor grow it.
    params.fit_params = False
    _set_memory(xllamacpp, params, config)
    params.cache_ram_mib = 0  # 8 GiB by default
    params.ctx_shift = False  # it would drop the oldest part of the prompt silently
    params.warmup = False  # its cost would come before the first token
    _set_guessing(xllamacpp, params, config.get("guess", {}))
    _set_mode(xllamacpp, params, config.get("mode", "generate"), config.get("pooling", ""))
    params.endpoint_slots = False
    if config.get("slot_folder"):
        params.slot_save_path = os.path.join(config["slot_folder"], "")
    params.ui = False
    # Each answer holds one of these for as long as it lasts; four more for short questions.
    params.n_threads_http = params.n_parallel + 4
    params.timeout_read = params.timeout_write = 3600
    params.sse_ping_interval = ENGINE_PING_SECONDS
    params.cors_origins = ""
    params.hostnames = [config["socket"] or "127.0.0.1"]
    params.port = config["port"]
    if config["key"]:
        params.api_keys = [config["key"]]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
