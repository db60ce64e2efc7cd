"""What a control group leaves us, on trees of files written by hand."""

from pathlib import Path

import pytest
from tests.unit.machine.trees import fake_host, write_tree

from snugly.machine.cgroup import cpu_quota, memory_limits
from snugly.machine.detect import detect
from snugly.machine.host import Host
from snugly.units import GiB, MiB

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)
NO_LIMIT_V1 = "9223372036854771712\n"  # 2**63 - 4096, rounded to a page


def v2(tmp_path: Path, **groups: dict[str, str]) -> Host:
    """/sys/fs/cgroup/user/job, our own group `job`; keyword `top` is the root's files."""
    tree = {"/proc/self/cgroup": "0::/user/job\n", "/proc/self/mountinfo": V2_MOUNT}
    folders = {"top": "", "user": "/user", "job": "/user/job"}
    for name, files in groups.items():
        tree |= {f"/sys/fs/cgroup{folders[name]}/{file}": text for file, text in files.items()}
    return fake_host(tmp_path, tree)


def test_v2_room_is_limit_less_use_with_page_cache_given_back(tmp_path: Path) -> None:
    host = v2(
        tmp_path,
        job={
            "memory.max": f"{4 * GiB}\n",
            "memory.current": f"{3 * GiB}\n",
            "memory.stat": f"anon {2 * GiB}\nfile {GiB}\ninactive_file {512 * MiB}\n",
        },
    )
    memory = detect(tmp_path, host).memory
    assert memory.total_bytes.value == 4 * GiB
    assert memory.cgroup_limit_bytes.value == 4 * GiB
    # The machine has 12 GiB available; the group 4 - 3 + 0.5.
    assert memory.available_bytes.value == 1 * GiB + 512 * MiB


def test_v2_max_means_no_limit(tmp_path: Path) -> None:
    host = v2(tmp_path, job={"memory.max": "max\n", "memory.current": "1000\n"})
    memory = detect(tmp_path, host).memory
    assert memory.total_bytes.value == 16 * GiB
    assert memory.cgroup_limit_bytes.value is None
    assert memory.cgroup_limit_bytes.how == "the control groups set no memory limit"


def test_v2_the_tightest_of_nested_groups_counts_for_each(tmp_path: Path) -> None:
    host = v2(
        tmp_path,
        user={"memory.max": f"{8 * GiB}\n", "memory.current": f"{7 * GiB}\n"},
        job={"memory.max": f"{4 * GiB}\n", "memory.current": f"{1 * GiB}\n"},
    )
    memory = detect(tmp_path, host).memory
    assert memory.cgroup_limit_bytes.value == 4 * GiB  # our own is the smaller limit
    assert memory.available_bytes.value == 1 * GiB  # but the group above has less room


def test_v2_memory_high_counts_as_a_limit(tmp_path: Path) -> None:
    host = v2(tmp_path, job={"memory.max": "max\n", "memory.high": f"{2 * GiB}\n"})
    assert detect(tmp_path, host).memory.total_bytes.value == 2 * GiB


def test_v1_limit_and_the_huge_number_that_means_none(tmp_path: Path) -> None:
    tree = {
        "/proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        "/proc/self/mountinfo": V1_MOUNTS,
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{2 * GiB}\n",
        "/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{1 * GiB}\n",
        "/sys/fs/cgroup/memory/docker/abc/memory.stat": (
            f"cache {900 * MiB}\ninactive_file 0\nhierarchical_memory_limit {2 * GiB}\n"
            f"total_inactive_file {256 * MiB}\n"
        ),
    }
    memory = detect(tmp_path, fake_host(tmp_path, tree)).memory
    assert memory.total_bytes.value == 2 * GiB
    assert memory.available_bytes.value == 1 * GiB + 256 * MiB


def test_v1_without_limit(tmp_path: Path) -> None:
    tree = {
        "/proc/self/cgroup": "4:memory:/\n",
        "/proc/self/mountinfo": V1_MOUNTS,
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
    }
    assert detect(tmp_path, fake_host(tmp_path, tree)).memory.total_bytes.value == 16 * GiB


def test_v1_in_a_container_sees_its_group_as_the_mount_point(tmp_path: Path) -> None:
    tree = {
        "/proc/self/cgroup": "4:memory:/docker/abc\n",
        "/proc/self/mountinfo": (
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        ),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GiB}\n",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
    }
    groups, _ = memory_limits(fake_host(tmp_path, tree).read)
    assert [group.limit for group in groups] == [3 * GiB]


def test_a_limit_above_the_machines_memory_limits_nothing(tmp_path: Path) -> None:
    host = v2(tmp_path, job={"memory.max": f"{64 * GiB}\n", "memory.current": "0\n"})
    memory = detect(tmp_path, host).memory
    assert memory.total_bytes.value == 16 * GiB
    assert memory.cgroup_limit_bytes.value is None


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", None)])
def test_v2_cpu_quota(tmp_path: Path, text: str, cores: float | None) -> None:
    quota = cpu_quota(v2(tmp_path, job={"cpu.max": text}).read)
    assert (quota[0] if quota else None) == cores


def test_v1_cpu_quota_and_minus_one(tmp_path: Path) -> None:
    tree = {
        "/proc/self/cgroup": "3:cpu,cpuacct:/job\n",
        "/proc/self/mountinfo": V1_MOUNTS,
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
        "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    }
    host = fake_host(tmp_path, tree)
    assert cpu_quota(host.read) == (2.5, "cgroup /sys/fs/cgroup/cpu,cpuacct/job")
    assert detect(tmp_path, host).cpu.usable_cores.value == 2.5


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    write_tree(tmp_path, {"/proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"})
    assert memory_limits(Host(root=tmp_path).read) == ([], "no control groups are mounted")
