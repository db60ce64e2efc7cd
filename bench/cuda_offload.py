"""VRAM of a real GPU, planned beside taken: three offload splits of each model.

    python bench/cuda_offload.py LLAMA_SERVER MODEL.gguf [MODEL.gguf ...]

LLAMA_SERVER is a llama.cpp built for the GPU (`-DGGML_CUDA=ON`). Needs an NVIDIA GPU with its
driver; on a machine without one it says so. Each model is loaded with all, half and a quarter of
its layers on the first GPU, and the free VRAM is read before and after through NVML.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from snugly.engine.llama_cpp import box_facts
from snugly.machine.detect import detect
from snugly.model.build import build_of
from snugly.model.spec import read_spec
from snugly.plan.box import box_of
from snugly.plan.memory import pool_uses
from snugly.plan.types import Placement, Setup
from snugly.units import MiB

CONTEXT = 8192


def free_bytes() -> int:
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free)


def taken(server: str, model: str, layers: int) -> int:
    """Bytes of VRAM that a server takes once it answers its health route."""
    before = free_bytes()
    words = [server, "-m", model, "-ngl", str(layers), "-c", str(CONTEXT), "-np", "1", "-fa", "on",
             "--no-webui", "--port", "18137"]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            _wait(process)
            return before - free_bytes()
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    import httpx2

    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            if httpx2.get("http://127.0.0.1:18137/health").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("the server did not answer within 300 s")


def main() -> None:
    machine = detect(Path.cwd())
    if not any(gpu.vendor == "nvidia" for gpu in machine.gpus):
        raise SystemExit("There is no NVIDIA GPU here: nothing was measured.")
    engine = replace(box_facts(machine), offloads_to="cuda")
    box = box_of(machine, engine)
    worst = 0.0
    for model in sys.argv[2:]:
        build = build_of(read_spec(model))
        for layers in (len(build.layers) + 1, len(build.layers) // 2, len(build.layers) // 4):
            rest = (0,) * (len(box.pools) - 2)
            uses = pool_uses(build, Setup(CONTEXT), Placement((layers, *rest)), box.pools, engine)
            ours, theirs = uses[1].total_bytes, taken(sys.argv[1], model, layers)
            error = ours / theirs - 1
            worst = max(worst, abs(error))
            print(f"{build.name:<40} {layers:>3} layers {ours / MiB:9.1f} {theirs / MiB:9.1f} MiB"
                  f" {error:+.1%}")  # fmt: skip
    print(f"worst {worst:.1%}")


if __name__ == "__main__":
    main()
