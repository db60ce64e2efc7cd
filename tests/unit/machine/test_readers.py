"""Forms that no capture shows, written after the tools' documentation and sources."""

import json

import pytest

from snugly.machine.amd import is_apu, read_amdgpu_sysfs, read_rocm_smi_text
from snugly.machine.amd_smi import read_amd_smi
from snugly.machine.apple import (
    default_wired_limit,
    gpu_limit,
    read_displays,
    read_hardware,
    read_metal_log,
    read_sysctl_cpu,
    read_values,
    read_vm_stat,
)
from snugly.machine.cpu import read_cpuinfo, read_lscpu, read_pycpuinfo
from snugly.machine.facts import number, said, share, size, whole
from snugly.machine.gpus import pci_name
from snugly.machine.intel import read_intel_sysfs, read_xpu_smi
from snugly.machine.jsontext import read_json
from snugly.machine.load import read_busy
from snugly.machine.npu import read_accel
from snugly.machine.platform import read_board, read_container, read_notebook, read_pi, read_wsl
from snugly.machine.topology import CPUS, read_cpu_list, read_topology
from snugly.machine.types import GpuKind, Origin
from snugly.machine.windows import adapters_from, cpu_from
from snugly.units import GiB, MiB


def test_words_that_mean_nothing_is_known() -> None:
    for word in ("N/A", "[N/A]", "[Not Supported]", "unknown", "", "ERR!", "None", " - "):
        assert said(word) is None, word
    assert said("Not Active") == "Not Active"


def test_amounts() -> None:
    assert size("8192 MiB") == 8 * GiB
    assert size("384 KiB (12 instances)") == 384 * 1024
    assert size("12216.00 MiB") == 12216 * MiB
    assert size("4096K") == 4 * MiB
    assert size("12", "gib") == 12 * GiB
    assert size("5 apples") is None
    assert number("20.3") == 20.3
    assert share("63 %") == pytest.approx(0.63)
    assert share("150") is None
    assert whole("18446744073709551615") == 2**64 - 1


def test_json_is_read_up_to_the_last_whole_value() -> None:
    assert read_json('noise {"a": 1}', "x") == ({"a": 1}, True)
    assert read_json('{"a": 1, "b": [1, 2, {"c": "}', "x") == ({"a": 1, "b": [1, 2]}, False)
    assert read_json('[WARN] no such fan\n{"a": 1}\n', "x") == ({"a": 1}, True)
    with pytest.raises(ValueError, match="no JSON"):
        read_json("nothing", "x")


# CPU -------------------------------------------------------------------------------------


def test_lscpu_json_of_util_linux() -> None:
    fields = {
        "Architecture:": "aarch64",
        "CPU(s):": "4",
        "Model name:": "Cortex-A76",
        "Core(s) per cluster:": "4",
        "Socket(s):": "-",
        "Cluster(s):": "1",
        "Flags:": "fp asimd asimdhp asimddp i8mm sve bf16",
    }
    text = json.dumps({"lscpu": [{"field": k, "data": v} for k, v in fields.items()]})
    cpu = read_lscpu(text)
    assert cpu.architecture.value == "arm64"
    assert cpu.physical_cores.value == 4
    assert cpu.sockets.value is None
    assert cpu.instructions.value == ("neon", "fp16", "dotprod", "i8mm", "bf16", "sve")


def test_lscpu_of_a_chip_with_big_and_little_cores_is_summed() -> None:
    text = (
        "Architecture: aarch64\nCPU(s): 8\n"
        "Model name: Cortex-A55\n  Thread(s) per core: 1\n  Core(s) per socket: 4\n  Socket(s): 1\n"
        "Model name: Cortex-A76\n  Thread(s) per core: 1\n  Core(s) per socket: 2\n  Socket(s): 2\n"
    )
    cpu = read_lscpu(text)
    assert cpu.physical_cores.value == 4 + 4
    assert cpu.model.value == "Cortex-A55 + Cortex-A76"


def test_cpuinfo_of_a_chip_with_big_and_little_cores() -> None:
    block = (
        "processor\t: {}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    )
    text = "".join(block.format(n, "0xd05" if n < 4 else "0xd0b") for n in range(8))
    cpu = read_cpuinfo(text)
    assert cpu.model.value == "4x Cortex-A55 + 4x Cortex-A76"
    assert (cpu.performance_cores.value, cpu.efficiency_cores.value) == (4, 4)


def test_amd_cpuinfo_tells_the_l2_of_one_core() -> None:
    text = "processor : 0\nvendor_id : AuthenticAMD\ncache size : 1024 KB\nflags : fpu lm avx2\n"
    cpu = read_cpuinfo(text)
    assert cpu.l2_bytes.value == 1 * MiB
    assert cpu.l3_bytes.value is None


def test_cpuinfo_of_riscv_and_s390() -> None:
    riscv = read_cpuinfo("processor : 0\nhart : 0\nisa : rv64imafdc\nuarch : sifive,u74\n")
    assert (riscv.architecture.value, riscv.model.value) == ("riscv64", "sifive,u74")
    mainframe = read_cpuinfo("vendor_id : IBM/S390\n# processors : 4\nfeatures : esan3 vx\n")
    assert (mainframe.architecture.value, mainframe.logical_cores.value) == ("s390x", 4)


def test_pycpuinfo() -> None:
    data = {"brand_raw": "Some CPU", "arch": "X86_64", "count": 8, "flags": ["avx2", "fma"]}
    cpu = read_pycpuinfo(data)
    assert (cpu.logical_cores.value, cpu.instructions.value) == (8, ("avx2", "fma"))


def test_windows_processor() -> None:
    env = {"PROCESSOR_ARCHITECTURE": "AMD64", "NUMBER_OF_PROCESSORS": "16"}
    cpu = cpu_from(env, "AMD Ryzen 7 7840U", {39, 40}, 8)
    assert cpu.architecture.value == "x86_64"
    assert cpu.instructions.value == ("avx", "avx2", "fma", "f16c", "bmi2")
    assert (cpu.physical_cores.value, cpu.logical_cores.value) == (8, 16)


def test_windows_adapters_leave_nvidia_to_nvml() -> None:
    (gpu,), _ = adapters_from(
        [
            {"DriverDesc": "NVIDIA GeForce RTX 3060"},
            {"DriverDesc": "Intel(R) Arc(TM) A770 Graphics",
             "HardwareInformation.qwMemorySize": 16 * GiB},
            {"DriverDesc": "Microsoft Basic Display Adapter"},
        ]
    )  # fmt: skip
    assert gpu.vendor == "intel"
    assert gpu.kind.value is GpuKind.DISCRETE
    assert gpu.total_bytes.value == 16 * GiB


# Topology --------------------------------------------------------------------------------


def test_cpu_lists() -> None:
    assert read_cpu_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert read_cpu_list("") == []
    assert len(read_cpu_list("0-99999")) < 10_000


def hybrid_files() -> dict[str, str]:
    """An i5-1240P in small: one fast core with two threads, two saving cores."""
    files = {
        f"{CPUS}/online": "0-3\n",
        "/sys/devices/cpu_core/cpus": "0-1\n",
        "/sys/devices/cpu_atom/cpus": "2-3\n",
    }
    for cpu, core in enumerate(("0", "0", "4", "5")):
        folder = f"{CPUS}/cpu{cpu}"
        files[f"{folder}/topology/core_id"] = core
        files[f"{folder}/topology/physical_package_id"] = "0"
        for index, (level, kind, amount, shared) in enumerate(
            [
                ("1", "Data", "48K" if cpu < 2 else "32K", "0-1" if cpu < 2 else str(cpu)),
                ("2", "Unified", "1280K" if cpu < 2 else "2048K", "0-1" if cpu < 2 else "2-3"),
                ("3", "Unified", "12288K", "0-3"),
            ]
        ):
            place = f"{folder}/cache/index{index}"
            files |= {
                f"{place}/level": level,
                f"{place}/type": kind,
                f"{place}/size": amount,
                f"{place}/shared_cpu_list": shared,
            }
    return files


def test_hybrid_processor_counts_cores_not_threads_and_each_cache_once() -> None:
    cpu = read_topology(hybrid_files())
    assert (cpu.logical_cores.value, cpu.physical_cores.value) == (4, 3)
    assert (cpu.performance_cores.value, cpu.efficiency_cores.value) == (1, 2)
    assert cpu.l1d_bytes.value == (48 + 32 + 32) * 1024
    assert cpu.l2_bytes.value == (1280 + 2048) * 1024
    assert cpu.l3_bytes.value == 12 * MiB


def test_arm_capacities_tell_saving_cores() -> None:
    files = {f"{CPUS}/online": "0-3"}
    for place, capacity in enumerate((446, 446, 1024, 1024)):
        files[f"{CPUS}/cpu{place}/topology/core_id"] = str(place)
        files[f"{CPUS}/cpu{place}/cpu_capacity"] = str(capacity)
    cpu = read_topology(files)
    assert (cpu.performance_cores.value, cpu.efficiency_cores.value) == (2, 2)


def test_busy_seconds_leave_idle_and_disk_waits_out() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in hundredths.
    assert read_busy("cpu  100 20 30 9000 500 5 5 40 60 0\n") == (100 + 20 + 30 + 5 + 5 + 40) / 100


# GPUs ------------------------------------------------------------------------------------


def test_which_amd_parts_are_apus() -> None:
    for name in ("Rembrandt [Radeon 680M]", "AMD Radeon Vega 8 Graphics", "Radeon 8060S Graphics"):
        assert is_apu(name), name
    for name in ("Navi 31 [Radeon RX 7900 XT]", "Radeon RX Vega 56", "AMD Radeon RX 6800M"):
        assert not is_apu(name), name
    assert is_apu(None, "gfx1151")
    assert is_apu(None, None, 0x1681)
    assert not is_apu("AMD Radeon Graphics", "gfx1201")
    assert is_apu(None) is None


def test_an_apu_in_sysfs_may_use_carve_out_and_gtt() -> None:
    folder = "/sys/class/drm/card1/device"
    (gpu,) = read_amdgpu_sysfs(
        {
            f"{folder}/vendor": "0x1002\n",
            f"{folder}/device": "0x15bf\n",
            f"{folder}/mem_info_vram_total": str(512 * MiB),
            f"{folder}/mem_info_vram_used": str(100 * MiB),
            f"{folder}/mem_info_gtt_total": str(15 * GiB),
            f"{folder}/mem_info_gtt_used": str(50 * MiB),
            f"{folder}/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:c1:00.0\n",
        }
    )
    assert gpu.unified.value is True
    assert gpu.total_bytes.value == 512 * MiB + 15 * GiB
    assert gpu.free_bytes.value == 512 * MiB + 15 * GiB - 150 * MiB
    assert gpu.bus.value == "0000:c1:00.0"


def test_amd_smi_json_old_and_new() -> None:
    entry = {
        "gpu": 0,
        "asic": {"market_name": "AMD Radeon RX 7900 XTX", "device_id": "0x744c"},
        "bus": {"bdf": "0000:03:00.0"},
        "vram": {"type": "GDDR6", "size": {"value": 24560, "unit": "MB"}},
        "driver": {"name": "amdgpu", "version": "6.8.5"},
    }
    for text in (json.dumps([entry]), json.dumps({"gpu_data": [entry]})):
        (gpu,) = read_amd_smi(text)
        assert gpu.name.value == "AMD Radeon RX 7900 XTX"
        assert gpu.total_bytes.value == 24560 * MiB
        assert gpu.kind.value is GpuKind.DISCRETE


def test_rocm_smi_without_json() -> None:
    text = (
        "======== ROCm System Management Interface ========\n"
        "GPU[0]\t\t: Card Series: \t\tRadeon RX 7900 XTX\n"
        "GPU[0]\t\t: VRAM Total Memory (B): 25753026560\n"
        "GPU[0]\t\t: VRAM Total Used Memory (B): 27553792\n"
        "GPU[0]\t\t: GPU use (%): 7\n"
    )
    (gpu,) = read_rocm_smi_text(text)
    assert gpu.name.value == "Radeon RX 7900 XTX"
    assert gpu.free_bytes.value == 25753026560 - 27553792
    assert gpu.utilization.value == 0.07


def test_xpu_smi_json() -> None:
    text = json.dumps({"device_list": [{
        "device_id": 0, "device_name": "Intel(R) Data Center GPU Flex 170",
        "pci_bdf_address": "0000:4d:00.0", "memory_physical_size_byte": "14937952256",
    }]})  # fmt: skip
    (gpu,) = read_xpu_smi(text)
    assert gpu.total_bytes.value == 14937952256
    assert gpu.kind.value is GpuKind.DISCRETE


def test_intel_graphics_of_the_processor_shares_the_ram() -> None:
    folder = "/sys/class/drm/card0/device"
    (gpu,) = read_intel_sysfs(
        {
            f"{folder}/vendor": "0x8086",
            f"{folder}/device": "0x46a6",
            f"{folder}/uevent": "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n",
        }
    )
    assert (gpu.unified.value, gpu.kind.value) == (True, GpuKind.INTEGRATED)
    assert gpu.driver.value == "i915"


def test_names_out_of_pci_ids() -> None:
    ids = (
        "# comment\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n"
        "\t15bf  Phoenix1\n\t744c  Navi 31 [Radeon RX 7900 XTX]\n\t\t1002 0e3b  Reference\n"
        "8086  Intel Corporation\n\t46a6  Alder Lake-P GT2 [Iris Xe Graphics]\n"
    )
    assert pci_name(ids, "1002", "744c") == "Navi 31 [Radeon RX 7900 XTX]"
    assert pci_name(ids, "8086", "46a6") == "Alder Lake-P GT2 [Iris Xe Graphics]"
    assert pci_name(ids, "8086", "744c") is None


# Macs ------------------------------------------------------------------------------------


def test_default_wired_limits_are_those_of_the_metal_logs() -> None:
    assert default_wired_limit(8 * GiB) == pytest.approx(5726.63e6, rel=1e-5)
    assert default_wired_limit(64 * GiB) == pytest.approx(51539.61e6, rel=1e-5)
    assert default_wired_limit(192 * GiB) == pytest.approx(154618.82e6, rel=1e-5)


def test_a_wired_limit_that_was_set_is_probed_and_zero_means_the_default() -> None:
    ram = str(16 * GiB)
    set_by_hand = gpu_limit({"hw.memsize": ram, "iogpu.wired_limit_mb": "14336"})
    assert (set_by_hand.value, set_by_hand.origin) == (14 * GiB, Origin.PROBED)
    default = gpu_limit({"hw.memsize": ram, "iogpu.wired_limit_mb": "0"})
    assert (default.value, default.origin) == (16 * GiB * 2 // 3, Origin.ASSUMED)


def test_metal_logs_of_before_2024_count_in_mebibytes() -> None:
    log = "ggml_metal_init: recommendedMaxWorkingSetSize  = {} MB\n"
    assert read_metal_log(log.format("49152.00"))[0].total_bytes.value == 48 * GiB
    assert read_metal_log(log.format("51539.61"))[0].total_bytes.value == 51_539_610_000


def test_sysctl_of_apple_silicon() -> None:
    cpu = read_sysctl_cpu(
        read_values(
            "machdep.cpu.brand_string: Apple M2 Pro\nhw.physicalcpu: 10\nhw.logicalcpu: 10\n"
            "hw.perflevel0.physicalcpu: 6\nhw.perflevel1.physicalcpu: 4\n"
            "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 1\n"
            "hw.optional.arm.FEAT_SME: 0\nhw.optional.AdvSIMD: 1\n"
        )
    )
    assert cpu.architecture.value == "arm64"
    assert (cpu.performance_cores.value, cpu.efficiency_cores.value) == (6, 4)
    assert cpu.instructions.value == ("neon", "dotprod", "i8mm")


def test_system_profiler_hardware() -> None:
    text = json.dumps({"SPHardwareDataType": [{
        "chip_type": "Apple M4", "machine_name": "MacBook Pro",
        "number_processors": "proc 10:4:6", "physical_memory": "16 GB"}]}, indent=2)  # fmt: skip
    cpu, memory, place = read_hardware(text)
    assert cpu.model.value == "Apple M4"
    assert (cpu.physical_cores.value, cpu.performance_cores.value) == (10, 4)
    assert memory.total_bytes.value == 16 * GiB
    assert place.board.value == "MacBook Pro"


def test_system_profiler_as_text() -> None:
    text = (
        "Graphics/Displays:\n\n    Intel Iris Pro:\n\n      Chipset Model: Intel Iris Pro\n"
        "      VRAM (Dynamic, Max): 1536 MB\n      Vendor: Intel\n\n"
        "    AMD Radeon R9 M370X:\n\n      Chipset Model: AMD Radeon R9 M370X\n"
        "      VRAM (Total): 2 GB\n      Vendor: AMD (0x1002)\n"
    )
    shared, own = read_displays(text)
    assert (shared.unified.value, shared.total_bytes.value) == (True, 1536 * MiB)
    assert (own.vendor, own.unified.value, own.total_bytes.value) == ("amd", False, 2 * GiB)


def test_vm_stat() -> None:
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:        1000.\nPages active:      9000.\nPages inactive:    2000.\n"
        "Pages speculative:  100.\n"
    )
    assert read_vm_stat(text).available_bytes.value == 3100 * 16384


# NPUs and places --------------------------------------------------------------------------


def test_npus_under_accel() -> None:
    folder = "/sys/class/accel/accel0/device"
    (npu,) = read_accel({f"{folder}/uevent": "DRIVER=intel_vpu\n", f"{folder}/device": "0x7d1d"})
    assert (npu.vendor, npu.name.value, npu.driver.value) == (
        "intel", "Intel NPU (AI Boost)", "intel_vpu",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "wsl"),
    [  # The strings are as these kernels are known to print them, not captured.
        ("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) (gcc ...)", "wsl2"),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc ...)", "wsl1"),
        ("Linux version 6.8.0-45-generic (buildd@lcy02-amd64-115) (gcc ...)", None),
    ],
)
def test_wsl(version: str, wsl: str | None) -> None:
    assert read_wsl(version).value == wsl


@pytest.mark.parametrize(
    ("files", "env", "kind"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": 'engine="podman-4.9.3"'}, {}, "podman"),
        ({"/.dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"/proc/1/cgroup": "0::/kubepods/besteffort/pod1"}, {}, "kubernetes"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"/proc/1/cgroup": "0::/init.scope"}, {}, None),
    ],
)
def test_containers(files: dict[str, str], env: dict[str, str], kind: str | None) -> None:
    assert read_container(files, env).value == kind


def test_notebooks() -> None:
    assert (
        read_notebook({"COLAB_RELEASE_TAG": "release-colab", "JPY_PARENT_PID": "1"}).value
        == "colab"
    )
    assert read_notebook({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}).value == "kaggle"
    assert read_notebook({}).value is None


def test_boards() -> None:
    jetson = {"/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"}
    assert read_board(jetson).value == "NVIDIA Jetson Orin Nano Developer Kit"
    # Revision c04170: memory 4 = 4 GiB, board 0x17 = 5 (Raspberry Pi documentation).
    assert read_pi("Hardware : BCM2835\nRevision : c04170\n").value == "Raspberry Pi 5, 4 GiB"
    laptop = {
        "/sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "/sys/class/dmi/id/product_name": "21K5\n",
    }
    assert read_board(laptop).value == "LENOVO 21K5"
