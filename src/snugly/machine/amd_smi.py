"""AMD GPUs out of `amd-smi static` and `amd-smi metric`, as text and as JSON.

amd-smi writes MB for 1024*1024 bytes (amdsmi_interface divides by 1024**2).
"""

import re
from dataclasses import replace
from typing import Any

from snugly.machine.amd import is_apu, with_memory
from snugly.machine.facts import blank, known, share, size, whole
from snugly.machine.jsontext import read_json
from snugly.machine.nvidia import pci_address
from snugly.machine.tree import Node, read_indented, snake
from snugly.machine.types import Gpu


def read_amd_smi(text: str) -> tuple[Gpu, ...]:
    """GPUs of `amd-smi static`, `metric` or `list`, in text form or with --json.

    Raises: ValueError for JSON of which nothing can be read.
    """
    start = re.search(r"^[ \t]*[\[{]", text, re.MULTILINE)
    if start is None:
        tree = read_indented(text, ": ")
        return tuple(_gpu(node, place) for place, node in enumerate(_gpu_nodes(tree)))
    data, _ = read_json(text[start.end() - 1 :], "amd-smi")
    # ROCm 7 wraps the list: {"gpu_data": [...]}.
    entries = data.get("gpu_data", [data]) if isinstance(data, dict) else data
    entries = entries if isinstance(entries, list) else [entries]
    return tuple(
        _gpu(_from_json("gpu", entry, 0), place)
        for place, entry in enumerate(e for e in entries if isinstance(e, dict) and "gpu" in e)
    )


def _gpu_nodes(tree: Node) -> list[Node]:
    """The blocks headed "GPU: 0"."""
    return [node for node in tree.all("gpu") if node.children]


def _from_json(key: str, value: Any, depth: int) -> Node:
    """A JSON value as a tree; {"value": 1, "unit": "MB"} is the text "1 MB"."""
    if isinstance(value, dict) and set(value) == {"value", "unit"}:
        return Node(snake(key), f"{value['value']} {value['unit']}")
    if isinstance(value, dict) and depth < 20:
        node = Node(snake(key), str(value.get("gpu", "")))
        node.children = [_from_json(k, v, depth + 1) for k, v in value.items()]
        return node
    return Node(snake(key), str(value))


def _gpu(node: Node, place: int) -> Gpu:
    how = "amd-smi"
    index = whole(node.text)
    name = node.first(("asic", "market_name"), ("board", "product_name"))
    device = node.told("asic", "device_id")
    gfx = node.first(("asic", "target_graphics_version"), ("asic", "gfx_version"))
    usage = node.at("mem_usage") or node.at("fb_memory_usage") or Node("")
    vram = node.first(
        ("vram", "size"), ("vram", "vram_size"), ("vram", "vram_size_mb")
    ) or usage.told("total_vram")
    gpu = replace(
        blank(Gpu, f"{how} does not tell", vendor="amd", index=place if index is None else index),
        name=known(name, how),
        driver=known(node.first(("driver", "version"), ("driver", "driver_version")), how),
        bus=known(pci_address(node.first(("bus", "bdf"), ("bdf",))), how),
        architecture=known(gfx, how),
        cores=known(whole(node.told("asic", "num_compute_units")), how),
        carveout_bytes=known(size(vram, "mb"), how),
        gtt_bytes=known(size(usage.told("total_gtt"), "mb"), how),
        utilization=known(share(node.told("usage", "gfx_activity")), how),
    )
    number = int(device, 16) if device and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", device) else None
    shares = is_apu(name, gfx, number)
    gpu = with_memory(
        gpu, shares, size(usage.told("used_vram"), "mb"), size(usage.told("used_gtt"), "mb")
    )
    if shares and node.told("vram", "type") == "HBM":
        # MI300A: the memory on the package is the RAM and the VRAM at once, nothing is set
        # aside, and what amd-smi calls VRAM is what this GPU may allocate.
        return replace(gpu, total_bytes=gpu.carveout_bytes)
    return gpu
