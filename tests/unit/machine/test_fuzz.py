"""Hostile and damaged texts: never an error, never a wait."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.machine.probes import FILES, text

from snugly.machine.captures import machine_from, read_capture
from snugly.machine.cgroup import cpu_quota, memory_limits
from snugly.machine.load import read_busy
from snugly.machine.topology import paths, read_cpu_list, read_topology


def check(words: str) -> None:
    """Reads without an error, and what is free never exceeds what there is."""
    machine = machine_from([read_capture(words, "fuzz")])
    assert all(pool.free_bytes >= 0 and pool.total_bytes >= 0 for pool in machine.pools)
    names = [pool.name for pool in machine.pools]
    assert len(set(names)) == len(names)


@given(st.text(max_size=2000))
def test_any_text(words: str) -> None:
    check(words)


@given(
    st.lists(
        st.sampled_from(
            ["<nvidia_smi_log>", "<gpu id='x'>", "</gpu>", "NVSMI LOG", "GPU 0: ", "(UUID: x)",
             "|   0  X  On | 00000000:01:00.0 Off |", "| 1% | 1MiB / 0MiB | 5% Default |", "\n",
             '{"card0":', '"VRAM Total Memory (B)": "99"', "}", "[", '"device_name":', '"gpu_util"',
             "processor : 0", "Flags: avx2", "MemTotal: 5 kB", "RAM 9/1MB (", "CPU [off,3%@1]",
             "hw.memsize: 1", "iogpu.wired_limit_mb: 7", "memory.total, name", "1 MiB, 2", ": ",
             "/sys/class/drm/card0/device/vendor: 0x1002", "Socket(s): -", "ASIC:", "GPU: 0",
             "$ nvidia-smi", "######## x", "    ", "Info: 4-core x", "Memory: total: 1 GiB"]
        ),
        max_size=40,
    )
)  # fmt: skip
def test_pieces_of_what_tools_print(pieces: list[str]) -> None:
    check("".join(pieces))
    check("\n".join(pieces))


@settings(max_examples=150)
@given(st.sampled_from(FILES), st.floats(0, 1))
def test_captures_cut_short(name: str, share: float) -> None:
    check(text(name)[: int(len(text(name)) * share)])


@settings(max_examples=150)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.floats(0, 0.999), st.characters()), min_size=1, max_size=30),
)
def test_captures_with_characters_changed(name: str, changes: list[tuple[float, str]]) -> None:
    words = list(text(name))
    for place, character in changes:
        words[int(place * len(words))] = character
    check("".join(words))


@settings(max_examples=50)
@given(st.sampled_from(FILES), st.sampled_from(FILES), st.floats(0, 1))
def test_halves_of_two_captures(one: str, other: str, share: float) -> None:
    check(text(one)[: int(len(text(one)) * share)] + text(other)[int(len(text(other)) * share) :])


@given(st.text(max_size=300))
def test_small_files_of_the_kernel(words: str) -> None:
    read_busy(words)
    online = read_cpu_list(words)[:8]
    read_topology(dict.fromkeys(paths(online), words))
    memory_limits(lambda path: words)
    cpu_quota(lambda path: words)


@pytest.mark.parametrize(
    "words",
    [
        "\n" * 300_000, " " * 300_000, "\n " * 150_000, "|" * 300_000, "{" * 300_000,
        '{"card0":' * 30_000, "<nvidia_smi_log>" + "<a>" * 100_000, "Model name:" * 30_000,
        "name, " * 50_000, "RAM 1/2MB " * 30_000, "ggml_metal " * 30_000, "9" * 300_000,
        '[{"device_name":' * 20_000, "Chipset Model: x\n" * 20_000, "/sys/" + ":a" * 150_000,
        "MemTotal: " + "9" * 300_000 + " kB", "Info: 4-core " + "a " * 150_000,
    ],
)  # fmt: skip
def test_patterns_take_no_time_on_texts_made_to_slow_them(words: str) -> None:
    begun = time.process_time()
    check(words)
    assert time.process_time() - begun < 2.0  # measured: 0.3 s for the worst
