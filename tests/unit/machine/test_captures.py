"""Every captured output, with values that were read in the file by eye."""

from typing import Any

import pytest
from tests.unit.machine.probes import FILES, capture, machine, text

from snugly.machine.captures import machine_from, read_capture
from snugly.machine.types import Origin
from snugly.units import GiB, MiB

# File -> path in the machine -> value. "gpus.0.total_bytes" is the value of that fact.
EXPECTED: dict[str, dict[str, Any]] = {
    "amd-smi-static__mi300a.txt": {
        "gpus.0.name": "MI300A", "gpus.1.name": "MI300A", "gpus.0.total_bytes": 64289 * MiB,
        "gpus.0.unified": True, "gpus.0.kind": "integrated", "gpus.1.bus": "0001:01:00.0",
        "gpus.0.driver": "6.9.0-rc5+",
    },
    "cpuinfo__allwinner-sun8i.txt": {
        "cpu.model": "Cortex-A7 (ARMv7 Processor rev 5 (v7l))", "cpu.logical_cores": 2,
        "cpu.instructions": ("neon",), "cpu.architecture": "armv7l", "platform.board": "sun8i",
    },
    "cpuinfo__dual-core-hyperthreaded.txt": {
        "cpu.model": "Intel(R) Core(TM) i7-4500U CPU @ 1.80GHz", "cpu.physical_cores": 2,
        "cpu.logical_cores": 4, "cpu.sockets": 1, "cpu.l3_bytes": 4096 * 1024,
        "cpu.instructions": ("avx", "avx2", "fma", "f16c", "bmi2"),
    },
    "cpuinfo__node-exporter.txt": {
        "cpu.model": "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "cpu.physical_cores": 4,
        "cpu.logical_cores": 8, "cpu.l3_bytes": 8192 * 1024, "cpu.architecture": "x86_64",
    },
    "cpuinfo__raspberry-pi-4-bcm2835.txt": {
        "cpu.model": "Cortex-A72 (ARMv7 Processor rev 3 (v7l))", "cpu.logical_cores": 4,
        # Revision c03111: memory 4 = 256 MiB << 4, board 0x11 = 4B.
        "platform.board": "Raspberry Pi 4B, 4 GiB",
    },
    "cpuinfo__thunderx-arm64.txt": {
        "cpu.model": "Cavium ThunderX", "cpu.logical_cores": 2, "cpu.architecture": "arm64",
        "cpu.instructions": ("neon",),
    },
    "cpuinfo__x86-host-vuln.txt": {
        "cpu.model": "Intel(R) Core(TM) i5-5200U CPU @ 2.20GHz", "cpu.physical_cores": 2,
        "cpu.logical_cores": 4, "cpu.l3_bytes": 3072 * 1024,
    },
    "lscpu__2x-xeon-6980p.txt": {
        "cpu.model": "Intel(R) Xeon(R) 6980P",
        "cpu.instructions": (
            "avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni", "avx512f", "avx512_vnni",
            "avx512_bf16", "avx512_fp16", "amx",
        ),
        "cpu.physical_cores": None,
    },
    "lscpu__aarch64-graviton2.txt": {
        "cpu.model": "Neoverse-N1", "cpu.architecture": "arm64", "cpu.physical_cores": 2,
        "cpu.l1d_bytes": 128 * 1024, "cpu.l2_bytes": 2 * MiB, "cpu.l3_bytes": 32 * MiB,
        "cpu.instructions": ("neon", "fp16", "dotprod"), "cpu.numa_nodes": 1,
    },
    "lscpu__vm-xeon-gold-5117.txt": {
        "cpu.model": "Intel(R) Xeon(R) Gold 5117 CPU @ 2.00GHz", "cpu.sockets": 24,
        "cpu.physical_cores": 24, "cpu.logical_cores": 24,
        "cpu.instructions": ("avx", "fma", "f16c"),
    },
    "lscpu__x86-guest-kvm.txt": {
        "cpu.model": "QEMU Virtual CPU version 2.5+", "cpu.logical_cores": 4, "cpu.sockets": 4,
        "cpu.instructions": (), "cpu.l1d_bytes": 32 * 1024, "cpu.l2_bytes": 4 * MiB,
        "cpu.l3_bytes": 16 * MiB,
    },
    "lscpu__x86-host-rhel9.txt": {
        "cpu.model": "Intel(R) Xeon(R) CPU           X5680  @ 3.33GHz", "cpu.sockets": 2,
        "cpu.physical_cores": 12, "cpu.logical_cores": 12, "cpu.l1d_bytes": 384 * 1024,
        "cpu.l2_bytes": 3 * MiB, "cpu.l3_bytes": 24 * MiB, "cpu.numa_nodes": 2,
    },
    "meminfo__jc.txt": {
        "memory.total_bytes": 3997272 * 1024, "memory.available_bytes": 3386876 * 1024,
        "memory.swap_total_bytes": 3996668 * 1024, "memory.swap_free_bytes": 3996668 * 1024,
    },
    "meminfo__node-exporter.txt": {
        "memory.total_bytes": 3742148 * 1024,
        # No MemAvailable: 225472 free + 22040 buffers + 930888 cached - 593840 shared.
        "memory.available_bytes": 584560 * 1024, "memory.swap_free_bytes": 3155360 * 1024,
    },
    "metal-init__apple-m1-8gb.txt": {
        "gpus.0.name": "Apple M1", "gpus.0.total_bytes": 5_726_630_000, "gpus.0.unified": True,
        "gpus.0.architecture": "MTLGPUFamilyApple7", "cpu.model": "Apple M1",
        "npus.0.name": "Apple Neural Engine, 16 cores",
    },
    "metal-init__apple-m1-max-64gb.txt": {
        "gpus.0.name": "Apple M1 Max", "gpus.0.total_bytes": 51_539_610_000,
    },
    "metal-init__apple-m2-ultra-192gb.txt": {
        "gpus.0.name": "Apple M2 Ultra", "gpus.0.total_bytes": 154_618_820_000,
        "npus.0.name": "Apple Neural Engine, 32 cores",
    },
    "nvidia-smi-xml__a100-sxm4-v12.xml": {
        "gpus.0.name": "NVIDIA A100-SXM4-80GB", "gpus.0.total_bytes": 81920 * MiB,
        "gpus.0.partitioned": True, "gpus.1.total_bytes": 19968 * MiB,
        "gpus.4.free_bytes": 19955 * MiB, "gpus.1.mig": "20gb", "gpus.0.driver": "535.54.03",
        "gpus.2.cores": 14,
    },
    "nvidia-smi-xml__a10g.xml": {
        "gpus.0.name": "NVIDIA A10G", "gpus.0.total_bytes": 23028 * MiB,
        "gpus.0.free_bytes": 22569 * MiB, "gpus.0.used_bytes": 22 * MiB,
        "gpus.0.driver": "515.105.01", "gpus.0.runtime": "11.7", "gpus.0.bus": "0000:00:1e.0",
    },
    "nvidia-smi-xml__gtx-1070-ti.xml": {
        "gpus.0.name": "GeForce GTX 1070 Ti", "gpus.0.total_bytes": 4096 * MiB,
        "gpus.0.free_bytes": 4054 * MiB, "gpus.0.driver": None, "gpus.0.utilization": 0.0,
    },
    "nvidia-smi-xml__quadro-p400.xml": {
        "gpus.0.name": "Quadro P400", "gpus.0.total_bytes": 1998 * MiB,
        "gpus.0.free_bytes": 1998 * MiB, "gpus.0.driver": "418.43", "gpus.0.runtime": "10.1",
    },
    "nvidia-smi-xml__rtx-3060-v12.xml": {
        "gpus.0.name": "NVIDIA GeForce RTX 3060", "gpus.0.total_bytes": 12288 * MiB,
        "gpus.0.free_bytes": 11806 * MiB, "gpus.0.architecture": "Ampere",
    },
    "nvidia-smi-xml__rtx-3080-v13.xml": {
        "gpus.0.name": "NVIDIA GeForce RTX 3080", "gpus.0.total_bytes": 10240 * MiB,
        "gpus.0.free_bytes": 660 * MiB, "gpus.0.used_bytes": 9184 * MiB,
        "gpus.0.utilization": 0.65, "gpus.0.runtime": "13.2",
    },
    "nvidia-smi-xml__tesla-t4.xml": {
        "gpus.0.name": "Tesla T4", "gpus.0.total_bytes": 15360 * MiB,
        "gpus.0.free_bytes": 13939 * MiB, "gpus.0.architecture": "Turing",
    },
    "nvidia-smi__8x-rtx4090.txt": {
        "gpus.0.total_bytes": 24564 * MiB, "gpus.7.name": "NVIDIA GeForce RTX 4090",
        "gpus.7.used_bytes": 1 * MiB, "gpus.7.bus": "0000:08:10.0", "gpus.3.driver": "535.161.08",
    },
    "nvidia-smi__ik-issue-522.txt": {
        "gpus.0.name": "NVIDIA GeForce RTX 4090 D", "gpus.0.index": 1,
        "gpus.0.total_bytes": 49140 * MiB, "gpus.0.used_bytes": 42265 * MiB,
        "gpus.0.utilization": 0.39, "gpus.0.driver": "575.57.08",
    },
    "nvidia-smi__linux-x86_64_nvidia-geforce-rtx-2080-super_595.71.05.txt": {
        "gpus.0.name": "NVIDIA GeForce RTX 2080 SUPER", "gpus.0.total_bytes": 8192 * MiB,
        "gpus.0.free_bytes": 7571 * MiB, "gpus.0.compute_capability": "7.5",
        "gpus.0.driver": "595.71.05", "gpus.0.runtime": "13.2",
    },
    "nvidia-smi__linux-x86_64_nvidia-geforce-rtx-4080-super_595.71.05.txt": {
        "gpus.0.name": "NVIDIA GeForce RTX 4080 SUPER", "gpus.0.total_bytes": 16376 * MiB,
        "gpus.0.free_bytes": 15348 * MiB, "gpus.0.compute_capability": "8.9",
        "gpus.0.architecture": "Ada Lovelace",
    },
    "nvidia-smi__linux-x86_64_nvidia-h100-mig_590.48.01.txt": {
        "gpus.0.name": "NVIDIA H100 80GB HBM3", "gpus.0.total_bytes": 81559 * MiB,
        "gpus.0.partitioned": True, "gpus.0.compute_capability": "9.0",
        "gpus.1.mig": "3g.40gb", "gpus.1.total_bytes": 40448 * MiB,
        "gpus.1.free_bytes": 40423 * MiB, "gpus.2.mig": "2g.20gb", "gpus.3.mig": "1g.10gb",
        "gpus.4.mig": "1g.10gb", "gpus.4.free_bytes": 9976 * MiB, "gpus.1.cores": 60,
    },
    "nvidia-smi__linux-x86_64_nvidia-l40s_595.80.txt": {
        "gpus.0.name": "NVIDIA L40S", "gpus.0.total_bytes": 46068 * MiB,
        "gpus.0.free_bytes": 45460 * MiB, "gpus.0.utilization": 1.0,
    },
    "nvidia-smi__windows-x86_64_nvidia-geforce-rtx-2080-super_610.62.txt": {
        "gpus.0.name": "NVIDIA GeForce RTX 2080 SUPER", "gpus.0.total_bytes": 8192 * MiB,
        "gpus.0.free_bytes": 7191 * MiB, "gpus.0.driver": "610.62", "gpus.0.runtime": "13.3",
    },
    "nvtop-json__rtx3050ti-laptop-plus-680m.json": {
        "gpus.0.name": "NVIDIA GeForce RTX 3050 Ti Laptop GPU",
        "gpus.0.total_bytes": 4294967296, "gpus.0.free_bytes": 3945594880,
        "gpus.1.name": "AMD Radeon 680M", "gpus.1.unified": True,
        "gpus.1.total_bytes": 16929173504, "gpus.1.utilization": 0.12,
    },
    "rocm-smi-json__mi100_rocm602.json": {
        "gpus.0.name": "Arcturus GL-XL [Instinct MI100]", "gpus.3.total_bytes": 34342961152,
        "gpus.0.free_bytes": 34342961152 - 6750208, "gpus.3.bus": "0000:e3:00.0",
        "gpus.0.kind": "discrete", "gpus.0.driver": "6.3.6", "gpus.0.gtt_bytes": 135138402304,
    },
    "rocm-smi-json__radeon-680m-plus-rx7900xt.json": {
        "gpus.0.name": "Rembrandt [Radeon 680M]", "gpus.0.unified": True,
        "gpus.0.carveout_bytes": 536870912, "gpus.0.total_bytes": None,
        "gpus.1.name": "Navi 31 [Radeon RX 7900 XT]", "gpus.1.total_bytes": 25753026560,
        "gpus.1.unified": False, "gpus.1.utilization": 0.203,
    },
    "rocm-smi-json__rx6700xt_rocm430.json": {
        "gpus.0.name": "AMD GPU 0x73df", "gpus.0.total_bytes": 12868124672,
        "gpus.0.free_bytes": 12868124672 - 1622728704, "gpus.0.bus": "0000:07:00.0",
    },
    "rocm-smi-json__rx6700xt_rocm612.json": {
        "gpus.0.name": "Navi 22 [Radeon RX 6700/6700 XT / 6800M]",
        "gpus.0.total_bytes": 12868124672, "gpus.0.architecture": "gfx1031",
        "gpus.0.kind": "discrete",
    },
    "rocm-smi-json__vega-10-XT.json": {
        "gpus.0.name": "AMD GPU 0x6861", "gpus.0.total_bytes": 17163091968,
        "gpus.0.driver": "5.9.25",
    },
    "sysctl__intel-macbook-pro-16gb.txt": {
        "cpu.model": "Intel(R) Core(TM) i7-4980HQ CPU @ 2.80GHz", "cpu.physical_cores": 4,
        "cpu.logical_cores": 8, "memory.total_bytes": 16 * GiB, "cpu.l3_bytes": 6 * MiB,
        "cpu.instructions": ("avx", "avx2", "fma", "f16c", "bmi2"), "cpu.architecture": "x86_64",
    },
    "sysfs-amdgpu__card0.txt": {
        "gpus.0.name": "AMD GPU 0x687f", "gpus.0.total_bytes": 8573157376,
        "gpus.0.free_bytes": 8573157376 - 1490378752, "gpus.0.utilization": 0.04,
        "gpus.0.unified": False,
    },
    "system-info__strix-halo-framework-desktop.json": {
        "cpu.model": "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "cpu.physical_cores": 16,
        "memory.installed_bytes": 128 * GiB, "memory.total_bytes": round(125.08 * GiB),
        "gpus.0.name": "Radeon 8060S Graphics", "gpus.0.unified": True,
        "gpus.0.kind": "integrated", "gpus.0.architecture": "gfx1151", "gpus.0.total_bytes": None,
        "platform.release": "CachyOS",
    },
    "system_profiler-displays-json__apple-m4.json": {
        "gpus.0.name": "Apple M4", "gpus.0.cores": 10, "gpus.0.unified": True,
        "gpus.0.total_bytes": None, "cpu.model": "Apple M4",
    },
    "tegrastats__orin-nano-8gb.txt": {
        "memory.total_bytes": 7620 * MiB, "memory.available_bytes": (7620 - 3452) * MiB,
        "memory.swap_total_bytes": 16384 * MiB, "memory.swap_free_bytes": (16384 - 1518) * MiB,
        "gpus.0.total_bytes": 7620 * MiB, "gpus.0.unified": True, "gpus.0.utilization": 0.0,
        # The last line: 1 + 2 + 0 + 2 + 2 + 1 per cent of six cores.
        "cpu.logical_cores": 6, "cpu.load": 0.08,
    },
    "xpu-smi-discovery__arc-b580.txt": {
        "gpus.0.name": "Intel(R) Arc(TM) B580 Graphics", "gpus.0.total_bytes": 12216 * MiB,
        "gpus.0.kind": "discrete", "gpus.0.cores": 160, "gpus.0.bus": "0000:03:00.0",
        "gpus.0.free_bytes": None,
    },
}  # fmt: skip


def value_at(record: Any, path: str) -> Any:
    for part in path.split("."):
        record = record[int(part)] if part.isdigit() else getattr(record, part)
    return getattr(record, "value", record)


def test_every_capture_has_expectations() -> None:
    assert sorted(EXPECTED) == FILES


@pytest.mark.parametrize("name", FILES)
def test_capture_tells_what_stands_in_the_file(name: str) -> None:
    told = machine(name)
    assert {path: value_at(told, path) for path in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", FILES)
def test_no_capture_tells_of_gpus_that_are_not_there(name: str) -> None:
    last = {path.split(".")[1] for path in EXPECTED[name] if path.startswith("gpus.")}
    count = max((int(number) + 1 for number in last), default=0)
    assert len(machine(name).gpus) == count


def test_idle_and_load_are_two_readings_and_the_idle_one_counts() -> None:
    name = "nvidia-smi__linux-x86_64_nvidia-geforce-rtx-2080-super_595.71.05.txt"
    tables = [r for r in capture(name).readings if r.tool == "nvidia-smi table"]
    assert [t.gpus[0].used_bytes.value for t in tables] == [214 * MiB, 819 * MiB]
    assert [t.section.split(" ::")[0] for t in tables] == ["idle", "load"]
    assert machine(name).gpus[0].used_bytes.value == 214 * MiB


def test_the_table_cannot_know_what_is_free_so_that_is_assumed() -> None:
    gpu = machine("nvidia-smi__8x-rtx4090.txt").gpus[0]
    assert gpu.free_bytes.value == (24564 - 1) * MiB
    assert gpu.free_bytes.origin is Origin.ASSUMED


def test_mig_instances_are_pools_and_their_gpu_is_not() -> None:
    pools = machine("nvidia-smi__linux-x86_64_nvidia-h100-mig_590.48.01.txt").pools
    assert [(p.name, p.total_bytes // MiB, p.free_bytes // MiB) for p in pools[1:]] == [
        ("GPU 0 MIG 0 3g.40gb", 40448, 40423),
        ("GPU 0 MIG 1 2g.20gb", 20096, 20080),
        ("GPU 0 MIG 2 1g.10gb", 9984, 9976),
        ("GPU 0 MIG 3 1g.10gb", 9984, 9976),
    ]


def test_an_apu_has_no_pool_of_its_own() -> None:
    pools = machine("rocm-smi-json__radeon-680m-plus-rx7900xt.json").pools
    assert [p.name for p in pools] == ["RAM", "GPU 1"]


def test_a_trimmed_log_says_that_gpus_are_missing() -> None:
    remarks = machine("nvidia-smi-xml__a100-sxm4-v12.xml").missing
    assert any("4 GPUs are attached, 1 told of" in remark.how for remark in remarks)


def test_several_files_make_one_machine() -> None:
    names = ("lscpu__x86-host-rhel9.txt", "meminfo__jc.txt", "nvidia-smi-xml__tesla-t4.xml")
    told = machine_from(capture(name) for name in names)
    assert told.cpu.physical_cores.value == 12
    assert [(p.name, p.total_bytes) for p in told.pools] == [
        ("RAM", 3997272 * 1024),
        ("GPU 0", 15360 * MiB),
    ]


def test_outputs_pasted_together_without_marks_are_all_read() -> None:
    pasted = text("meminfo__jc.txt") + text("nvidia-smi__ik-issue-522.txt")
    told = machine_from([read_capture(pasted)])
    assert told.memory.total_bytes.value == 3997272 * 1024
    assert told.gpus[0].total_bytes.value == 49140 * MiB


def test_a_text_of_no_tool_says_so() -> None:
    told = machine_from([read_capture("Dear diary, my computer is slow.\n", "diary.txt")])
    assert told.cpu.model.value is None
    assert (
        told.missing[0].how == "diary.txt: unknown: No tool that Snugly knows prints such a text."
    )


def test_crlf_and_a_byte_order_mark_change_nothing() -> None:
    name = "nvidia-smi-xml__tesla-t4.xml"
    windows = "\ufeff" + text(name).replace("\n", "\r\n")
    assert read_capture(windows, name) == capture(name)


def test_json_cut_short_gives_what_stood_before_the_cut() -> None:
    name = "rocm-smi-json__mi100_rocm602.json"
    cut = text(name)[: text(name).index('"card2"')]
    told = machine_from([read_capture(cut, name)])
    assert [gpu.index for gpu in told.gpus] == [0, 1]
    assert "the JSON is cut short." in told.missing[0].how


def test_xml_cut_short_gives_what_stood_before_the_cut() -> None:
    name = "nvidia-smi-xml__tesla-t4.xml"
    cut = text(name)[: text(name).index("<bar1_memory_usage>")]
    told = machine_from([read_capture(cut, name)])
    assert told.gpus[0].free_bytes.value == 13939 * MiB
    assert "cut short" in told.missing[0].how


def test_nvidia_smi_that_failed_gives_the_reason() -> None:
    words = (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n"
    )
    told = machine_from([read_capture(words, "smi.txt")])
    assert told.missing[0].how == "smi.txt: nvidia-smi: the NVIDIA driver is not loaded."
