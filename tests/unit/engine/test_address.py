import os
import stat
import sys
from pathlib import Path

import pytest

from snugly.engine.address import new_address, sweep
from snugly.engine.process import engine_environment


def test_a_socket_lies_in_a_folder_for_the_user_alone() -> None:
    address = new_address()
    folder = Path(address.socket).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(address.socket) <= 103  # what macOS allows
    address.release()
    assert not folder.exists()


def test_windows_gets_a_loopback_port_and_a_long_random_key() -> None:
    one, other = new_address("win32"), new_address("win32")
    assert (one.socket, one.base_url) == ("", f"http://127.0.0.1:{one.port}")
    assert len(one.key) >= 43  # 256 bits
    assert one.key != other.key


def test_folders_of_the_dead_are_swept_and_those_of_the_living_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path)[:60] if len(str(tmp_path)) < 60 else "")
    alive = new_address()
    runtime = Path(alive.socket).parent.parent
    dead = runtime / "snugly-engine-999999999-x"
    dead.mkdir()
    sweep()
    assert not dead.exists()
    assert Path(alive.socket).parent.exists()
    alive.release()


def test_an_engine_sees_no_secrets() -> None:
    given = {"PATH": "/bin", "HF_TOKEN": "hf_x", "OPENAI_API_KEY": "sk-x", "HOME": "/h"}
    seen = engine_environment(given)
    assert seen == {
        "PATH": "/bin",
        "HOME": "/h",
        "GOMP_SPINCOUNT": "1000",
        "GGML_NO_BACKTRACE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert "GOMP_SPINCOUNT" not in engine_environment({"OMP_WAIT_POLICY": "active"})
    assert engine_environment({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert sys.platform == "win32" or os.environ.get("HF_TOKEN", "") not in seen.values()
