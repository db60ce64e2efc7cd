"""The processor out of /proc/cpuinfo, `lscpu` (text and JSON) and py-cpuinfo."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from snugly.machine.facts import blank, known, said, size, whole
from snugly.machine.jsontext import read_json
from snugly.machine.types import Cpu, Fact, assumed, probed, unknown

# The instruction sets that decide how fast a model runs: our name, then the words for it in
# /proc/cpuinfo and lscpu (x86, arm), in macOS's sysctl and in py-cpuinfo.
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "avx": ("avx", "avx1.0", "avx1_0"),
    "avx2": ("avx2", "avx2_0"),
    "fma": ("fma",),
    "f16c": ("f16c",),
    "bmi2": ("bmi2",),
    "avx_vnni": ("avx_vnni", "avxvnni", "avx_vnni_int8"),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni", "avx512vnni"),
    "avx512_bf16": ("avx512_bf16", "avx512bf16"),
    "avx512_fp16": ("avx512_fp16", "avx512fp16"),
    "amx": ("amx_tile", "amx_int8", "amx_bf16"),
    "neon": ("neon", "asimd", "advsimd"),
    "fp16": ("asimdhp", "fphp", "feat_fp16"),
    "dotprod": ("asimddp", "feat_dotprod"),
    "i8mm": ("i8mm", "feat_i8mm"),
    "bf16": ("bf16", "feat_bf16"),
    "sve": ("sve",),
    "sve2": ("sve2", "feat_sve2"),
    "sme": ("sme", "feat_sme"),
}

# ARM cores tell numbers. Source: util-linux sys-utils/lscpu-arm.c.
_ARM_MAKERS = {0x41: "ARM", 0x43: "Cavium", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x51: "Qualcomm",
               0x53: "Samsung", 0x61: "Apple", 0x6D: "Microsoft", 0xC0: "Ampere"}  # fmt: skip
_ARM_PARTS = {
    (0x41, 0xB76): "ARM1176", (0x41, 0xC07): "Cortex-A7", (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9", (0x41, 0xC0F): "Cortex-A15", (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35", (0x41, 0xD05): "Cortex-A55", (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72", (0x41, 0xD09): "Cortex-A73", (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76", (0x41, 0xD0C): "Neoverse-N1", (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1", (0x41, 0xD41): "Cortex-A78", (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1", (0x41, 0xD46): "Cortex-A510", (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2", (0x41, 0xD49): "Neoverse-N2", (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715", (0x41, 0xD4E): "Cortex-X3", (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520", (0x41, 0xD81): "Cortex-A720", (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD84): "Neoverse-V3", (0x41, 0xD85): "Cortex-X925", (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3", (0x43, 0x0A1): "ThunderX", (0x43, 0x0AF): "ThunderX2",
    (0x4E, 0x004): "Carmel", (0x51, 0x001): "Oryon", (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A", (0x48, 0xD01): "TaiShan-v110",
}  # fmt: skip
# x86; LoongArch; POWER; RISC-V. The model of System/390 is a number.
_MODEL_KEYS = ("model name", "Model Name", "cpu", "uarch", "machine", "vendor_id")
_LITTLE = {"Cortex-A7", "Cortex-A35", "Cortex-A53", "Cortex-A55", "Cortex-A510", "Cortex-A520"}
_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64", "x86-64": "x86_64", "i86pc": "x86_64"}


def architecture(name: str) -> str:
    """A machine name as one word for each: "aarch64" is "arm64", "AMD64" is "x86_64"."""
    word = name.strip()
    return _ARCHITECTURES.get(word.lower(), word)


def instructions(words: str) -> tuple[str, ...]:
    """Those of INSTRUCTIONS that a list of flags holds, in that table's order."""
    flags = set(words.lower().split())
    return tuple(name for name, signs in INSTRUCTIONS.items() if flags.intersection(signs))


def _flags(text: str | None, how: str) -> Fact[tuple[str, ...]]:
    # No line of flags is "not told"; a line that holds none of ours is an empty list.
    return known(instructions(text) if text else None, how)


def read_cpuinfo(text: str) -> Cpu:
    """/proc/cpuinfo of x86 and arm kernels, old and new."""
    how = "/proc/cpuinfo"
    blocks: list[dict[str, str]] = []
    shared: dict[str, str] = {}  # lines outside the blocks: old ARM kernels put most there
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r", "")):
        for line in paragraph.splitlines():
            key, found, value = (part.strip() for part in line.partition(":"))
            if not found:
                continue
            if key == "processor" and value.isdigit():
                blocks.append({})
            in_block = bool(blocks) and re.search(r"^processor\s*:", paragraph, re.MULTILINE)
            # "Processor : ARMv7 ..." with a capital names the model on old ARM kernels.
            (blocks[-1] if in_block and key != "Processor" else shared).setdefault(key, value)
    first = {**shared, **(blocks[0] if blocks else {})}
    flags = first.get("flags") or first.get("Features")
    count = len(blocks) or whole(first.get("# processors"))
    cpu = replace(
        blank(Cpu, f"{how} does not tell"),
        logical_cores=known(count or None, how),
        instructions=_flags(flags, how),
        architecture=known(_cpuinfo_architecture(first, flags), how),
    )
    if "CPU implementer" in first:
        return _arm(cpu, blocks, shared, how)
    return _x86(cpu, blocks, first, how)


def _cpuinfo_architecture(first: Mapping[str, str], flags: str | None) -> str | None:
    words = set((flags or "").split())
    if "CPU implementer" in first:
        return (
            "arm64" if "asimd" in words else "armv" + first.get("CPU architecture", "7")[:1] + "l"
        )
    if "isa" in first:
        return "riscv64" if first["isa"].startswith("rv64") else "riscv32"
    if first.get("vendor_id") == "IBM/S390":
        return "s390x"
    if first.get("cpu", "").startswith("POWER"):
        return "ppc64"
    if flags is None or "fpu" not in words:
        return None
    return "x86_64" if "lm" in words else "i686"


def _x86(cpu: Cpu, blocks: list[dict[str, str]], first: Mapping[str, str], how: str) -> Cpu:
    sockets = {block["physical id"] for block in blocks if "physical id" in block}
    cores = {(b.get("physical id", "0"), b["core id"]) for b in blocks if "core id" in b}
    cache = size(first.get("cache size"))
    last_level = first.get("vendor_id") != "AuthenticAMD"
    cpu = replace(
        cpu,
        model=known(next((n for key in _MODEL_KEYS if (n := said(first.get(key)))), None), how),
        sockets=known(len(sockets) or None, how),
        physical_cores=known(len(cores) or None, how),
    )
    # Intel kernels tell the last level of one socket, AMD's tell the L2 of one core.
    if last_level:
        return replace(cpu, l3_bytes=known(cache, f"{how}: cache size, of one socket"))
    return replace(cpu, l2_bytes=known(cache, f"{how}: cache size, of one core"))


def _arm(cpu: Cpu, blocks: list[dict[str, str]], shared: Mapping[str, str], how: str) -> Cpu:
    cores = [_arm_core({**shared, **block}) for block in blocks]
    text = said(shared.get("Processor")) or said((blocks[0] if blocks else {}).get("model name"))
    kinds = " + ".join(
        name if cores.count(name) == len(cores) else f"{cores.count(name)}x {name}"
        for name in dict.fromkeys(cores)
    )
    count = len(blocks) or None
    little = sum(core in _LITTLE for core in cores)
    cpu = replace(
        cpu,
        model=known(f"{kinds} ({text})" if text and kinds else kinds or text, how),
        physical_cores=unknown(f"{how} does not tell")
        if count is None
        else assumed(count, "/proc/cpuinfo tells no core ids on ARM; hardly any ARM core has two"),
    )
    if len(set(cores)) < 2:
        return cpu
    return replace(
        cpu,
        performance_cores=probed(len(cores) - little, f"{how}: CPU part"),
        efficiency_cores=probed(little, f"{how}: CPU part"),
    )


def _arm_core(block: Mapping[str, str]) -> str:
    try:
        maker, part = int(block["CPU implementer"], 16), int(block["CPU part"], 16)
    except (KeyError, ValueError):
        return "ARM"
    brand = _ARM_MAKERS.get(maker, f"maker {maker:#x}")
    name = _ARM_PARTS.get((maker, part))
    if name is None:
        return f"{brand} part {part:#x}"
    return name if maker == 0x41 else f"{brand} {name}"


def read_lscpu(text: str) -> Cpu:
    """`lscpu` of every util-linux, indented or not, or `lscpu -J`; parts of it too.

    Raises: ValueError for JSON of which nothing can be read.
    """
    return _from_lscpu(_lscpu_fields(text))


def _lscpu_fields(text: str) -> list[tuple[str, str]]:
    """Fields in order. A folded line (a terminal's edge) goes to the field above it."""
    if match := re.search(r'\{\s*"lscpu"', text):
        data, _ = read_json(text[match.start() :], "lscpu")
        return _lscpu_json(data.get("lscpu") if isinstance(data, dict) else None, 0)
    fields: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, found, value = line.partition(":")
        if found and re.fullmatch(r"\s*[A-Za-z][\w ()./-]*", key):
            fields.append((key.strip(), value.strip()))
        elif fields and line[:1].isspace() and line.strip():
            # The fold may have cut a word in two or not, so the line is read both ways.
            name, begun = fields[-1]
            fields[-1] = (name, f"{begun} {line.strip()} {begun.split(' ')[-1]}{line.strip()}")
    return fields


def _lscpu_json(entries: Any, depth: int) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for entry in entries if isinstance(entries, list) and depth < 20 else ():
        if isinstance(entry, dict):
            fields.append((str(entry.get("field", "")).rstrip(":"), str(entry.get("data", ""))))
            fields += _lscpu_json(entry.get("children"), depth + 1)
    return fields


def _from_lscpu(fields: list[tuple[str, str]]) -> Cpu:
    how = "lscpu"
    told: dict[str, str] = {}
    for key, value in fields:
        told.setdefault(key, value)
    models = [value for key, value in fields if key == "Model name" and said(value)]
    machine = said(told.get("Architecture"))
    cpu = replace(
        blank(Cpu, f"{how} does not tell"),
        model=known(" + ".join(dict.fromkeys(models)) or None, how),
        architecture=known(architecture(machine) if machine else None, how),
        logical_cores=known(whole(told.get("CPU(s)")), how),
        numa_nodes=known(whole(told.get("NUMA node(s)")), how),
        instructions=_flags(told.get("Flags"), how),
        l1d_bytes=_cache(told.get("L1d cache"), how),
        l2_bytes=_cache(told.get("L2 cache"), how),
        l3_bytes=_cache(told.get("L3 cache"), how),
    )
    return _lscpu_cores(cpu, fields, how)


def _lscpu_cores(cpu: Cpu, fields: list[tuple[str, str]], how: str) -> Cpu:
    """Cores and sockets, summed over the blocks that lscpu prints for unlike cores."""
    blocks: list[dict[str, str]] = [{}]
    for key, value in fields:
        if key == "Model name" and "Model name" in blocks[-1]:
            blocks.append({})
        blocks[-1].setdefault(key, value)
    physical = sockets = 0
    for block in blocks:
        groups = _product(block, "Socket(s)") or _product(
            block, "Socket(s) per book", "Book(s) per drawer", "Drawer(s)"
        )
        if groups:
            physical += groups * _product(block, "Core(s) per socket")
            sockets += groups
        else:
            physical += _product(block, "Cluster(s)", "Core(s) per cluster")
    many = sockets > 1 and sockets == cpu.logical_cores.value
    where = f"{how}, as the virtual machine shows it: each thread a socket" if many else how
    return replace(
        cpu,
        sockets=known(sockets or None, where, f"{how} does not tell"),
        physical_cores=known(physical or None, where, f"{how} does not tell"),
    )


def _product(block: Mapping[str, str], *keys: str) -> int:
    """The fields multiplied; one that is not told, or is "-", makes it 0."""
    return math.prod(whole(block.get(key)) or 0 for key in keys)


def _cache(text: str | None, how: str) -> Fact[int]:
    """util-linux from 2.34 on sums the caches ("3 MiB (12 instances)"); before, "32K" is one."""
    one = bool(text and re.fullmatch(r"[\d.]+\s*[KMG]", text))
    return known(
        size(text), f"{how}, of one core or socket" if one else how, f"{how} does not tell"
    )


def read_pycpuinfo(data: Mapping[str, Any]) -> Cpu:
    """What the py-cpuinfo library returns: for Windows, the BSDs and other systems."""
    how = "py-cpuinfo"
    flags = data.get("flags")
    raw = said(data.get("arch_string_raw")) or said(data.get("arch"))
    return replace(
        blank(Cpu, f"{how} does not tell"),
        model=known(said(data.get("brand_raw")), how),
        architecture=known(architecture(raw) if raw else None, how),
        logical_cores=known(whole(data.get("count")), how),
        instructions=_flags(" ".join(map(str, flags)) if isinstance(flags, list) else None, how),
        l3_bytes=known(size(data.get("l3_cache_size")), f"{how}, of one socket"),
    )
