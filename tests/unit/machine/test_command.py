"""`snugly machine` as a person calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.machine.probes import FOLDER, machine

from snugly.cli.app import run
from snugly.cli.machine import document
from snugly.cli.machine_table import rows
from snugly.units import MiB

DOC = Path(__file__).parents[3] / "docs" / "machine.md"
H100 = "nvidia-smi__linux-x86_64_nvidia-h100-mig_590.48.01.txt"


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert run(["machine", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_of_this_box(capsys: pytest.CaptureFixture[str]) -> None:
    data = told(capsys)
    assert data["cpu"]["logical_cores"]["origin"] == "probed"
    assert data["pools"][0]["name"] == "RAM"
    assert data["rates"] is None


def test_json_of_captures_holds_the_machine_and_each_reading(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = told(capsys, "--from", str(FOLDER / H100), str(FOLDER / "meminfo__jc.txt"))
    assert data["memory"]["total_bytes"]["value"] == 3997272 * 1024
    assert data["gpus"][1]["mig"] == "3g.40gb"
    assert [capture["name"] for capture in data["captures"]] == [H100, "meminfo__jc.txt"]
    tables = [r for r in data["captures"][0]["readings"] if r["tool"] == "nvidia-smi table"]
    assert [t["gpus"][0]["used_bytes"]["value"] for t in tables] == [59 * MiB, 11125 * MiB]


def test_every_key_of_the_json_is_documented() -> None:
    words = DOC.read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(keys(item) for item in value.values()))
        if isinstance(value, list):
            return set().union(*(keys(item) for item in value))
        return set()

    from tests.unit.machine.probes import capture
    from tests.unit.machine.test_rates import RATES

    from snugly.cli.render import jsonable

    found = keys(document(machine(H100), [capture(H100)])) | keys(jsonable(RATES))
    found |= keys(document(machine("metal-init__apple-m1-8gb.txt")))
    assert sorted(key for key in found if f"`{key}`" not in words) == []


def test_the_table_names_what_a_person_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["machine", "--from", str(FOLDER / "nvtop-json__rtx3050ti-laptop-plus-680m.json")]) == 0
    )
    out = capsys.readouterr().out
    assert "NVIDIA GeForce RTX 3050 Ti Laptop GPU" in out
    assert "4.00 GiB" in out


def test_names_with_brackets_are_text_and_not_style(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evil = tmp_path / "evil.txt"
    evil.write_text("Model name: [/bold] \x1b[31mred[link]\nFlags: avx2\n", encoding="utf-8")
    assert run(["machine", "--from", str(evil)]) == 0
    out = capsys.readouterr().out
    assert "[/bold] red[link]" in out
    assert "\x1b" not in out


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine", "--from", "/no/such/file"]) == 2
    assert "/no/such/file cannot be read." in capsys.readouterr().err


def test_measuring_a_machine_that_is_not_here_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["machine", "--measure", "--from", str(FOLDER / H100)]) == 2
    assert "do not go together" in capsys.readouterr().err


def test_powershell_writes_utf_16(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = (FOLDER / "nvidia-smi-xml__tesla-t4.xml").read_text()
    (tmp_path / "smi.xml").write_bytes(words.encode("utf-16"))
    data = told(capsys, "--from", str(tmp_path / "smi.xml"))
    assert data["gpus"][0]["name"]["value"] == "Tesla T4"


def test_rows_show_reasons_and_origins() -> None:
    lines = {
        (row.section, row.fact): row for row in rows(machine("xpu-smi-discovery__arc-b580.txt"))
    }
    free = lines["GPU 0 (intel)", "free"]
    assert (free.value, free.origin) == (
        "unknown", "xpu-smi discovery does not tell how much is free",
    )  # fmt: skip
    assert lines["GPU 0 (intel)", "kind"].origin == "assumed: from the name"


def test_the_command_imports_nothing_heavy_and_no_color_is_heeded(tmp_path: Path) -> None:
    code = (
        "import sys; from snugly.cli.app import run; assert run(['machine']) == 0\n"
        "heavy = {'numpy', 'huggingface_hub', 'httpx2', 'gguf', 'xllamacpp', 'cpuinfo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "SNUGLY_STORE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "CPU" in done.stdout
    assert "\x1b" not in done.stdout
