import os
import subprocess
import sys
import time
from pathlib import Path

from snugly.engine.beside import Beside, worked_seconds


def test_the_engines_own_work_is_not_that_of_others() -> None:
    spin = "import time; end = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    engine = subprocess.Popen([sys.executable, "-c", spin])
    other = subprocess.Popen([sys.executable, "-c", spin])
    try:
        time.sleep(0.3)
        beside = Beside(engine.pid)
        before = worked_seconds(other.pid)
        time.sleep(0.5)
        took = (worked_seconds(other.pid) or 0.0) - (before or 0.0)
        cores = beside.others_cores()
    finally:
        for process in (engine, other):
            process.kill()
            process.wait()
    assert cores is not None
    assert cores >= took / 0.6 - 0.15  # at least what the other one took; there may be more


def test_a_process_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert worked_seconds(gone.pid) is None
    assert Beside(gone.pid).others_cores() is None


def test_seconds_are_read_behind_a_name_with_brackets(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = ["S", *["0"] * 10, "250", "50", *["0"] * 10]
    (tmp_path / "7/stat").write_text(f"7 (a) b) {' '.join(fields)}\n")
    if hasattr(os, "sysconf"):
        assert worked_seconds(7, tmp_path) == 300 / os.sysconf("SC_CLK_TCK")
