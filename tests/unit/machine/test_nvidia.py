"""NVIDIA forms that no capture shows: from NVIDIA's documentation and the tools' own words."""

from dataclasses import dataclass
from typing import Any

import pytest

from snugly.machine.host import NoAnswer
from snugly.machine.nvidia import mig_memory_gb, pci_address, read_smi_xml, shares_ram
from snugly.machine.nvidia_text import read_smi_csv, read_smi_table
from snugly.machine.nvml import read_nvml
from snugly.units import GiB, MiB


@pytest.mark.parametrize(
    ("gpu_mib", "instance_mib", "name"),
    [
        (81559, 40448, 40),
        (81559, 20096, 20),
        (81559, 9984, 10),
        (81920, 19968, 20),
        (40960, 4864, 5),
    ],
)
def test_mig_profiles_are_named_by_eighths(gpu_mib: int, instance_mib: int, name: int) -> None:
    # The first three are the H100 capture, whose names nvidia-smi -L gives.
    assert mig_memory_gb(gpu_mib * MiB, instance_mib * MiB) == name


def test_pci_addresses_are_written_the_kernels_way() -> None:
    assert pci_address("00000000:0C:00.0") == "0000:0c:00.0"
    assert pci_address("0000:0c:00.0") == "0000:0c:00.0"
    assert pci_address("N/A") is None


def test_jetson_and_gb10_share_the_ram_and_geforce_does_not() -> None:
    assert shares_ram("Orin (nvgpu)")
    assert shares_ram("NVIDIA GB10")
    assert not shares_ram("NVIDIA GeForce RTX 4090")
    assert not shares_ram("NVIDIA GH200 480GB")


def test_a_gpu_without_memory_of_its_own_prints_not_supported() -> None:
    table = (
        "| NVIDIA-SMI 580.95.05    Driver Version: 580.95.05    CUDA Version: 13.0     |\n"
        "|   0  NVIDIA GB10                    On  |   0000000F:01:00.0 Off |      N/A |\n"
        "| N/A   41C    P8            4W /  N/A  | Not Supported        |     3%      Default |\n"
    )
    (gpu,) = read_smi_table(table)
    assert gpu.total_bytes.value is None
    assert gpu.unified.value is True
    assert gpu.utilization.value == 0.03


def test_xml_says_not_available_in_three_ways() -> None:
    log = (
        "<nvidia_smi_log><gpu id='00000000:01:00.0'><product_name>NVIDIA A2</product_name>"
        "<fb_memory_usage><total>N/A</total><used>[Not Supported]</used>"
        "<free>[Unknown Error]</free></fb_memory_usage></gpu></nvidia_smi_log>"
    )
    (gpu,), _ = read_smi_xml(log)
    assert (gpu.total_bytes.value, gpu.used_bytes.value, gpu.free_bytes.value) == (None,) * 3
    assert gpu.name.value == "NVIDIA A2"


def test_xml_entities_are_not_followed() -> None:
    bomb = (
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]>'
        "<nvidia_smi_log><gpu><product_name>&a;</product_name>"
        "</gpu></nvidia_smi_log>"
    )
    assert read_smi_xml(bomb)[0] == ()


def test_csv_without_header_is_read_by_the_command() -> None:
    command = "nvidia-smi --query-gpu=memory.free,name,memory.total --format=csv,noheader,nounits"
    (gpu,) = read_smi_csv("7571, NVIDIA GeForce RTX 2080 SUPER, 8192\n", command)
    assert gpu.name.value == "NVIDIA GeForce RTX 2080 SUPER"
    assert gpu.free_bytes.value == 7571 * MiB
    assert gpu.total_bytes.value == 8 * GiB


class FakeNvmlError(Exception):
    pass


@dataclass
class Amounts:
    total: int
    used: int
    free: int
    reserved: int = 0


@dataclass
class Rates:
    gpu: int


@dataclass
class Pci:
    busId: bytes  # noqa: N815  NVML's own name


class FakeNvml:
    """The calls of pynvml that are used, for one RTX 4090; the others fail as NVML does."""

    NVMLError = FakeNvmlError
    nvmlMemory_v2 = 2  # noqa: N815

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.is_shut = False

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken:
            raise FakeNvmlError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_shut = True

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": b"NVIDIA GeForce RTX 4090",
            "nvmlDeviceGetMemoryInfo": Amounts(24564 * MiB, 1000 * MiB, 23000 * MiB, 564 * MiB),
            "nvmlDeviceGetUtilizationRates": Rates(17),
            "nvmlDeviceGetPciInfo": Pci(b"00000000:01:00.0"),
            "nvmlDeviceGetCudaComputeCapability": (8, 9),
            "nvmlSystemGetCudaDriverVersion_v2": 12080,
            "nvmlSystemGetDriverVersion": "570.124.04",
        }

        def ask(*args: Any) -> Any:
            if name not in answers:
                raise FakeNvmlError("Not Supported")
            return answers[name]

        return ask


def test_nvml_gives_the_same_facts() -> None:
    library = FakeNvml()
    (gpu,) = read_nvml(library)
    assert gpu.name.value == "NVIDIA GeForce RTX 4090"
    assert gpu.free_bytes.value == 23000 * MiB
    assert gpu.compute_capability.value == "8.9"
    assert gpu.runtime.value == "12.8"
    assert gpu.utilization.value == 0.17
    assert gpu.bus.value == "0000:01:00.0"
    assert gpu.partitioned.value is False
    assert library.is_shut


def test_nvml_that_will_not_start_is_a_reason() -> None:
    with pytest.raises(NoAnswer, match="NVML: Driver Not Loaded"):
        read_nvml(FakeNvml(broken=True))
