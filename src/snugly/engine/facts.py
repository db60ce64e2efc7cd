"""What a plan must know of each engine: facts alone, so that planning imports no engine."""

from collections.abc import Sequence
from dataclasses import replace

from snugly.machine.types import Machine
from snugly.plan.buffers import TAKES_OVER
from snugly.plan.types import EngineFacts
from snugly.units import MiB

WHEEL, NATIVE, OPENVINO = "xllamacpp", "native", "openvino"
X86_64 = ("x86_64", "AMD64", "amd64")
AVX2_REPACKS = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
# Resident before any model: `/usr/bin/time -v llama-server --list-devices` says 10.1 MiB;
# held against whole runs by `python bench/memory.py --engine native`.
_NATIVE_CODE_BYTES = 10 * MiB
_AVX2 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_AVX512 = frozenset({"Q2_K"})
# amx/common.h, qtype_has_amx_kernels
_AMX = frozenset({"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})
_DOTPROD = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0"})
# Resident with library and HTTP server imported, before any model: VmHWM on Linux, 2026.4.1.
_OPENVINO_CODE_BYTES = 71 * MiB
# Quantized types that its GGUF reader takes; each is converted, which is a second copy.
_CONVERTED = frozenset({"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"})


def facts(system: str, architecture: str) -> EngineFacts:
    """What the planner must know of the wheel.

    32 MiB: Python with the extension loaded, measured on Linux (`bench/memory.py`).
    Repacked types: AVX2 builds lay out these anew (llama.cpp ggml-cpu/repack.cpp); the
    arm64 wheel is built for baseline armv8-a, which has no such layout. On Apple silicon
    the wheel computes through Metal, elsewhere on PyPI on the CPU.
    """
    metal = system == "darwin" and architecture not in X86_64
    return EngineFacts(
        name="xllamacpp",
        code_bytes=32 * MiB,
        repacks=AVX2_REPACKS if architecture in X86_64 else frozenset(),
        offloads_to="metal" if metal else "",
    )


# What a build of llama.cpp for a maker's GPUs would compute with.
_BACKENDS = {"nvidia": "cuda", "amd": "rocm", "intel": "sycl", "apple": "metal"}


# What a process takes of a GPU and, for it, of RAM, before any model: gguf-parser's default
# footprint (500 and 150 MiB). Between what llama.cpp's developers saw of CUDA contexts: 107 MiB
# on a 4060 Ti, 555 on an RTX PRO 6000, growing with the GPU (ggml-org/llama.cpp#20595, #23604),
# and vLLM's 0.2 to 1.8 GiB of all that is not PyTorch's. Nobody tells of the other three apart.
# On Apple's GPUs there is no memory of their own, and what Metal takes is in our process.
_DEVICE_BYTES, _DEVICE_RAM_BYTES = 500 * MiB, 150 * MiB


def on_gpus(engine: EngineFacts, backend: str) -> EngineFacts:
    """`engine` built for GPUs: what it computes with, and what it takes of each GPU."""
    if backend not in TAKES_OVER:
        return replace(engine, offloads_to=backend)
    return replace(engine, offloads_to=backend, device_bytes=_DEVICE_BYTES,
                   device_ram_bytes=_DEVICE_RAM_BYTES)  # fmt: skip


def box_facts(machine: Machine) -> EngineFacts:
    """What llama.cpp would be on a box that is not here: with a GPU, a build that uses it."""
    architecture = machine.cpu.architecture.or_else("x86_64")
    backends = [_BACKENDS.get(gpu.vendor, "vulkan") for gpu in machine.gpus]
    plain = facts("darwin" if "metal" in backends else "linux", architecture)
    if not backends:
        return plain
    # Vulkan is the one backend that computes on GPUs of several makers.
    best = backends[0] if len(set(backends)) == 1 else "vulkan"
    return replace(on_gpus(plain, best), name="llama.cpp")


def repacks(architecture: str, instructions: Sequence[str]) -> frozenset[str]:
    """The tensor types that llama.cpp lays out anew on a processor that it is compiled for.

    A server that was compiled for less makes fewer copies than the plan has counted.
    Source: ggml/src/ggml-cpu/repack.cpp, ggml_repack_get_optimal_repack_type.
    """
    found: frozenset[str] = frozenset()
    if architecture in X86_64:
        if "avx2" in instructions:
            found |= _AVX2
        if "avx512f" in instructions:
            found |= _AVX512
        if "amx" in instructions:
            found |= _AMX
    elif "dotprod" in instructions:
        found |= _DOTPROD
    return found


def native_facts(machine: Machine, backend: str) -> EngineFacts:
    """What the planner must know of a llama-server of this machine.

    `machine --measure` times the wheel's kernels (`machine.kernels`), compiled for any AVX2.
    """
    cpu = machine.cpu
    known = repacks(cpu.architecture.or_else(""), cpu.instructions.or_else(()))
    return on_gpus(EngineFacts(NATIVE, _NATIVE_CODE_BYTES, known, is_timed=False), backend)


def openvino_facts() -> EngineFacts:
    """What the planner must know of it. Too little: while it converts it holds a third copy.

    SmolLM2-135M Q4_1 at 2,048 tokens peaked at 436 MiB, a plan says about 330.
    """
    return EngineFacts(name=OPENVINO, code_bytes=_OPENVINO_CODE_BYTES, repacks=_CONVERTED)
