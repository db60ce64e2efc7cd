"""Windows: the processor and GPUs out of the registry, instruction sets from the kernel."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from snugly.machine.cpu import architecture, read_pycpuinfo
from snugly.machine.facts import blank, known, said
from snugly.machine.nvtop import kind_by_name, maker
from snugly.machine.types import Cpu, Fact, Gpu, unknown

_DISPLAY = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_PROCESSOR = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"

# PF_* numbers of IsProcessorFeaturePresent (winnt.h) and the sets they stand for. Windows
# has no number for FMA, F16C and BMI2; every x86 processor with AVX2 that runs Windows 10
# has the three.
_FEATURES = {
    39: ("avx",), 40: ("avx2", "fma", "f16c", "bmi2"), 41: ("avx512f",),
    19: ("neon",), 43: ("dotprod",), 66: ("i8mm",), 46: ("sve",), 47: ("sve2",),
}  # fmt: skip


def cpu_from(
    env: Mapping[str, str], name: str | None, features: set[int], cores: int | None
) -> Cpu:
    """The processor, from the environment, the registry's name and PF_* numbers present."""
    machine = said(env.get("PROCESSOR_ARCHITEW6432")) or said(env.get("PROCESSOR_ARCHITECTURE"))
    threads = said(env.get("NUMBER_OF_PROCESSORS"))
    sets = tuple(
        word for number, words in _FEATURES.items() if number in features for word in words
    )
    how = "IsProcessorFeaturePresent; fma, f16c and bmi2 follow from avx2"
    return replace(
        blank(Cpu, "Windows does not tell"),
        model=known(name or said(env.get("PROCESSOR_IDENTIFIER")), "the registry"),
        architecture=known(architecture(machine) if machine else None, "environment"),
        logical_cores=known(
            int(threads) if threads and threads.isdecimal() else None, "NUMBER_OF_PROCESSORS"
        ),
        physical_cores=known(cores, "psutil"),
        instructions=known(sets if features else None, how),
    )


def adapters_from(
    entries: list[Mapping[str, object]],
) -> tuple[tuple[Gpu, ...], tuple[Fact[str], ...]]:
    """GPUs out of the values under the registry's class of display adapters.

    NVIDIA's are left to NVML, which tells what is free too; software adapters are left out.
    """
    how = "the registry"
    gpus: list[Gpu] = []
    for entry in entries:
        name = said(entry.get("DriverDesc"))
        vendor = maker(name or "")
        if name is None or vendor in ("nvidia", "unknown"):
            continue
        size = entry.get("HardwareInformation.qwMemorySize")
        index = sum(gpu.vendor == vendor for gpu in gpus)
        gpu = replace(
            blank(Gpu, f"{how} does not tell", vendor=vendor, index=index),
            name=known(name, how),
            driver=known(said(entry.get("DriverVersion")), how),
            total_bytes=known(size if isinstance(size, int) and size > 0 else None, how),
        )
        gpus.append(kind_by_name(gpu))
    return tuple(gpus), ()


def read_cpu() -> Cpu:
    """The processor of this Windows machine; of another system, what py-cpuinfo tells."""
    if sys.platform == "win32":
        import ctypes

        import psutil

        kernel = ctypes.windll.kernel32
        features = {n for n in _FEATURES if kernel.IsProcessorFeaturePresent(n)}
        name = _values(_PROCESSOR).get("ProcessorNameString")
        return cpu_from(os.environ, said(name), features, psutil.cpu_count(logical=False))
    import cpuinfo

    return read_pycpuinfo(cpuinfo.get_cpu_info())


def read_adapters() -> tuple[tuple[Gpu, ...], tuple[Fact[str], ...]]:
    """GPUs of this Windows machine other than NVIDIA's."""
    if sys.platform == "win32":
        folders = [_values(rf"{_DISPLAY}\{number:04d}") for number in range(16)]
        return adapters_from([folder for folder in folders if folder])
    return (), (unknown("only Windows has a registry"),)


def _values(key: str) -> dict[str, object]:
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                count = winreg.QueryInfoKey(handle)[1]
                return {v[0]: v[1] for v in (winreg.EnumValue(handle, i) for i in range(count))}
        except OSError:
            return {}
    return {}
