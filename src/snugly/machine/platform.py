"""The system we are in: name, WSL, container, notebook, board. Pure readers of small files."""

import re
from collections.abc import Mapping

from snugly.machine.facts import known, said
from snugly.machine.types import Fact, probed, unknown

# Board codes in a Raspberry Pi's revision. Source: raspberrypi.com documentation, "New-style
# revision codes": bits 4-11 the board, 20-22 the memory (256 MiB << n), bit 23 new style.
_PI_BOARDS = {
    0x00: "A", 0x01: "B", 0x02: "A+", 0x03: "B+", 0x04: "2B", 0x06: "Compute Module 1",
    0x08: "3B", 0x09: "Zero", 0x0A: "Compute Module 3", 0x0C: "Zero W", 0x0D: "3B+",
    0x0E: "3A+", 0x10: "Compute Module 3+", 0x11: "4B", 0x12: "Zero 2 W", 0x13: "400",
    0x14: "Compute Module 4", 0x15: "Compute Module 4S", 0x17: "5", 0x18: "Compute Module 5",
    0x19: "500", 0x1A: "Compute Module 5 Lite",
}  # fmt: skip


def read_os_release(text: str) -> str | None:
    """The distribution's name for people, out of /etc/os-release."""
    told = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    return next(
        (n for k in ("PRETTY_NAME", "NAME") if (n := said(told.get(k, "").strip("\"' ")))), None
    )


def read_wsl(version: str) -> Fact[str]:
    """Windows Subsystem for Linux, out of /proc/version.

    WSL 2 kernels are called "...-microsoft-standard-WSL2", WSL 1 says "...-Microsoft".
    """
    how = "/proc/version"
    if re.search(r"microsoft-standard|WSL2", version, re.IGNORECASE):
        return probed("wsl2", how)
    if "microsoft" in version.lower():
        return probed("wsl1", how)
    return unknown("not in WSL: /proc/version does not name Microsoft")


_CGROUP_SIGNS = (
    ("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("/lxc", "lxc"),
    ("containerd", "containerd"), ("garden", "garden"),
)  # fmt: skip


def read_container(files: Mapping[str, str], env: Mapping[str, str]) -> Fact[str]:
    """The container we are in, from the traces that each kind leaves."""
    if "KUBERNETES_SERVICE_HOST" in env:
        return probed("kubernetes", "environment KUBERNETES_SERVICE_HOST")
    if "/run/.containerenv" in files:
        return probed("podman", "/run/.containerenv")
    if "/.dockerenv" in files:
        return probed("docker", "/.dockerenv")
    group = files.get("/proc/1/cgroup", "") + files.get("/proc/self/cgroup", "")
    for sign, name in _CGROUP_SIGNS:
        if sign in group:
            return probed(name, "/proc/1/cgroup")
    for path in ("/run/systemd/container", "/run/host/container-manager"):
        if manager := said(files.get(path)):
            return probed(manager, path)
    if manager := said(env.get("container")):
        return probed(manager, "environment container")
    return unknown("no container left a trace")


def read_notebook(env: Mapping[str, str]) -> Fact[str]:
    """Colab, Kaggle or Jupyter, from the environment."""
    signs = (
        ("COLAB_RELEASE_TAG", "colab"), ("COLAB_GPU", "colab"),
        ("KAGGLE_KERNEL_RUN_TYPE", "kaggle"), ("JPY_PARENT_PID", "jupyter"),
        ("JPY_SESSION_NAME", "jupyter"), ("JUPYTERHUB_USER", "jupyter"),
    )  # fmt: skip
    for variable, name in signs:
        if variable in env:
            return probed(name, f"environment {variable}")
    return unknown("the environment names no notebook")


def read_board(files: Mapping[str, str]) -> Fact[str]:
    """The board's or computer's name: device tree, /proc/cpuinfo of a Raspberry Pi, DMI."""
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"):
        if model := said(files.get(path, "").strip("\0 \n")):
            return probed(model, path)
    board = read_pi(files.get("/proc/cpuinfo", ""))
    if board.value is not None:
        return board
    vendor = said(files.get("/sys/class/dmi/id/sys_vendor"))
    product = said(files.get("/sys/class/dmi/id/product_name"))
    words = [word for word in (vendor, product) if word and "O.E.M." not in word]
    return known(" ".join(words) or None, "/sys/class/dmi/id", "neither device tree nor DMI tells")


def read_pi(cpuinfo: str) -> Fact[str]:
    """A Raspberry Pi's name and memory, out of the lines Model and Revision of cpuinfo."""
    model = re.search(r"^Model[ \t]*:[ \t]*(\S.*)$", cpuinfo, re.MULTILINE)
    if model:
        return probed(model[1].strip(), "/proc/cpuinfo: Model")
    revision = re.search(r"^Revision[ \t]*:[ \t]*([0-9a-fA-F]{4,8})[ \t]*$", cpuinfo, re.MULTILINE)
    hardware = re.search(r"^Hardware[ \t]*:[ \t]*(\S.*)$", cpuinfo, re.MULTILINE)
    code = int(revision[1], 16) if revision else 0
    if not code >> 23 & 1 or not hardware or not hardware[1].startswith("BCM"):
        return known(hardware[1].strip() if hardware else None, "/proc/cpuinfo: Hardware")
    board = _PI_BOARDS.get(code >> 4 & 0xFF, f"type {code >> 4 & 0xFF:#x}")
    memory = 256 << (code >> 20 & 7)
    amount = f"{memory // 1024} GiB" if memory >= 1024 else f"{memory} MiB"
    return probed(f"Raspberry Pi {board}, {amount}", "/proc/cpuinfo: Revision")
