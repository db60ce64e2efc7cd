"""The registry of captured outputs: how each is recognised, and which parser reads it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from snugly.machine import (
    amd,
    amd_smi,
    apple,
    cpu,
    intel,
    inxi,
    jetson,
    npu,
    nvidia,
    nvidia_text,
    nvtop,
    platform,
)
from snugly.machine.facts import blank
from snugly.machine.jsontext import read_json
from snugly.machine.memory import read_group, read_meminfo, within
from snugly.machine.types import Cpu, Gpu, Memory, Platform, Reading, assumed

Parse = Callable[[str, str], list[Reading]]  # text and command line; readings


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of output: its name, the sign it is known by, its parser."""

    tool: str
    sign: re.Pattern[str]
    parse: Parse


def read_section(text: str, command: str, name: str) -> list[Reading]:
    """The readings of every kind whose sign is in `text`; a damaged one becomes a remark."""
    readings: list[Reading] = []
    for kind in KINDS:
        if not kind.sign.search(text):
            continue
        try:
            readings += kind.parse(text, command)
        except ValueError as error:
            readings.append(Reading(kind.tool, remarks=(f"{error}.",)))
    return readings


def _only_gpus(tool: str, parse: Callable[[str], tuple[Gpu, ...]], json: bool = False) -> Parse:
    """A parser of GPUs alone; one of JSON says so when the JSON was cut short."""

    def read(text: str, command: str) -> list[Reading]:
        gpus = parse(text)
        remarks = () if not json or read_json(text, tool)[1] else ("the JSON is cut short.",)
        return [Reading(tool, gpus=gpus, remarks=remarks)] if gpus else []

    return read


def _smi_xml(text: str, command: str) -> list[Reading]:
    gpus, remarks = nvidia.read_smi_xml(text)
    return [Reading("nvidia-smi -q -x", gpus=gpus, remarks=remarks)]


def _smi_query(text: str, command: str) -> list[Reading]:
    gpus, remarks = nvidia.read_smi_query(text)
    return [Reading("nvidia-smi -q", gpus=gpus, remarks=remarks)]


def _smi_csv(text: str, command: str) -> list[Reading]:
    if "--query-gpu" not in command and "pid" in text.split("\n", 1)[0]:
        return []
    gpus = nvidia_text.read_smi_csv(text, command)
    return [Reading("nvidia-smi --query-gpu", gpus=gpus)] if gpus else []


def _smi_failed(text: str, command: str) -> list[Reading]:
    reason = nvidia_text.failure(text)
    return [Reading("nvidia-smi", remarks=(f"{reason}.",))] if reason else []


def _cpuinfo(text: str, command: str) -> list[Reading]:
    board = platform.read_pi(text)
    place = replace(blank(Platform, "/proc/cpuinfo does not tell"), board=board)
    known = place if board.value else None
    return [Reading("/proc/cpuinfo", cpu=cpu.read_cpuinfo(text), platform=known)]


def _lscpu(text: str, command: str) -> list[Reading]:
    return [Reading("lscpu", cpu=cpu.read_lscpu(text))]


def _meminfo(text: str, command: str) -> list[Reading]:
    return [Reading("/proc/meminfo", memory=read_meminfo(text))]


def _sysctl(text: str, command: str) -> list[Reading]:
    values = apple.read_values(text)
    processor = apple.read_sysctl_cpu(values)
    reading = Reading(
        "sysctl",
        cpu=processor,
        memory=apple.read_sysctl_memory(values),
        npus=apple.neural_engine(processor.model.value),
    )
    if not apple.is_apple_chip(processor.model.value):
        return [reading]
    gpu = blank(Gpu, "sysctl does not tell", vendor="apple", index=0)
    return [replace(reading, gpus=(replace(gpu, total_bytes=apple.gpu_limit(values)),))]


def _displays(text: str, command: str) -> list[Reading]:
    return [_with_chip(Reading("system_profiler", gpus=apple.read_displays(text)))]


def _metal(text: str, command: str) -> list[Reading]:
    gpus = apple.read_metal_log(text)
    return [_with_chip(Reading("Metal log", gpus=gpus))] if gpus else []


def _with_chip(reading: Reading) -> Reading:
    """An Apple GPU's name is the chip's: it tells the processor and the neural engine too."""
    chip = next((g.name.value for g in reading.gpus if apple.is_apple_chip(g.name.value)), None)
    if chip is None:
        return reading
    processor = blank(Cpu, f"{reading.tool} does not tell")
    why = "an Apple GPU is named after its chip"
    processor = replace(processor, model=assumed(chip, why), architecture=assumed("arm64", why))
    return replace(reading, cpu=processor, npus=apple.neural_engine(chip))


def _hardware(text: str, command: str) -> list[Reading]:
    processor, memory, place = apple.read_hardware(text)
    npus = apple.neural_engine(processor.model.value)
    return [Reading("system_profiler", "", processor, memory, (), npus, place)]


def _vm_stat(text: str, command: str) -> list[Reading]:
    return [Reading("vm_stat", memory=apple.read_vm_stat(text))]


def _tegrastats(text: str, command: str) -> list[Reading]:
    told = jetson.read_tegrastats(text)
    return [Reading("tegrastats", cpu=told[0], memory=told[1], gpus=(told[2],))] if told else []


def _proc_version(text: str, command: str) -> list[Reading]:
    wsl = platform.read_wsl(text)
    place = replace(blank(Platform, "/proc/version does not tell"), wsl=wsl)
    return [Reading("/proc/version", platform=place)] if wsl.value else []


def _files(text: str, command: str) -> list[Reading]:
    """`path: what it says` lines, as `grep -r . /sys/...` prints them."""
    files = dict(re.findall(r"^(/(?:sys|proc)/[^\s:]+(?::[^\s:]+)*?):[ \t]*(.*)$", text, re.M))
    gpus = amd.read_amdgpu_sysfs(files) + intel.read_intel_sysfs(files)
    readings = []
    if gpus or npu.read_accel(files):
        readings.append(Reading("sysfs", gpus=gpus, npus=npu.read_accel(files)))
    group = {path.rsplit("/", 1)[-1]: value for path, value in files.items() if "/cgroup" in path}
    limit = read_group("in the capture", group)
    if limit is not None:
        nothing = blank(Memory, "the cgroup files do not tell")
        told = within(nothing, [limit], "no limit")
        readings.append(Reading("cgroup", memory=told))
    return readings


def _inxi(text: str, command: str) -> list[Reading]:
    return [inxi.read_inxi(text)]


def _system_info(text: str, command: str) -> list[Reading]:
    return [inxi.read_system_info(text)]


def _kind(tool: str, sign: str, parse: Parse) -> Kind:
    return Kind(tool, re.compile(sign, re.MULTILINE), parse)


# A column of --query-gpu between commas, or an amount between them. Each alternative is tied
# to its place, so that a long line is looked at once.
_COLUMN = r"(?:name|index|memory\.(?:total|used|free)|utilization\.gpu|driver_version|uuid)"
_CSV_SIGN = rf"^{_COLUMN}(?: \[\S{{1,9}}\])?,|, ?{_COLUMN}(?: \[\S{{1,9}}\])?(?:,|$)|\d MiB, "

KINDS: tuple[Kind, ...] = (
    _kind("nvidia-smi -q -x", r"<nvidia_smi_log", _smi_xml),
    _kind(
        "nvidia-smi -L",
        r"^GPU \d+: .*\(UUID",
        _only_gpus("nvidia-smi -L", nvidia_text.read_smi_list),
    ),
    _kind(
        "nvidia-smi table",
        r"^\|\s+\d+\s.*\|\s*[0-9A-Fa-f]{4,8}:",
        _only_gpus("nvidia-smi table", nvidia_text.read_smi_table),
    ),
    _kind("nvidia-smi -q", r"NVSMI LOG", _smi_query),
    _kind("nvidia-smi --query-gpu", _CSV_SIGN, _smi_csv),
    _kind("nvidia-smi", "|".join(map(re.escape, nvidia_text.FAILURES)), _smi_failed),
    _kind("system_info.json", r'"inxi"\s*:', _system_info),
    _kind(
        "rocm-smi",
        r'^[ \t]*\{?\s*"card\d+"\s*:',
        _only_gpus("rocm-smi", amd.read_rocm_smi, json=True),
    ),
    _kind(
        "rocm-smi text",
        r"^GPU\[\d{1,4}\][ \t]*: ",
        _only_gpus("rocm-smi text", amd.read_rocm_smi_text),
    ),
    _kind(
        "amd-smi",
        r'^[ \t]*ASIC:\s*$|"asic"\s*:|"gpu_data"\s*:|^\s+TOTAL_VRAM:|"total_vram"\s*:',
        _only_gpus("amd-smi", amd_smi.read_amd_smi),
    ),
    _kind(
        "xpu-smi",
        r"^\| Device ID +\| Device Information|\"memory_physical_size_byte\"|\"device_list\"",
        _only_gpus("xpu-smi", intel.read_xpu_smi),
    ),
    _kind(
        "nvtop",
        r'"(gpu_clock|gpu_util)" ?:',
        _only_gpus("nvtop", nvtop.read_nvtop, json=True),
    ),
    _kind("system_profiler", r'"SPDisplaysDataType"|^[ \t]*Chipset Model: ', _displays),
    _kind("system_profiler", r'"SPHardwareDataType"|^[ \t]*(Model Identifier|Chip): ', _hardware),
    _kind(
        "Metal log",
        r"recommendedMaxWorkingSetSize|ggml_metal\w{0,20}: (GPU name|found device)",
        _metal,
    ),
    _kind("sysctl", r"^[ \t]*(hw\.(memsize|ncpu|physicalcpu)|machdep\.cpu\.\w+)\s*[:=]", _sysctl),
    _kind("vm_stat", r"^Mach Virtual Memory Statistics", _vm_stat),
    _kind("/proc/cpuinfo", r"^[Pp]rocessor[ \t]*:|^vendor_id[ \t]*: IBM/S390", _cpuinfo),
    _kind(
        "lscpu",
        r"^[ \t]*(CPU op-mode\(s\)|Model name|Thread\(s\) per core|Flags):|\"lscpu\"\s*:",
        _lscpu,
    ),
    _kind("/proc/meminfo", r"^[ \t]*Mem(Total|Free|Available):\s+\d+ kB", _meminfo),
    _kind("tegrastats", r"\bRAM \d{1,9}/\d{1,9}MB ", _tegrastats),
    _kind("sysfs", r"^/(sys|proc)/[^\s:]+:", _files),
    _kind("/proc/version", r"^Linux version \S+", _proc_version),
    _kind("inxi", r"^[ \t]*Info: .*-core ", _inxi),
)
