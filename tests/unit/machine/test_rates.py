"""What is measured, how it is kept, and when it is forgotten."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from tests.unit.machine.probes import machine

from snugly.machine import int8
from snugly.machine.measure import copied_bytes, measure, thread_counts
from snugly.machine.rates import fingerprint, load_rates, rates_path, save_rates, still_valid
from snugly.machine.types import Machine, Origin, Rates, assumed, measured, probed, unknown
from snugly.units import GiB, MiB

RATES = Rates(
    bandwidth_bytes_per_s=((1, measured(10e9, "copy")), (2, measured(15e9, "copy"))),
    f32_flops=measured(1e11, "product"),
    int8_ops=assumed(1e9, "plain loop"),
    disk_read_bytes_per_s=unknown("the disk is full"),
    taken_at="2026-11-20T06:00:00+00:00",
    load_then=0.2,
    seconds=5.0,
)


def box(load: float = 0.2) -> Machine:
    base = machine("nvidia-smi-xml__tesla-t4.xml")
    return dataclasses.replace(
        base, cpu=dataclasses.replace(base.cpu, load=measured(load, "/proc/stat"))
    )


def test_rates_are_kept_whole(tmp_path: Path) -> None:
    save_rates(RATES, box(), tmp_path / "new")
    assert load_rates(box(), tmp_path / "new") == RATES
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rates.json"]


@pytest.mark.parametrize(("load", "kept"), [(0.2, True), (0.7, True), (0.71, False), (1.5, False)])
def test_half_a_busy_core_more_or_less_is_allowed(tmp_path: Path, load: float, kept: bool) -> None:
    save_rates(RATES, box(), tmp_path)
    assert (load_rates(box(load), tmp_path) is not None) == kept


def test_an_unknown_load_does_not_count_against_them() -> None:
    assert still_valid({"cpu": "x"}, 1.9, {"cpu": "x"}, None)


def test_other_hardware_forgets_them(tmp_path: Path) -> None:
    save_rates(RATES, box(), tmp_path)
    other = dataclasses.replace(box(), gpus=())
    more_ram = dataclasses.replace(
        box(), memory=dataclasses.replace(box().memory, total_bytes=probed(32 * GiB, "x"))
    )
    assert load_rates(other, tmp_path) is None
    assert load_rates(more_ram, tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"version": 1}', '{"version": 3, "rates": {}}', "\x00\xff",
        '{"version": 1, "fingerprint": {}, "rates": {"bandwidth_bytes_per_s": 5}}',
        '{"version": 1, "fingerprint": {}, "rates": []}', "[" * 50_000,
    ],
)  # fmt: skip
def test_a_damaged_file_is_no_rates_and_no_error(tmp_path: Path, text: str) -> None:
    rates_path(tmp_path).write_text(text, encoding="utf-8")
    assert load_rates(box(), tmp_path) is None


def test_a_fact_without_value_that_claims_to_be_measured_is_refused(tmp_path: Path) -> None:
    save_rates(RATES, box(), tmp_path)
    data = json.loads(rates_path(tmp_path).read_text())
    data["rates"]["f32_flops"]["value"] = None
    rates_path(tmp_path).write_text(json.dumps(data))
    assert load_rates(box(), tmp_path) is None


def test_the_fingerprint_names_what_must_stay() -> None:
    assert fingerprint(box()) == {
        "cpu": None,
        "cores": None,
        "usable_cores": None,
        "memory_bytes": None,
        "gpus": [["nvidia", "Tesla T4", 15360 * MiB]],
    }


def test_thread_counts_double_up_to_all() -> None:
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(16) == [1, 2, 4, 8, 16]


def test_copies_are_larger_than_the_cache_and_smaller_than_the_memory() -> None:
    assert copied_bytes(32 * MiB, 24 * GiB) == 256 * MiB
    assert copied_bytes(2 * MiB, 24 * GiB) == 64 * MiB
    assert copied_bytes(256 * MiB, 24 * GiB) == 512 * MiB
    assert copied_bytes(32 * MiB, 400 * MiB) == 100 * MiB


def test_measuring_gives_rates_that_a_machine_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snugly.machine.measure.DISK_BYTES", 16 * MiB)
    monkeypatch.setattr("snugly.machine.measure._SIDE", 256)
    base = box()
    small = dataclasses.replace(
        base,
        cpu=dataclasses.replace(base.cpu, usable_cores=probed(1.0, "test")),
        disk=dataclasses.replace(base.disk, free_bytes=probed(GiB, "test")),
    )
    seen: list[float] = []
    rates = measure(small, tmp_path / "store", lambda what, done: seen.append(done))
    ((threads, bandwidth),) = rates.bandwidth_bytes_per_s
    assert threads == 1
    # From a Raspberry Pi Zero to more than any server of today; not zero, not a cache's.
    assert 1e8 < (bandwidth.value or 0) < 5e12
    assert 1e7 < (rates.f32_flops.value or 0) < 1e15
    assert (rates.int8_ops.value or 0) > 1e6
    assert (rates.disk_read_bytes_per_s.value or 0) > 1e5
    assert rates.seconds < 10
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert list((tmp_path / "store").iterdir()) == []  # the file is gone


def test_a_full_disk_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snugly.machine.measure import _disk

    assert _disk(tmp_path, box(), 1.0).how == "less than 1024 MiB is free on the disk"


def test_int8_without_the_wheel_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(int8, "library", lambda: None)
    monkeypatch.setattr(sys, "argv", ["int8", "1", "0.1"])
    assert int8.main() == 1
    assert "not installed" in capsys.readouterr().err


def test_without_avx2_the_rate_is_a_lower_bound_by_numpy() -> None:
    from snugly.machine.measure import _int8

    cpu = dataclasses.replace(box().cpu, architecture=probed("x86_64", "test"))
    rate = _int8(dataclasses.replace(box(), cpu=cpu), 1, 0.1)
    assert rate.origin is Origin.ASSUMED
    assert "lower bound" in rate.how
