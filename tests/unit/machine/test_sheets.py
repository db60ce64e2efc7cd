"""Data sheets: which names mean which hardware, and what is never guessed."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.making import machine as made
from tests.unit.machine.probes import FILES, machine

from snugly.machine import sheets_apple, sheets_boards, sheets_cpus, sheets_gpus
from snugly.machine.facts import blank
from snugly.machine.sheets import with_sheets
from snugly.machine.sheets_gpus import versions
from snugly.machine.types import Gpu, Machine, Origin, probed
from snugly.units import GiB


def gpu(name: str, gib: float = 0.0, vendor: str = "nvidia") -> Gpu:
    found = replace(blank(Gpu, "test", vendor=vendor, index=0), name=probed(name, "test"))
    return replace(found, total_bytes=probed(round(gib * GiB), "test")) if gib else found


def with_gpu(name: str, gib: float = 0.0, vendor: str = "nvidia") -> Gpu:
    return with_sheets(replace(made(), gpus=(gpu(name, gib, vendor),))).gpus[0]


def with_cpu(name: str, **changes: object) -> Machine:
    box = made()
    values = {key: probed(value, "test") for key, value in changes.items()}
    cpu = replace(box.cpu, model=probed(name, "test"), **values)  # type: ignore[arg-type]
    return with_sheets(replace(box, cpu=cpu))


# GB/s of the makers' data sheets.
@pytest.mark.parametrize(
    ("name", "gib", "bandwidth"),
    [
        ("NVIDIA GeForce RTX 4080 SUPER", 15.99, 736),
        ("NVIDIA A10G", 22.49, 600),
        ("NVIDIA H100 80GB HBM3", 79.65, 3350),
        ("NVIDIA H100 PCIe", 79.65, 2040),
        ("NVIDIA A100-SXM4-80GB", 80, 2039),
        ("NVIDIA A100-PCIE-40GB", 40, 1555),
        ("Tesla V100-SXM2-16GB", 16, 900),
        ("Tesla T4", 15, 320),
        ("NVIDIA GeForce RTX 3080", 10, 760),
        ("NVIDIA GeForce RTX 3080", 12, 912),
        ("NVIDIA GeForce RTX 3060", 12, 360),
        ("NVIDIA GeForce RTX 3060", 8, 240),
        ("NVIDIA GeForce RTX 4060", 8, 272),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 8, 256),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, 576),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", 8, 384),
        ("NVIDIA GeForce RTX 4090 D", 48, 1008),  # the memory was doubled by hand
        ("NVIDIA RTX 4000 Ada Generation", 20, 360),
        ("NVIDIA RTX A4000", 16, 448),
        ("Quadro RTX 4000", 8, 416),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 96, 1792),
        ("NVIDIA GH200 480GB", 96, 4000),
        ("AMD Radeon RX 7900 XT", 20, 800),
        ("Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", 24, 960),
        ("Navi 22 [Radeon RX 6700/6700 XT / 6800M]", 12, 384),
        ("AMD Instinct MI300X", 192, 5300),
        ("AMD Instinct MI250X / MI250", 64, 1638),
        ("Intel(R) Arc(TM) B580 Graphics", 11.9, 456),
    ],
)
def test_bandwidth_of_names_as_tools_write_them(name: str, gib: float, bandwidth: float) -> None:
    fact = with_gpu(name, gib).bandwidth_bytes_per_s
    assert fact.value == pytest.approx(bandwidth * 1e9, rel=0.005)
    assert fact.origin is Origin.ASSUMED
    assert "data sheet" in fact.how


@pytest.mark.parametrize(
    ("name", "f16", "int8"),  # dense peaks of the makers' papers
    [
        ("NVIDIA GeForce RTX 3090", 142, 284),
        ("NVIDIA GeForce RTX 4090", 330, 661),
        ("NVIDIA GeForce RTX 5090", 419, 838),
        ("NVIDIA H100 80GB HBM3", 989, 1979),
        ("Tesla T4", 65, 130),
        ("AMD Radeon RX 7900 XTX", 122.8, 122.8),
        ("AMD Radeon RX 9070 XT", 195, 389),
        ("NVIDIA GeForce GTX 1080 Ti", 11.3, 45.4),  # f16 at the f32 rate; DP4A
    ],
)
def test_matrix_units_count(name: str, f16: float, int8: float) -> None:
    found = with_gpu(name)
    assert found.f16_flops.value == pytest.approx(f16 * 1e12, rel=0.01)
    assert found.int8_ops.value == pytest.approx(int8 * 1e12, rel=0.01)


@pytest.mark.parametrize(
    ("name", "gib", "why"),
    [
        ("AMD GPU 0x73df", 12, "no data sheet"),
        ("AMD Radeon Graphics", 0, "no data sheet"),
        ("NVIDIA GeForce RTX 9990", 0, "no data sheet"),
        ("NVIDIA GeForce RTX 3090 Laptop GPU", 24, "no data sheet"),
        ("GeForce GT 1030", 2, "too different"),  # DDR4: 17 GB/s, GDDR5: 48
        ("NVIDIA GeForce GTX 1070 Ti", 4, "has 8 GiB"),  # a data sheet of another card
        ("Navi 31 [Radeon RX 7900 XT]", 24, "has 20 GiB"),
    ],
)
def test_what_is_not_known_stays_unknown(name: str, gib: float, why: str) -> None:
    fact = with_gpu(name, gib).bandwidth_bytes_per_s
    assert fact.value is None
    assert why in fact.how


def test_the_slowest_of_those_that_share_a_name_counts() -> None:
    laptop = with_gpu("NVIDIA GeForce RTX 3060 Laptop GPU", 6).bandwidth_bytes_per_s
    assert laptop.value == pytest.approx(288e9)  # Max-Q 288, Mobile 336
    assert "slowest" in laptop.how
    assert with_gpu("NVIDIA GeForce GTX 1650", 4).bandwidth_bytes_per_s.value == 128.1e9


def test_every_row_is_found_by_its_own_name() -> None:
    lost = [s.name for s in sheets_gpus.sheets() if s not in versions(s.name, s.memory_bytes)]
    assert lost == []


def test_nvidia_smis_way_to_write_every_row_is_found() -> None:
    def written(sheet: sheets_gpus.Sheet) -> str:
        return "NVIDIA " + sheet.name.replace(" Mobile", " Laptop GPU")

    rows = [sheet for sheet in sheets_gpus.sheets() if sheet.maker == "nvidia"]
    # The driver keeps a part: 4% less than the data sheet is told.
    assert [s.name for s in rows if s not in versions(written(s), s.memory_bytes * 96 // 100)] == []


@settings(max_examples=50, deadline=None)
@given(st.text("abcdegiorstux0123456789 -/[]()", max_size=40))
def test_any_name_has_an_answer(name: str) -> None:
    fact = with_gpu(name, 8).bandwidth_bytes_per_s
    assert (fact.value is None) == (fact.origin is Origin.UNKNOWN)


@pytest.mark.parametrize("name", FILES)
def test_every_captured_gpu_has_rates_or_a_reason(name: str) -> None:
    for found in machine(name).gpus:
        for fact in (found.bandwidth_bytes_per_s, found.f16_flops, found.int8_ops):
            assert fact.how
            assert fact.value is None or fact.value > 0


def test_captures_without_rates_are_these() -> None:
    """Names that tell no model, and a capture that tells another model's memory."""
    unknown = {
        f"{name}: {found.name.value}"
        for name in FILES
        for found in machine(name).gpus
        if found.f16_flops.value is None
    }
    assert unknown == {
        "nvidia-smi-xml__gtx-1070-ti.xml: GeForce GTX 1070 Ti",  # told 4 GiB
        "rocm-smi-json__radeon-680m-plus-rx7900xt.json: Navi 31 [Radeon RX 7900 XT]",  # 24 GiB
        "rocm-smi-json__rx6700xt_rocm430.json: AMD GPU 0x73df",
        "rocm-smi-json__vega-10-XT.json: AMD GPU 0x6861",
        "sysfs-amdgpu__card0.txt: AMD GPU 0x687f",
        "tegrastats__orin-nano-8gb.txt: NVIDIA Jetson",
    }


def test_a_mig_instance_has_its_share() -> None:
    found = machine("nvidia-smi__linux-x86_64_nvidia-h100-mig_590.48.01.txt").gpus
    whole = found[0].bandwidth_bytes_per_s.or_else(0.0)
    shares = {g.mig: g.bandwidth_bytes_per_s.or_else(0.0) / whole for g in found if g.mig}
    assert shares == {"3g.40gb": 0.5, "2g.20gb": 0.25, "1g.10gb": 0.125}
    small = next(g for g in found if g.mig == "1g.10gb")
    # 16 of 132 multiprocessors, as the capture tells.
    assert small.f16_flops.value == pytest.approx(989e12 * 16 / 132)


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("AMD Ryzen 7 5800X 8-Core Processor", 51.2),
        ("AMD Ryzen 9 7950X3D 16-Core Processor", 83.2),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 256),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", 38.4),
        ("13th Gen Intel(R) Core(TM) i5-1335U", 83.2),
        ("Intel(R) Core(TM) Ultra 7 258V", 136.5),
        ("Intel(R) Xeon(R) 6980P", 614.4),
        ("AMD EPYC 9654 96-Core Processor", 460.8),
        ("Intel(R) N100", 25.6),
    ],
)
def test_memory_of_processors(name: str, bandwidth: float) -> None:
    fact = with_cpu(name).cpu.bandwidth_bytes_per_s
    assert fact.value == pytest.approx(bandwidth * 1e9, rel=0.001)


@pytest.mark.parametrize(
    "name", ["AMD EPYC", "Intel(R) Xeon(R) CPU @ 2.20GHz", "QEMU Virtual CPU version 2.5+", "ARM"]
)
def test_processors_that_tell_nothing_have_no_bandwidth(name: str) -> None:
    assert with_cpu(name).cpu.bandwidth_bytes_per_s.value is None


def test_arithmetic_of_a_processor_by_hand() -> None:
    # 8 cores x 4.7 GHz x two FMA units of 8 lanes (32 operations); AVX2 has no VNNI: 4/3.
    cpu = with_cpu("AMD Ryzen 7 5800X 8-Core Processor").cpu
    assert cpu.f32_flops.value == pytest.approx(8 * 4.7e9 * 32)
    assert cpu.int8_ops.value == pytest.approx(8 * 4.7e9 * 32 * 4 / 3)
    # 8 fast cores of 4.9 GHz, 4 saving ones of 3.6 GHz with half the width.
    told = {"physical_cores": 12, "instructions": ("avx", "avx2", "fma", "avx_vnni")}
    cpu = with_cpu("12th Gen Intel(R) Core(TM) i7-12700", **told).cpu
    assert cpu.f32_flops.value == pytest.approx(8 * 4.9e9 * 32 + 4 * 3.6e9 * 16)
    assert cpu.int8_ops.value == pytest.approx(cpu.f32_flops.or_else(0) * 4)


def test_two_sockets_have_twice_the_memory_but_virtual_ones_do_not() -> None:
    name = "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"
    assert with_cpu(name, sockets=2).cpu.bandwidth_bytes_per_s.value == pytest.approx(153.6e9)
    virtual = with_cpu(name, sockets=16, logical_cores=16).cpu
    assert virtual.bandwidth_bytes_per_s.value == pytest.approx(76.8e9)


def test_apples_chips_by_their_cores() -> None:
    found = machine("system_profiler-displays-json__apple-m4.json").gpus[0]
    assert found.bandwidth_bytes_per_s.value == 120e9
    assert found.f16_flops.value == pytest.approx(4.04e12)
    assert found.int8_ops.value is None
    assert [c.bandwidth_bytes_per_s for c in sheets_apple.versions("Apple M3 Max", 40)] == [400e9]
    assert sheets_apple.versions("Apple M9 Max") == ()


def test_a_board_tells_the_memory_that_its_core_does_not() -> None:
    cpu = machine("cpuinfo__raspberry-pi-4-bcm2835.txt").cpu
    assert cpu.bandwidth_bytes_per_s.value == pytest.approx(12.8e9)  # 32 bit x 3200 MT/s
    assert cpu.f32_flops.value == pytest.approx(4 * 1.8e9 * 8)


def test_graphics_inside_a_processor_read_its_memory() -> None:
    found = machine("system-info__strix-halo-framework-desktop.json").gpus[0]
    assert found.bandwidth_bytes_per_s.value == 256e9
    assert found.f16_flops.value == pytest.approx(59.4e12, rel=0.001)  # amd.com


def test_what_is_known_already_is_kept() -> None:
    own = replace(gpu("NVIDIA GeForce RTX 4090"), bandwidth_bytes_per_s=probed(1.0, "measured"))
    assert with_sheets(replace(made(), gpus=(own,))).gpus[0].bandwidth_bytes_per_s.value == 1.0


def test_every_model_has_a_family_and_every_graphics_a_sheet() -> None:
    orphans = [m.name for m in sheets_cpus.models() if sheets_cpus.family_of(m.name) is None]
    assert orphans == []
    unseen = [m.graphics for m in sheets_cpus.models() if m.graphics and not versions(m.graphics)]
    assert unseen == []
    assert [b.name for b in sheets_boards.boards() if b.gpu and not versions(b.gpu)] == []


def test_the_page_counts_what_is_there() -> None:
    page = (Path(__file__).parents[3] / "docs/boxes.md").read_text("utf-8")
    chips = sheets_apple.chips()
    assert f"| {len(sheets_gpus.sheets()):,} |" in page
    assert f"{len(sheets_cpus.families())} families, {len(sheets_cpus.models())} models" in page
    assert f"{len(chips)} versions of {len({chip.name for chip in chips})} chips" in page
    assert f"| {len(sheets_boards.boards())} |" in page
