import stat
from pathlib import Path

import pytest

from snugly.engine import address
from snugly.engine.address import new_address, sweep
from snugly.engine.process import engine_environment


def test_a_socket_lies_in_a_folder_for_the_user_alone() -> None:
    here = new_address()
    folder = Path(here.socket).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(here.socket) <= 103  # what macOS allows
    here.release()
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
    dead = runtime / f"snugly-engine-999999999-{address._process_space()}-x"
    dead.mkdir()
    sweep()
    assert not dead.exists()
    assert Path(alive.socket).parent.exists()
    alive.release()


@pytest.mark.parametrize("name", ["9" * 25 + "-0-x", "\u00b2-0-x", "x", "1-x", "-1-0-x"])
def test_names_that_anybody_may_leave_in_a_shared_folder_are_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(address, "_runtime_folder", lambda: str(tmp_path))
    (tmp_path / f"snugly-engine-{name}").mkdir()
    sweep()
    assert (tmp_path / f"snugly-engine-{name}").exists()


def test_folders_of_another_container_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(address, "_runtime_folder", lambda: str(tmp_path))
    other = tmp_path / "snugly-engine-999999999-1-x"
    other.mkdir()
    sweep()
    assert other.exists()


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
