import pytest
from tests.making import CPU_ENGINE, apple_gpu, machine

from snugly.machine.types import (
    NOT_TOLD,
    Fact,
    Gpu,
    GpuKind,
    Kernel,
    Origin,
    Rates,
    assumed,
    measured,
    probed,
)  # fmt: skip
from snugly.plan.speed_processors import UNUSED, kernels_for, matrix_ratio, processors_of
from snugly.plan.types import EngineFacts
from snugly.units import GiB


def card(vendor: str, index: int, name: str) -> Gpu:
    no: Fact[str] = NOT_TOLD
    return Gpu(
        vendor, index, probed(name, "test"), probed(GpuKind.DISCRETE, "test"),
        probed(24 * GiB, "test"), probed(24 * GiB, "test"), probed(False, "test"), no, no,
        NOT_TOLD, bandwidth_bytes_per_s=assumed(936e9, "sheet"), f16_flops=assumed(142e12, "sheet"),
    )  # fmt: skip


def test_the_order_is_that_of_the_pools() -> None:
    box = machine(gpus=(card("nvidia", 1, "RTX 3090"), card("amd", 0, "RX 7900 XT")))
    found = processors_of(box, EngineFacts("test", 0, offloads_to="cuda"))
    assert [place.pool for place in found] == [pool.name for pool in box.pools]
    assert [place.kind for place in found] == ["cpu", UNUSED, "cuda"]


def test_a_gpu_that_shares_the_ram_computes_over_it() -> None:
    box = machine(gpus=(apple_gpu(12 * GiB),))
    (metal,) = processors_of(box, EngineFacts("test", 0, offloads_to="metal"))
    assert (metal.pool, metal.kind) == ("RAM", "metal")
    (plain,) = processors_of(box, CPU_ENGINE)
    assert plain.kind == "cpu"


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("NVIDIA GeForce RTX 4090", 4), ("NVIDIA A100-SXM4-80GB", 16), ("Tesla T4", 8),
        ("NVIDIA H100 80GB HBM3", 15), ("NVIDIA GeForce GTX 1660 Ti", 2), ("NVIDIA A10G", 4),
        ("NVIDIA GeForce GTX 1080 Ti", 1), ("Tesla P100-PCIE-16GB", 1), ("NVIDIA L40S", 4),
        ("AMD Radeon RX 7900 XTX", 4), ("AMD Radeon RX 6700 XT", 2), ("AMD Radeon RX 580", 1),
        ("AMD Instinct MI300X", 16), ("Radeon 8060S", 4), ("Intel Arc A770", 8),
        ("Apple M2 Ultra", 1), ("NVIDIA RTX 4000 Ada", 4), ("Quadro RTX 8000", 8),
    ],
)  # fmt: skip
def test_matrix_units_by_name(name: str, ratio: int) -> None:
    assert matrix_ratio(name) == ratio


def test_kernels_that_were_timed_come_first() -> None:
    kernels = (Kernel(1, "Q4_K", True, 10e9, 50e9), Kernel(8, "Q4_K", True, 38e9, 400e9))
    rates = Rates(
        ((1, measured(20e9, "t")), (8, measured(60e9, "t"))), measured(1e12, "t"),
        measured(1e12, "t"), measured(1e9, "t"), "2026-11-20T10:00:00Z", 0.0, 5.0, kernels,
        ((1, 1e-5), (8, 2e-5)),
    )  # fmt: skip
    (place,) = processors_of(machine(cores=8, rates=rates), CPU_ENGINE)
    assert place.kernels == (kernels[1],)
    assert place.layer_seconds == 2e-5
    assert place.bandwidth_bytes_per_s.origin is Origin.MEASURED
    (between,) = kernels_for(kernels, 4)
    assert between.read_bytes_per_s == pytest.approx(10e9 + 28e9 * 3 / 7)


def test_what_nobody_told_is_assumed_and_said() -> None:
    (place,) = processors_of(machine(cores=4), CPU_ENGINE)
    assert place.bandwidth_bytes_per_s.origin is Origin.ASSUMED
    assert place.vector_flops.value == 4 * 3e9 * 32
    assert not place.kernels


def test_only_flat_blocks_gain_from_i8mm() -> None:
    from snugly.machine.types import assumed
    from snugly.plan.speed_prices import rates_of
    from snugly.plan.types import Processor

    def rates(int8_per_f32: float, kind: str = "cpu") -> tuple[float, float]:
        ops = assumed(int8_per_f32 * 1e12, "test")
        band, vector = assumed(1e11, "test"), assumed(1e12, "test")
        found = rates_of(Processor("RAM", kind, "test", band, ops, ops, vector))
        return found.matrix, found.flat

    assert rates(8) == (4e12, 8e12)  # i8mm
    assert rates(4) == (4e12, 4e12)  # dotprod, VNNI
    assert rates(32) == (32e12, 32e12)  # AMX
    assert rates(8, "cuda") == (8e12, 8e12)
