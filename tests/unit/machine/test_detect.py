"""The whole detection: on this box, on boxes made of files, with tools missing or hanging."""

import time
from pathlib import Path

import pytest
from tests.unit.machine.probes import text
from tests.unit.machine.trees import fake_host, no_tools

from snugly.machine.captures import machine_from
from snugly.machine.detect import detect
from snugly.machine.disk import mounted_from, spins
from snugly.machine.facts import merge
from snugly.machine.host import Host, NoAnswer, Task, run_tool
from snugly.machine.types import Fact, GpuKind, Origin, Pool
from snugly.units import GiB, MiB


def test_this_box_tells_the_least_that_any_linux_tells(tmp_path: Path) -> None:
    machine = detect(tmp_path)
    assert (machine.cpu.logical_cores.value or 0) >= 1
    assert (
        0 < (machine.memory.available_bytes.value or 0) <= (machine.memory.total_bytes.value or 0)
    )
    assert (machine.disk.free_bytes.value or 0) > 0
    assert machine.platform.system.value is not None
    assert machine.cpu.load.origin is Origin.MEASURED
    usable = machine.cpu.usable_cores.value or 0.0
    assert 0 < usable <= (machine.cpu.logical_cores.value or 0)


def test_with_every_tool_missing_the_reasons_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    machine = detect(tmp_path)
    assert machine.cpu.logical_cores.value is not None
    reasons = " ".join(fact.how for fact in machine.missing)
    for tool in ("amd-smi", "rocm-smi", "xpu-smi"):
        assert f"{tool} is not installed" in reasons


def test_an_empty_root_gives_unknown_facts_and_no_error(tmp_path: Path) -> None:
    machine = detect(tmp_path, Host(root=tmp_path, run=no_tools, env={}, system="linux"))
    assert machine.cpu.model.value is None
    assert machine.memory.total_bytes.value is None
    assert machine.pools == (Pool("RAM", 0, 0),)
    assert "/proc/stat does not tell" in machine.cpu.load.how


def test_nvidia_smi_stands_in_for_nvml(tmp_path: Path) -> None:
    def run(tool: str, *args: str) -> str:
        if tool == "nvidia-smi" and args == ("-q", "-x"):
            return text("nvidia-smi-xml__rtx-3060-v12.xml")
        if tool == "nvidia-smi":
            return "index, pci.bus_id, compute_cap\n0, 00000000:2D:00.0, 8.6\n"
        raise NoAnswer(f"{tool} is not installed")

    machine = detect(tmp_path, Host(root=tmp_path, run=run, env={}, system="linux"))
    (gpu,) = machine.gpus
    assert gpu.free_bytes.value == 11806 * MiB
    assert gpu.compute_capability.value == "8.6"
    assert machine.pools[1] == Pool("GPU 0", 12288 * MiB, 11806 * MiB)


def test_a_gpu_that_shares_the_ram_has_no_more_free_than_the_ram(tmp_path: Path) -> None:
    folder = "/sys/class/drm/card0/device"
    host = fake_host(
        tmp_path,
        {
            f"{folder}/vendor": "0x1002\n",
            f"{folder}/device": "0x1586\n",
            f"{folder}/mem_info_vram_total": str(512 * MiB),
            f"{folder}/mem_info_vram_used": "0",
            f"{folder}/mem_info_gtt_total": str(120 * GiB),
            f"{folder}/mem_info_gtt_used": "0",
        },
    )
    machine = detect(tmp_path, host)
    (gpu,) = machine.gpus
    assert gpu.kind.value is GpuKind.INTEGRATED
    assert gpu.free_bytes.value == 12 * GiB  # what the RAM has available
    assert [pool.name for pool in machine.pools] == ["RAM"]


def test_the_format_of_gpu_metrics_tells_an_apu(tmp_path: Path) -> None:
    folder = "/sys/class/drm/card0/device"
    host = fake_host(tmp_path, {f"{folder}/vendor": "0x1002\n", f"{folder}/device": "0x9999\n"})
    metrics = tmp_path / folder.lstrip("/") / "gpu_metrics"
    metrics.write_bytes(bytes([0x80, 0x00, 2, 1]) + bytes(60))
    assert detect(tmp_path, host).gpus[0].unified.value is True


def test_two_makers_have_pools_with_different_names(tmp_path: Path) -> None:
    from snugly.machine.captures import read_capture

    nvidia = read_capture(text("nvidia-smi-xml__tesla-t4.xml"))
    amd = read_capture(text("rocm-smi-json__rx6700xt_rocm612.json"))
    names = [pool.name for pool in machine_from([nvidia, amd]).pools]
    assert names == ["RAM", "GPU 0 amd", "GPU 0 nvidia"]


def test_a_tool_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snugly.machine.host.TOOL_SECONDS", 0.1)
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match="sleep did not answer"):
        run_tool("sleep", "5")
    assert time.monotonic() - begun < 2


def test_a_library_that_hangs_is_left_behind() -> None:
    task: Task[None] = Task("the driver", lambda: time.sleep(1))
    with pytest.raises(NoAnswer, match="the driver did not answer"):
        task.result(0.05)


def test_a_tool_that_fails_says_so() -> None:
    with pytest.raises(NoAnswer, match="false failed with exit code 1"):
        run_tool("false")
    with pytest.raises(NoAnswer, match="no-such-tool is not installed"):
        run_tool("no-such-tool")


def test_the_surer_fact_wins_then_the_first() -> None:
    machine = machine_from([])
    sure: Fact[str] = Fact("sure", Origin.PROBED, "a")
    guess: Fact[str] = Fact("guess", Origin.ASSUMED, "b")
    from dataclasses import replace

    one, other = replace(machine.cpu, model=guess), replace(machine.cpu, model=sure)
    assert merge(one, other).model == sure
    assert merge(other, one).model == sure


# Disks -----------------------------------------------------------------------------------


def block(root: Path, name: str, flag: str, number: str, *partitions: tuple[str, str]) -> None:
    """A disk in /sys/devices with its links in /sys/dev/block, as the kernel makes them."""
    disk = root / "sys/devices/pci/block" / name
    (disk / "queue").mkdir(parents=True)
    (disk / "queue/rotational").write_text(flag)
    links = root / "sys/dev/block"
    links.mkdir(parents=True, exist_ok=True)
    (links / number).symlink_to(disk)
    for part, part_number in partitions:
        (disk / part).mkdir()
        (links / part_number).symlink_to(disk / part)


def test_a_partition_asks_its_disk(tmp_path: Path) -> None:
    block(tmp_path, "sda", "1\n", "8:0", ("sda1", "8:1"))
    block(tmp_path, "nvme0n1", "0\n", "259:0", ("nvme0n1p1", "259:1"))
    host = Host(root=tmp_path, run=no_tools, env={}, system="linux")
    assert spins(host, 8, 1, Path("/")).value is True
    assert spins(host, 259, 1, Path("/")).value is False


def test_a_mapped_device_asks_the_disks_below(tmp_path: Path) -> None:
    block(tmp_path, "sda", "1\n", "8:0", ("sda1", "8:1"))
    mapped = tmp_path / "sys/devices/virtual/block/dm-0"
    (mapped / "slaves").mkdir(parents=True)
    (mapped / "queue").mkdir()
    (mapped / "queue/rotational").write_text("0\n")  # device mapper's own flag says nothing
    (mapped / "slaves/sda1").symlink_to(tmp_path / "sys/devices/pci/block/sda/sda1")
    (tmp_path / "sys/dev/block/253:0").symlink_to(mapped)
    host = Host(root=tmp_path, run=no_tools, env={}, system="linux")
    assert spins(host, 253, 0, Path("/")).value is True


def test_a_virtual_disk_does_not_tell(tmp_path: Path) -> None:
    block(tmp_path, "vda", "1\n", "254:0")
    host = Host(root=tmp_path, run=no_tools, env={}, system="linux")
    assert spins(host, 254, 0, Path("/")).how == "vda is a virtual disk"


def test_a_file_system_without_a_device_number_is_found_by_its_mount() -> None:
    mounts = (
        "21 1 0:30 /@ / rw - btrfs /dev/nvme0n1p2 rw\n"
        "22 21 0:31 /@home /home rw - btrfs /dev/sda1 rw\n"
    )
    assert mounted_from(mounts, "/home/me/models") == "sda1"
    assert mounted_from(mounts, "/homestead") == "nvme0n1p2"
    assert mounted_from("21 1 0:30 / / rw - overlay overlay rw\n", "/x") is None
