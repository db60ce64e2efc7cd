"""`snugly adopt` as a command, in a home of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snugly.model.adopt_places import places

BODY = b"GGUF" + bytes(200)


def snugly(home: Path, *arguments: str) -> tuple[int, str, str]:
    keep = ("PATH", "SYSTEMROOT", "LANG")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env |= {"HOME": str(home), "USERPROFILE": str(home), "SNUGLY_STORE": str(home / "models")}
    ended = subprocess.run(
        [sys.executable, "-m", "snugly", *arguments],
        env=env, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if any(f.is_dir() for f in places(tmp_path, {}, "Linux")["ollama"]):
        pytest.skip("a real Ollama service keeps models on this machine")
    file = tmp_path / ".lmstudio/models/p/m/x-Q4_0.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    return tmp_path


def test_list_adopt_use_and_give_back(home: Path) -> None:
    code, out, _ = snugly(home, "adopt", "--dry-run", "--json")
    (row,) = json.loads(out)
    assert (code, row["ref"], row["program"]) == (0, "p/m/x-Q4_0.gguf", "lmstudio")
    assert not (home / "models").exists()
    assert snugly(home, "adopt", "ollama")[:2] == (0, "")
    code, out, err = snugly(home, "adopt")
    assert (code, out) == (0, f"p/m/x-Q4_0.gguf\t{len(BODY)}\tlmstudio\tadopted\n")
    assert "not copied" in err
    assert "\tknown\n" in snugly(home, "adopt", "lmstudio")[1]
    assert "p/m/x-Q4_0.gguf" in snugly(home, "models")[1]
    (home / ".lmstudio/models/p/m/x-Q4_0.gguf").rename(home / "kept.gguf")
    code, out, err = snugly(home, "models")
    assert (code, out) == (0, "")
    assert "is gone" in err
    (home / "kept.gguf").rename(home / ".lmstudio/models/p/m/x-Q4_0.gguf")
    code, out, err = snugly(home, "rm", "p/m")
    assert (code, out) == (0, "p/m/x-Q4_0.gguf\n")
    assert "belongs to another program" in err
    assert (home / ".lmstudio/models/p/m/x-Q4_0.gguf").read_bytes() == BODY
    assert snugly(home, "models")[1] == ""


def test_an_unknown_program_is_an_error_with_a_suggestion(home: Path) -> None:
    code, _, err = snugly(home, "adopt", "olama")
    assert code == 2
    assert "ollama" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_of_80_columns_the_table_and_the_bar_fit(home: Path) -> None:
    import pty

    snugly(home, "adopt")
    env = {**os.environ, "HOME": str(home), "SNUGLY_STORE": str(home / "models"),
           "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}  # fmt: skip
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "snugly", "models", "--verify"],
        env=env, stdin=child, stdout=child, stderr=child,
    )  # fmt: skip
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(parent)
    assert process.wait(timeout=20) == 0
    text = seen.decode()
    assert "no checksum" in text.replace("\r\n", " ")
    assert "x-Q4_0.gguf" in text
    assert "Traceback" not in text
