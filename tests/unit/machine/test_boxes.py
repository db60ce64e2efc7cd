"""Boxes by name: each part understood, or refused with a name that is near."""

import csv
from dataclasses import fields
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.machine.probes import machine

from snugly.errors import UserError
from snugly.machine.boxes import DESKTOP, LAPTOP, OLD_LAPTOP, SERVER, box, box_of, known
from snugly.machine.boxes_parts import FLOPS_PER_BYTE, READINGS_PER_S
from snugly.machine.sheets_cpus import model_of
from snugly.machine.sheets_gpus import sheets
from snugly.machine.types import Fact, Machine, Origin
from snugly.units import GiB, MiB

DEVICES = list(
    csv.DictReader(
        (Path(__file__).parents[2] / "golden/boxes/devices.csv").read_text("utf-8").splitlines()
    )
)
# What no table has, for a reason.
REFUSED = {
    "Apple Max (generation not stated) 128GB",
    "DC-ROMA Mainboard II (8-core RISC-V)",  # its memory is not published
}


def gib(count: int | None) -> float:
    return (count or 0) / GiB


def as_named(device: dict[str, str]) -> str:
    """The label; for cards with the memory of one that the collection tells beside it."""
    label = device["device"]
    if not device["vram_gib"] or "NVIDIA" not in label:
        return label
    count = int(label.split("x ")[0]) if "x NVIDIA" in label else 1
    return f"{label} {float(device['vram_gib']) / count:g}GB"


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: f"{d['device']} {d['vram_gib']}")
def test_how_people_call_their_machines(device: dict[str, str]) -> None:
    if device["device"] in REFUSED:
        with pytest.raises(UserError):
            box(device["device"])
        return
    found = box(as_named(device))
    rate = (found.gpus[0] if found.gpus else found.cpu).bandwidth_bytes_per_s
    assert rate.value is not None
    if device["mem_bandwidth_gbs"]:
        told = float(device["mem_bandwidth_gbs"]) * 1e9
        assert rate.value == pytest.approx(told, rel=0.005)


# text, GPUs with GiB and GB/s, RAM in GiB, GB/s of the RAM
@pytest.mark.parametrize(
    ("text", "gpus", "ram", "bandwidth"),
    [
        ("rtx 4060 ti 16gb", [(16, 288)], 32, 51.2),
        ("rtx 4060", [(8, 272)], 32, 51.2),
        ("2x rtx 3090", [(24, 936), (24, 936)], 48, 51.2),
        ("rtx 3090 + rtx 3060", [(24, 936), (12, 360)], 36, 51.2),
        ("rtx 4090, 64gb ram", [(24, 1008)], 64, 51.2),
        ("h100 80gb", [(80, 2040)], 80, 204.8),
        ("a100 80gb sxm", [(80, 2039)], 80, 204.8),
        ("8x h200", [(141, 4800)] * 8, 1128, 204.8),
        ("mi300x", [(192, 5300)], 192, 204.8),
        ("l4", [(22.5, 300)], 64, 204.8),
        ("colab t4", [(15, 320)], 12.7, None),
        ("kaggle 2x t4", [(15, 320), (15, 320)], 30, None),
        ("m3 max 64gb", [(48, 400)], 64, 400),
        ("m4 pro 48gb", [(36, 273)], 48, 273),
        ("16gb macbook air m2", [(32 / 3, 100)], 16, 100),
        ("raspberry pi 5 8gb", [], 8, 17.1),
        ("dgx spark", [(128, 273)], 128, 273),
        ("jetson orin nano 8gb", [(8, 68)], 8, 68),
        ("ryzen 7 5800x 32gb", [], 32, 51.2),
        ("i7 12700k + rtx 3060 12gb, 64 GB DDR5", [(32, 76.8), (12, 360)], 64, 76.8),
        ("strix halo 128gb", [(64, 256)], 128, 256),
        ("core ultra 7 258v 32gb", [(16, 136.5)], 32, 136.5),
        ("gaming laptop with rtx 4070 and 16gb ram", [(8, 256)], 16, 51.2),
        ("8gb laptop", [], 8, 38.4),
        ("intel n100 mini pc 16gb", [], 16, 25.6),
        ("dual xeon e5-2680 v4 128gb", [], 128, 153.6),
        ("7900 xtx", [(24, 960)], 32, 51.2),  # and no Ryzen 9 7900
        ("ryzen 9 7900 64gb", [], 64, 83.2),
        ("Arc B580", [(12, 456)], 32, 51.2),
        ("rtx 2080 ti 22gb", [(22, 616)], 32, 51.2),  # doubled by hand, and sold so
        ("dual rtx a6000", [(48, 768), (48, 768)], 96, 51.2),
        ("2 rtx 3090", [(24, 936), (24, 936)], 48, 51.2),
        ("NVIDIA RTX PRO 4500", [(32, 896)], 32, 51.2),
        ("iPhone 16 Pro (A18 Pro)", [], 8, 60),
        ("EPYC 9554P 384GB", [], 384, 460.8),
    ],
)
def test_parts_of_a_box(
    text: str, gpus: list[tuple[float, float]], ram: float, bandwidth: float | None
) -> None:
    found = box(text)
    sizes = [gib(gpu.total_bytes.value) for gpu in found.gpus]
    rates = [gpu.bandwidth_bytes_per_s.or_else(0.0) / 1e9 for gpu in found.gpus]
    assert sizes == pytest.approx([size for size, _ in gpus])
    assert rates == pytest.approx([told for _, told in gpus], rel=0.01)
    assert gib(found.memory.total_bytes.value) == pytest.approx(ram)
    rate = found.cpu.bandwidth_bytes_per_s.value
    assert rate == (None if bandwidth is None else pytest.approx(bandwidth * 1e9, rel=0.01))


def test_what_was_decided_is_said() -> None:
    said = " ".join(fact.how for fact in box("rtx 4060 ti").missing)
    assert "taken to have 8 GB" in said
    assert "16 GB" in said
    assert "RAM was not named: 32 GB" in said
    assert "Ryzen 5 5600" in said
    assert "20 exist too" in " ".join(fact.how for fact in box("m4 pro 48gb").missing)
    assert "least of its kind" in " ".join(fact.how for fact in box("i5-13420h 16gb").missing)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("rtx 4060 ti super", "rtx 4060 ti"),
        ("rtx 3090 12gb", "24 GB"),
        ("rtx 4090 64gb", "24 GB"),  # `ram` is missing
        ("rtx 3090 laptop", "laptop"),
        ("macbook pro 16gb", "chip"),
        ("apple max 128gb", "chip"),
        ("7900 super", "7900 super"),
        ("quantum 9000", "--ram"),
        ("4000", "--ram"),
        ("rtx", "rtx"),
        ("ryzen 7 5800x + rtx 9999", "rtx 9999"),
        ("ryzen 7 5800x 0gb", "0 GB"),
        ("12gb gpu", "--vram"),
        ("", "empty"),
        ("   ", "empty"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, word: str) -> None:
    with pytest.raises(UserError) as caught:
        box(text)
    assert word in str(caught.value)
    assert caught.value.remedy


def facts(found: Machine) -> list[Fact[object]]:
    parts: tuple[Any, ...] = (found.cpu, found.memory, *found.gpus, found.platform, found.disk)
    values = [getattr(part, field.name) for part in parts for field in fields(part)]
    return [value for value in values if isinstance(value, Fact)]


@pytest.mark.parametrize("text", ["2x rtx 3090", "m3 max 64gb", "pi 5 8gb", "strix halo", "l4"])
def test_nothing_is_probed_and_free_is_less_than_there_is(text: str) -> None:
    found = box(text)
    assert {fact.origin for fact in facts(found)} <= {Origin.ASSUMED, Origin.UNKNOWN}
    for pool in found.pools:
        assert 0 < pool.free_bytes < pool.total_bytes


SMI, LINUX = "nvidia-smi-xml__", "nvidia-smi__linux-x86_64_nvidia-"


@pytest.mark.parametrize(
    ("text", "capture", "desktop"),  # a box, and the capture of one at rest
    [
        ("rtx 3060 12gb", f"{SMI}rtx-3060-v12.xml", True),
        ("rtx 2080 super", f"{LINUX}geforce-rtx-2080-super_595.71.05.txt", True),
        (
            "rtx 2080 super",
            "nvidia-smi__windows-x86_64_nvidia-geforce-rtx-2080-super_610.62.txt",
            True,
        ),
        ("rtx 4080 super", f"{LINUX}geforce-rtx-4080-super_595.71.05.txt", True),
        ("a10g", f"{SMI}a10g.xml", False),
        ("l40s", f"{LINUX}l40s_595.80.txt", False),
        ("h100 80gb", f"{LINUX}h100-mig_590.48.01.txt", False),
        ("a100 80gb", f"{SMI}a100-sxm4-v12.xml", False),
    ],
)
def test_free_memory_of_a_gpu_is_what_captures_show_or_less(
    text: str, capture: str, desktop: bool
) -> None:
    ours, real = box(text).gpus[0], machine(capture).gpus[0]
    assert ours.free_bytes.or_else(0) <= real.free_bytes.or_else(0)
    assert ours.free_bytes.or_else(0) >= real.free_bytes.or_else(0) - 700 * MiB
    assert ours.total_bytes.or_else(0) == pytest.approx(real.total_bytes.or_else(0), rel=0.01)
    assert desktop is ("desktop" in ours.free_bytes.how)


def test_apples_gpu_may_wire_what_metal_told() -> None:
    for text, capture in (
        ("m1 8gb", "metal-init__apple-m1-8gb.txt"),
        ("m1 max 64gb", "metal-init__apple-m1-max-64gb.txt"),
        ("m2 ultra 192gb", "metal-init__apple-m2-ultra-192gb.txt"),
    ):
        real = machine(capture).gpus[0].total_bytes.or_else(0)
        assert box(text).gpus[0].total_bytes.value == pytest.approx(real, rel=1e-5)


@settings(deadline=None)
@given(st.integers(1, 512), st.integers(0, 64))
def test_more_ram_never_leaves_less(ram: int, more: int) -> None:
    less, rest = (box(f"ryzen 7 5800x {n}gb").ram for n in (ram, ram + more))
    assert less.free_bytes <= rest.free_bytes


words = st.sampled_from(
    "rtx gtx rx 3090 4090 4060 ti super 16gb 8gb ram 2x m2 max pro apple ryzen 7 5800x i7 laptop"
    " with + , x2 gpu arc 770 a770 xeon pi 5 jetson 64 tb 1tb geforce 128gb colab t4".split()
)


def refusal(text: str) -> UserError | None:
    try:
        assert box(text).ram.total_bytes > 0
    except UserError as error:
        return error
    return None


@settings(deadline=None)
@given(st.lists(words, max_size=7).map(" ".join))
def test_any_words_give_a_box_or_a_refusal(text: str) -> None:
    error = refusal(text)
    assert error is None or error.remedy


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_a_box_or_a_refusal(text: str) -> None:
    error = refusal(text)
    assert error is None or error.problem


def test_a_box_by_figures() -> None:
    found = box_of(32 * GiB, (12 * GiB, 12 * GiB), 360e9)
    assert [pool.total_bytes for pool in found.pools] == [32 * GiB, 12 * GiB, 12 * GiB]
    assert found.gpus[0].bandwidth_bytes_per_s.value == 360e9
    assert found.cpu.bandwidth_bytes_per_s.value is None
    assert box_of(16 * GiB, (), 40e9).cpu.bandwidth_bytes_per_s.value == 40e9
    with pytest.raises(UserError, match="above zero"):
        box_of(0)


def test_a_card_by_figures_is_one_of_the_slower_ones() -> None:
    """Against the table: of cards of 4 GiB and more since 2016 three in four are better."""
    cards = [
        row
        for row in sheets()
        if row.kind == "card"
        and row.since >= "2016"
        and row.memory_bytes >= 4 * GiB
        and row.bandwidth_bytes_per_s
        and row.f16_flops
    ]
    assert len(cards) > 300
    flops = quantiles((row.f16_flops / row.bandwidth_bytes_per_s for row in cards), n=4)
    reads = quantiles((row.bandwidth_bytes_per_s / row.memory_bytes for row in cards), n=4)
    assert flops[0] == pytest.approx(FLOPS_PER_BYTE, rel=0.05)
    assert reads[0] == pytest.approx(READINGS_PER_S, rel=0.05)
    guessed = box_of(32 * GiB, (12 * GiB,))
    assert guessed.gpus[0].bandwidth_bytes_per_s.value == 12 * GiB * READINGS_PER_S
    assert "bandwidth of GPU 0 was not told" in guessed.missing[0].how
    assert not box_of(32 * GiB, (12 * GiB,), 360e9).missing


def test_figures_are_near_the_box_that_they_describe() -> None:
    by_name, by_figures = box("rtx 3060 12gb"), box_of(32 * GiB, (12 * GiB,), 360e9)
    told, guessed = (made.gpus[0].f16_flops.or_else(0.0) for made in (by_name, by_figures))
    assert told / 6 < guessed <= told


@pytest.mark.parametrize(
    "text",
    [
        "ryzen 5 3600 16gb ram rx 6600",
        "ryzen 5 3600 rx 6600 16gb ram",
        "ryzen 5 3600 rx 6600 8gb, 16gb",
        "16gb ddr4 ryzen 5 3600 rx 6600 8gb",
    ],
)
def test_ram_that_was_named_beside_a_processor_and_a_card_counts(text: str) -> None:
    found = box(text)
    assert [pool.total_bytes for pool in found.pools] == [16 * GiB, 8 * GiB]
    assert not any("RAM was not named" in fact.how for fact in found.missing)


def test_names_for_completion() -> None:
    assert known("4060 ti") == ("rtx 4060 ti 16gb", "rtx 4060 ti 8gb")
    assert "m3 max 64gb" in known("m3 max")
    assert len(known()) > 1000


def test_known_names_are_boxes() -> None:
    # Every third: all of them take four seconds, and were fine on 2026-11-20.
    assert [name for name in known()[::3] if refusal(name)] == []


def test_the_hosts_that_are_assumed_are_in_the_tables() -> None:
    for name in (DESKTOP, LAPTOP, OLD_LAPTOP, SERVER):
        model = model_of(name)
        assert model is not None
        assert model.name == name


@pytest.mark.parametrize(
    ("text", "count", "card"),
    [
        ("3090x2", 2, "RTX 3090"), ("2x3090", 2, "RTX 3090"), ("2x 3090", 2, "RTX 3090"),
        ("rtx3090x2", 2, "RTX 3090"), ("3090*2", 2, "RTX 3090"), ("x2 3090", 2, "RTX 3090"),
        ("h100x8", 8, "H100"), ("2x4060ti 16gb", 2, "4060 Ti 16 GB"), ("p40x3", 3, "P40"),
        ("radeon r9 290x2", 1, "290X2"), ("rtx4090x4 128gb ram", 4, "RTX 4090"),
    ],
)  # fmt: skip
def test_counts_written_onto_a_cards_name(text: str, count: int, card: str) -> None:
    names = [gpu.name.or_else("") for gpu in box(text).gpus]
    assert len(names) == count
    assert all(card in name for name in names)


@pytest.mark.parametrize(
    ("text", "processor"),
    [
        ("i3-10100", "Core i3-10100"), ("i3 12100f", "Core i3-12100"),
        ("core i3 8100", "Core i3-8100"), ("rpi5 8gb", "Cortex-A76"), ("rpi 5", "Cortex-A76"),
        ("raspi 4 4gb", "Cortex-A72"), ("raspberrypi5 8gb", "Cortex-A76"),
        ("rpi 4b 8gb", "Cortex-A72"), ("raspberry pi 3b+", "Cortex-A53"),
    ],
)  # fmt: skip
def test_small_machines_by_their_short_names(text: str, processor: str) -> None:
    assert box(text).cpu.model.value == processor
