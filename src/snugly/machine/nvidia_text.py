"""NVIDIA GPUs out of what `nvidia-smi` prints for people: table, -L, --query-gpu CSV."""

import csv
import re
from dataclasses import replace

from snugly.machine.facts import blank, known, said, share, size, whole
from snugly.machine.nvidia import free_by_table, instance_of, pci_address, with_kind
from snugly.machine.types import Fact, Gpu, assumed, probed, unknown

# |   0  NVIDIA GeForce RTX 2080 ...    Off |   00000000:0C:00.0  On |                  N/A |
_TABLE_GPU = re.compile(
    r"^\|\s+(?P<index>\d{1,4})\s+(?P<name>\S.*?)\s+(?:On|Off|N/A|WDDM|TCC|MCDM|[-\[]\S*)?\s*\|"
    r"\s*(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f])\s"
)
# | 37%   40C    P8             37W /  250W |     214MiB /   8192MiB |      0%      Default |
_TABLE_USE = re.compile(
    r"^\|[^|]*\|\s*(?:(?P<used>\d{1,9})MiB\s*/\s*(?P<total>\d{1,9})MiB\s*|[^|]*)\|"
    r"\s*(?P<busy>\d{1,3}%|N/A|ERR!?)\s"
)
# |  0    2   0   0  |              26MiB / 40448MiB    | 60      0 |  3   0    3    0    3 |
_TABLE_MIG = re.compile(
    r"^\|\s+(?P<gpu>\d{1,4})\s+\d+\s+\d+\s+(?P<index>\d{1,3})\s*\|"
    r"\s*(?P<used>\d{1,9})MiB\s*/\s*(?P<total>\d{1,9})MiB\s*\|\s*(?P<cores>\d{1,4})"
)
_TABLE_HEAD = re.compile(r"(?:Driver|KMD) Version:\s*(\S+)(?:.*?CUDA(?: UMD)? Version:\s*(\S+))?")
_LIST_GPU = re.compile(r"^GPU (\d{1,4}): (.*?)(?: \(UUID: [^)]*\))?[ \t]*$")
_LIST_MIG = re.compile(r"^\s+MIG (\S+)\s+Device\s+(\d{1,3}):")

# What nvidia-smi says instead of an answer, and what it means for the person.
FAILURES = {
    "couldn't communicate with the NVIDIA driver": "the NVIDIA driver is not loaded",
    "No devices were found": "the driver sees no NVIDIA GPU",
    "Driver/library version mismatch": "driver and library differ in version; restart the machine",
    "Failed to initialize NVML": "the NVIDIA driver does not answer",
    "couldn't find libnvidia-ml": "the NVIDIA driver's library is not installed",
}


def failure(text: str) -> str | None:
    """The reason why nvidia-smi gave no answer, or None."""
    return next((why for words, why in FAILURES.items() if words in text), None)


def read_smi_table(text: str) -> tuple[Gpu, ...]:
    """GPUs and MIG instances of the table that plain `nvidia-smi` prints.

    The table cuts long names and leaves out what the driver reserves, so both are assumptions.
    """
    head = _TABLE_HEAD.search(text)
    gpus: list[Gpu] = []
    for line in text.splitlines():
        if row := _TABLE_GPU.match(line):
            gpus.append(_table_gpu(row.groupdict(), head))
        elif row := _TABLE_MIG.match(line):
            gpus += _table_instance(row.groupdict(), gpus)
        elif gpus and gpus[-1].utilization.how == _PENDING and (row := _TABLE_USE.match(line)):
            gpus[-1] = _table_use(gpus[-1], row.groupdict())
        elif gpus and re.search(r"\|\s+Enabled\s*\|\s*$", line):
            gpus[-1] = replace(gpus[-1], partitioned=probed(True, _TABLE))
    return tuple(gpus)


_TABLE = "nvidia-smi table"
_HEADINGS = {"name", "gpu_name", "index", "memory.total", "memory.free", "utilization.gpu"}
_PENDING = "nvidia-smi table: the line below the name is missing"


def _table_gpu(row: dict[str, str], head: re.Match[str] | None) -> Gpu:
    name: Fact[str] = probed(row["name"], _TABLE)
    if row["name"].endswith("..."):
        name = assumed(row["name"], "nvidia-smi table: it cuts long names")
    return with_kind(
        replace(
            blank(Gpu, f"{_TABLE} does not tell", vendor="nvidia", index=int(row["index"])),
            name=name,
            bus=known(pci_address(row["bus"]), _TABLE),
            driver=known(said(head[1]) if head else None, _TABLE),
            runtime=known(said(head[2]) if head else None, _TABLE),
            utilization=unknown(_PENDING),
        )
    )


def _table_use(gpu: Gpu, row: dict[str, str | None]) -> Gpu:
    total, used = size(row["total"], "mib"), size(row["used"], "mib")
    return replace(
        gpu,
        total_bytes=known(total, _TABLE),
        used_bytes=known(used, _TABLE),
        free_bytes=free_by_table(total, used, _TABLE),
        utilization=known(share(row["busy"]), _TABLE),
    )


def _table_instance(row: dict[str, str], gpus: list[Gpu]) -> list[Gpu]:
    index = int(row["gpu"])
    parent = next((gpu for gpu in gpus if gpu.index == index and not gpu.mig), None)
    if parent is None:
        return []
    total, used = size(row["total"], "mib"), size(row["used"], "mib")
    return [
        instance_of(
            parent,
            int(row["index"]),
            total=known(total, _TABLE),
            used=known(used, _TABLE),
            free=free_by_table(total, used, _TABLE),
            cores=known(whole(row["cores"]), f"{_TABLE}: multiprocessors"),
        )
    ]


def read_smi_list(text: str) -> tuple[Gpu, ...]:
    """GPUs and MIG profiles of `nvidia-smi -L`: names, whole and exact, and nothing else."""
    how = "nvidia-smi -L"
    gpus: list[Gpu] = []
    parent: Gpu | None = None
    for line in text.splitlines():
        if row := _LIST_GPU.match(line):
            parent = with_kind(
                replace(
                    blank(Gpu, f"{how} does not tell", vendor="nvidia", index=int(row[1])),
                    name=known(said(row[2]), how),
                )
            )
            gpus.append(parent)
        elif (row := _LIST_MIG.match(line)) and parent is not None:
            nothing: Fact[int] = unknown(f"{how} does not tell")
            place = gpus.index(parent)
            parent = gpus[place] = replace(parent, partitioned=probed(True, how))
            gpus.append(
                instance_of(parent, int(row[2]), nothing, nothing, nothing, nothing, row[1])
            )
    return tuple(gpus)


def read_smi_csv(text: str, command: str = "") -> tuple[Gpu, ...]:
    """GPUs of `nvidia-smi --query-gpu=... --format=csv`, any columns in any order.

    `command` is the command line, which names the columns when the output has no header.
    """
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(line for line in text.splitlines() if line.strip())
    ]
    asked = re.search(r"--query-gpu[= ](\S+)", command)
    columns = [name.lower() for name in asked[1].split(",")] if asked else []
    gpus: list[Gpu] = []
    for row in rows:
        names = [re.sub(r"\s*\[.*\]$", "", cell).lower() for cell in row]
        if _HEADINGS & set(names):
            # The list of processes is a CSV of other things, with GPU names in it too.
            columns = [] if "pid" in names else names
        elif columns and len(row) == len(columns):
            gpus.append(_csv_gpu(dict(zip(columns, row, strict=True)), len(gpus)))
    return tuple(gpus)


def _csv_gpu(row: dict[str, str], position: int) -> Gpu:
    how = "nvidia-smi --query-gpu"
    index = whole(row.get("index"))
    total, used = size(row.get("memory.total"), "mib"), size(row.get("memory.used"), "mib")
    free = size(row.get("memory.free"), "mib")
    mig = said(row.get("mig.mode.current"))
    return with_kind(
        replace(
            blank(
                Gpu,
                f"{how} was not asked, or did not tell",
                vendor="nvidia",
                index=position if index is None else index,
            ),
            name=known(said(row.get("name", row.get("gpu_name"))), how),
            total_bytes=known(total, how),
            used_bytes=known(used, how),
            free_bytes=free_by_table(total, used, how) if free is None else probed(free, how),
            utilization=known(share(row.get("utilization.gpu")), how),
            driver=known(said(row.get("kmd_version")) or said(row.get("driver_version")), how),
            compute_capability=known(said(row.get("compute_cap")), how),
            bus=known(pci_address(row.get("pci.bus_id")), how),
            partitioned=known(None if mig is None else mig.lower() == "enabled", how),
        )
    )
