"""Macs out of sysctl, system_profiler (JSON and text), vm_stat and llama.cpp's Metal log."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from snugly.machine.cpu import architecture, instructions
from snugly.machine.facts import blank, known, said, size, whole
from snugly.machine.jsontext import read_json
from snugly.machine.types import Cpu, Fact, Gpu, GpuKind, Memory, Npu, Platform, assumed, probed
from snugly.units import GiB, MiB


def read_values(text: str) -> dict[str, str]:
    """`key: value` or `key = value` lines, as sysctl prints them."""
    return {
        match[1]: match[2].strip()
        for match in re.finditer(r"^[ \t]*([\w.]+)[ \t]*[:=](.*)$", text, re.MULTILINE)
    }


def read_sysctl_cpu(values: Mapping[str, str]) -> Cpu:
    """The processor out of `sysctl hw machdep.cpu`, Intel and Apple silicon."""
    how = "sysctl"
    features = " ".join(
        v for k, v in values.items() if k.startswith("machdep.cpu.") and "feat" in k
    )
    features += " " + " ".join(
        key.rsplit(".", 1)[-1]
        for key, value in values.items()
        if key.startswith("hw.optional.") and value == "1"
    )
    brand = said(values.get("machdep.cpu.brand_string"))
    apple = "hw.optional.arm64" in values or bool(brand and brand.startswith("Apple"))
    machine = said(values.get("hw.machine")) or ("arm64" if apple else None)
    if (
        machine is None
        and values.get("hw.cpu64bit_capable") == "1"
        and "machdep.cpu.vendor" in values
    ):
        machine = "x86_64"
    return replace(
        blank(Cpu, f"{how} does not tell"),
        model=known(brand, how),
        architecture=known(architecture(machine) if machine else None, how),
        sockets=known(whole(values.get("hw.packages")), how),
        physical_cores=known(_first(values, "hw.physicalcpu", "machdep.cpu.core_count"), how),
        logical_cores=known(_first(values, "hw.logicalcpu", "hw.ncpu"), how),
        performance_cores=known(whole(values.get("hw.perflevel0.physicalcpu")), how),
        efficiency_cores=known(whole(values.get("hw.perflevel1.physicalcpu")), how),
        # Apple silicon's sysctl names no NEON key in old releases, and every such chip has it.
        instructions=known(instructions(features + (" neon" if apple else "")) or None, how),
        l1d_bytes=known(whole(values.get("hw.l1dcachesize")), f"{how}, of one core"),
        l2_bytes=known(whole(values.get("hw.l2cachesize")), f"{how}, of one core or cluster"),
        l3_bytes=known(whole(values.get("hw.l3cachesize")), f"{how}, of one socket"),
    )


def _first(values: Mapping[str, str], *keys: str) -> int | None:
    return next((n for key in keys if (n := whole(values.get(key))) is not None), None)


def read_sysctl_memory(values: Mapping[str, str]) -> Memory:
    """RAM out of `sysctl hw.memsize`, swap out of `sysctl vm.swapusage`."""
    how = "sysctl"
    swap = dict(re.findall(r"(total|used|free) = ([\d.]+[KMG])", values.get("vm.swapusage", "")))
    return replace(
        blank(Memory, f"{how} does not tell"),
        total_bytes=known(whole(values.get("hw.memsize")), how),
        swap_total_bytes=known(size(swap.get("total")), how),
        swap_free_bytes=known(size(swap.get("free")), how),
    )


def read_vm_stat(text: str) -> Memory:
    """Available RAM out of `vm_stat`: pages that are free, inactive or speculative."""
    how = "vm_stat"
    page = re.search(r"page size of (\d{1,9}) bytes", text)
    pages = dict(re.findall(r"^Pages (free|inactive|speculative):\s+(\d{1,15})\.", text, re.M))
    count = sum(map(int, pages.values())) if pages else None
    return replace(
        blank(Memory, f"{how} does not tell"),
        available_bytes=known(
            None if count is None or page is None else count * int(page[1]),
            f"{how}: free + inactive + speculative",
        ),
    )


def default_wired_limit(ram_bytes: int) -> int:
    """What Metal lets the GPU use when `iogpu.wired_limit_mb` is 0 (the default).

    Two thirds of the RAM up to 32 GiB, three quarters above: the logs of an M1 8 GB
    (5726.63 MB), M1 Max 64 GB (51539.61 MB) and M2 Ultra 192 GB (154618.82 MB). Releases of
    2025 and later allow more (16 GB: 12713 MB, 128 GB: 107.5 GiB); this is the safe side.
    """
    return ram_bytes * 2 // 3 if ram_bytes <= 32 * GiB else ram_bytes * 3 // 4


def gpu_limit(values: Mapping[str, str]) -> Fact[int]:
    """Bytes the GPU of an Apple chip may allocate, out of sysctl's values."""
    keys = ("iogpu.wired_limit_mb", "debug.iogpu.wired_limit")  # macOS 14 on, macOS 13
    limit = _first(values, *keys)
    if limit:
        unit = MiB if limit < 1 << 32 else 1
        return probed(limit * unit, "sysctl iogpu.wired_limit_mb")
    ram = whole(values.get("hw.memsize"))
    if ram is None:
        return known(None, "sysctl", "neither the RAM nor iogpu.wired_limit_mb is told")
    return assumed(default_wired_limit(ram), "macOS default: 2/3 of RAM to 32 GiB, 3/4 above")


def is_apple_chip(name: str | None) -> bool:
    """Whether a processor or GPU of that name is Apple silicon."""
    return bool(name and re.search(r"\bApple (M\d|A\d\d|VirtIO|Paravirtual)", name))


def neural_engine(chip: str | None) -> tuple[Npu, ...]:
    """The neural engine that every Apple chip of that name has (Apple's chip pages)."""
    if not chip or not (match := re.search(r"Apple M\d+( Ultra)?", chip)):
        return ()
    cores = 32 if match[1] else 16
    why = f"every {match[0]} has one"
    npu = blank(Npu, "the chip's name does not tell", vendor="apple")
    return (replace(npu, name=assumed(f"Apple Neural Engine, {cores} cores", why)),)


def read_displays(text: str) -> tuple[Gpu, ...]:
    """GPUs of `system_profiler SPDisplaysDataType`, with -json or as text.

    Raises: ValueError for JSON of which nothing can be read.
    """
    if match := re.search(r'\{\s*"SP\w+DataType"', text):
        data, _ = read_json(text[match.start() :], "system_profiler")
        entries = data.get("SPDisplaysDataType") if isinstance(data, dict) else None
        found = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    else:
        found = list(_text_displays(text))
    return tuple(_display(entry, place) for place, entry in enumerate(found))


_TEXT_KEYS = {
    "Chipset Model": "sppci_model", "Total Number of Cores": "sppci_cores",
    "VRAM (Total)": "spdisplays_vram", "VRAM (Dynamic, Max)": "spdisplays_vram_shared",
    "Vendor": "spdisplays_vendor", "Bus": "sppci_bus",
}  # fmt: skip


def _text_displays(text: str) -> Iterator[dict[str, object]]:
    entry: dict[str, object] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Chipset Model":
            if entry:
                yield entry
            entry = {}
        if key in _TEXT_KEYS:
            entry[_TEXT_KEYS[key]] = value
    if entry:
        yield entry


def _display(entry: dict[str, object], place: int) -> Gpu:
    how = "system_profiler"
    name = said(entry.get("sppci_model")) or said(entry.get("_name"))
    vendor = f"{entry.get('spdisplays_vendor')} {name}".lower()
    brand = next((v for v in ("apple", "nvidia", "intel") if v in vendor), "amd")
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor=brand, index=place),
        name=known(name, how),
        cores=known(whole(entry.get("sppci_cores")), how),
    )
    if brand == "apple":
        return replace(
            gpu,
            kind=probed(GpuKind.INTEGRATED, how),
            unified=probed(True, f"{how}: Apple silicon has one memory"),
        )
    own = size(entry.get("spdisplays_vram")) or size(entry.get("_spdisplays_vram"))
    shared = size(entry.get("spdisplays_vram_shared"))
    return replace(
        gpu,
        kind=probed(GpuKind.INTEGRATED if own is None else GpuKind.DISCRETE, f"{how}: VRAM"),
        unified=probed(own is None, f"{how}: VRAM"),
        total_bytes=known(own or shared, how),
    )


def read_hardware(text: str) -> tuple[Cpu, Memory, Platform]:
    """Chip, cores, RAM and model of `system_profiler SPHardwareDataType`, JSON or text."""
    how = "system_profiler"
    told = {
        key.strip(): value.strip(' \t",')
        for key, value in re.findall(r'^[ \t"]*(\w[\w ()]*)"?[ \t]*:(.*)$', text, re.MULTILINE)
    }
    # "proc 10:4:6": 10 cores, 4 fast and 6 saving power; in text "10 (4 performance and 6 ...)".
    cores = told.get("number_processors", told.get("Total Number of Cores", ""))
    counts = re.search(r"(\d+)(?:\D+(\d+)\D+(\d+))?", cores)
    chip = said(told.get("chip_type") or told.get("Chip") or told.get("cpu_type"))
    model = said(told.get("machine_name") or told.get("Model Name"))
    memory = size(told.get("physical_memory") or told.get("Memory"))
    total = known(int(counts[1]) if counts else None, how)
    return (
        replace(
            blank(Cpu, f"{how} does not tell"),
            model=known(chip, how),
            physical_cores=total,
            logical_cores=total if is_apple_chip(chip) else known(None, how),
            performance_cores=known(int(counts[2]) if counts and counts[2] else None, how),
            efficiency_cores=known(int(counts[3]) if counts and counts[3] else None, how),
        ),
        replace(blank(Memory, f"{how} does not tell"), total_bytes=known(memory, how)),
        replace(blank(Platform, f"{how} does not tell"), board=known(model, how)),
    )


def read_metal_log(text: str) -> tuple[Gpu, ...]:
    """The GPU that llama.cpp's Metal backend reports when it starts.

    recommendedMaxWorkingSetSize is what the GPU may allocate. llama.cpp prints millions of
    bytes; before 2024 it printed MiB under the same "MB". A value that is whole thirds or
    quarters of a RAM size in only one of the two units shows which it is.
    """
    how = "Metal log"
    name = re.search(r"GPU name:[ \t]+(\S.*)$", text, re.M) or re.search(
        r"(?:found|picking default) device: (.+)$", text, re.M
    )
    family = re.findall(r"MTLGPUFamily(Apple\d+)", text)
    unified = re.search(r"has ?unified ?memory\s*=\s*(true|false)", text, re.IGNORECASE)
    limit = re.search(r"recommendedMaxWorkingSetSize\s*=\s*(\d{1,9}(?:\.\d{1,4})?) MB", text)
    if not (name or limit):
        return ()
    title = name[1].strip() if name else None
    kind = GpuKind.INTEGRATED if unified and unified[1] == "true" else GpuKind.DISCRETE
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor="apple", index=0),
        name=known(title, how),
        architecture=known(f"MTLGPUFamily{family[0]}" if family else None, how),
        unified=known(unified[1] == "true" if unified else None, how),
        kind=known(kind if unified else None, how),
        total_bytes=known(
            _working_set(float(limit[1])) if limit else None, f"{how}: recommendedMaxWorkingSetSize"
        ),
    )
    if title and not is_apple_chip(title):
        brand = next((v for v in ("intel", "nvidia") if v in title.lower()), "amd")
        return (replace(gpu, vendor=brand),)
    return (gpu,)


def _working_set(number: float) -> int:
    millions, mebis = round(number * 1e6), round(number * MiB)
    return mebis if _is_default(mebis) and not _is_default(millions) else millions


def _is_default(limit: int) -> bool:
    """Whether `limit` is what macOS gives by default for a RAM size that Apple sells."""
    sizes = (8, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)
    return any(abs(limit - default_wired_limit(n * GiB)) < 32 * 1024 for n in sizes)
