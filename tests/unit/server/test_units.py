"""The files that make a service: read back by the systems' own tools where they are here."""

import os
import plistlib
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.server import installing, units
from snugly.server.units import Launch

# What a path or a name of a model may hold and a configuration language trips over.
NASTY = 'a b "c" $HOME %h \\x é; #!\t|&<>\'['
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


def launch(*words: str, program: str = "/usr/bin/python3", **variables: str) -> Launch:
    command = (program, "-P", "-m", "snugly", "serve", *words)
    return Launch(command, variables, "/home/me", "/home/me/service.err", "BOX\\me")


def analyzed(unit: str, folder: Path) -> tuple[int, str]:
    """What systemd itself says of a user unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here (Debian: systemd)")
    path = folder / "snugly.service"
    path.write_text(unit, encoding="utf-8")
    done = subprocess.run(
        [program, "verify", "--user", "--man=no", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    unit = units.systemd_unit(launch("--model", NASTY, SNUGLY_STORE=NASTY, PATH="/bin:/x y"))
    assert analyzed(unit, tmp_path) == (0, "")
    assert "Unknown key" in analyzed(unit.replace("RestartSec", "RestartSecs"), tmp_path)[1]


def test_systemd_finds_the_program_by_an_odd_path(tmp_path: Path) -> None:
    """It says so when what it unquotes is no program: the quoting is held against its own."""
    # systemd refuses control characters and quotes in the program itself, whoever quotes them.
    folder = tmp_path / "a b $HOME %h é;#"
    folder.mkdir()
    program = folder / "python"
    program.symlink_to("/bin/true")
    assert analyzed(units.systemd_unit(launch(program=str(program))), tmp_path) == (0, "")
    code, said = analyzed(units.systemd_unit(launch(program=str(program) + "x")), tmp_path)
    assert code != 0
    assert "not executable" in said


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here (Debian: systemd)")
    path = tmp_path / "snugly.service"
    path.write_text(units.systemd_unit(launch(program="/bin/true")))
    done = subprocess.run(
        [program, "security", "--offline=yes", "--no-pager", str(path)],
        capture_output=True, text=True,
    )  # fmt: skip
    for wanted in ("NoNewPrivileges=", "LockPersonality=", "RestrictRealtime="):
        assert any(wanted in line and "✓" in line for line in done.stdout.splitlines()), wanted


@given(st.lists(TEXT, max_size=4), TEXT)
def test_no_word_can_add_a_line_to_the_unit(words: list[str], value: str) -> None:
    plain = units.systemd_unit(launch(*("x" for _ in words), SNUGLY_X="y"))
    unit = units.systemd_unit(launch(*words, SNUGLY_X=value))
    assert unit.count("\n") == plain.count("\n")
    for line in unit.splitlines(keepends=False) if "\x85" not in unit else ():
        assert line == "" or line[0] in "[" or "=" in line or "\u2028" in unit or "\u2029" in unit


@given(st.lists(TEXT, max_size=4), TEXT)
def test_a_plist_says_what_it_was_told(words: list[str], value: str) -> None:
    # XML has no control characters but these; plistlib refuses the others aloud.
    if any(ord(c) < 32 or ord(c) in (0xFFFE, 0xFFFF) for c in "".join([*words, value])):
        return
    told = plistlib.loads(units.launchd_plist(launch(*words, SNUGLY_X=value)))
    assert told["ProgramArguments"][5:] == words
    assert told["EnvironmentVariables"] == {"SNUGLY_X": value}
    assert told["KeepAlive"] == {"SuccessfulExit": False}
    assert told["RunAtLoad"] is True


def test_a_windows_task_in_the_schema_s_order() -> None:
    """Task Scheduler takes elements in the order of its schema only."""
    place = installing.place_of("win32", launch("--model", NASTY), {"LOCALAPPDATA": "/x"})
    assert place.content.startswith(b"\xff\xfe")
    root = ET.fromstring(place.content.decode("utf-16").encode("utf-16"))
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    assert root.tag == f"{space}Task"
    names = [child.tag.removeprefix(space) for child in root]
    assert names == ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    command = root.find(f"{space}Actions/{space}Exec/{space}Command")
    arguments = root.find(f"{space}Actions/{space}Exec/{space}Arguments")
    assert command is not None
    assert arguments is not None
    assert command.text == "/usr/bin/python3"
    assert arguments.text == subprocess.list2cmdline(launch("--model", NASTY).command[1:])


def test_no_secret_goes_into_a_service() -> None:
    kept = units.kept_environment(
        {"HF_TOKEN": "hf_x", "OPENAI_API_KEY": "sk-x", "SNUGLY_STORE": "/s", "PATH": "/bin"}
    )
    assert kept == {"PATH": "/bin", "SNUGLY_STORE": "/s"}


def test_an_unknown_system_is_told_so() -> None:
    from snugly.errors import UserError

    with pytest.raises(UserError, match="sunos5"):
        installing.place_of("sunos5", launch(), {})
