"""`snugly chat` from a pipe: plain answers on stdout, remarks on stderr, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snugly.history import conversations
from snugly.history.opening import opened
from snugly.history.types import State

FAKE = Path(__file__).with_name("chat_fake.py")
ROOT = Path(__file__).parents[2]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **extra}


def chat(
    *arguments: str, lines: str | bytes = "", **extra: str
) -> "subprocess.CompletedProcess[str]":
    raw = lines if isinstance(lines, bytes) else lines.encode()
    done = subprocess.run(
        [sys.executable, str(FAKE), "chat", *arguments],
        input=raw,
        capture_output=True,
        timeout=30,
        env=environment(**extra),
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def history() -> Path:
    return Path(os.environ["SNUGLY_HISTORY"])


def test_each_line_is_a_question_and_stdout_holds_only_answers() -> None:
    done = chat(lines="one\n\ntwo\\\nlines\n/stats\n")
    assert done.returncode == 0
    first, second, third, *stats = done.stdout.splitlines()
    assert first == "user:one "
    assert (second, third) == ("user:one | assistant:user:one  | user:two", "lines ")
    assert stats[0].split() == ["model", "fake"]
    assert done.stderr == ""


def test_no_escape_codes_whatever_the_answer() -> None:
    done = chat(lines="markdown\ncontrol\n/help\n/hlep\n")
    assert "# Head\n\nSome **bold** text." in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "Did you mean /help?" in done.stderr


def test_the_last_line_needs_no_end_and_odd_bytes_no_care() -> None:
    assert chat(lines=b"caf\xe9\r\nlast").stdout.splitlines()[0] == "user:caf\ufffd "


def test_an_error_is_said_the_rest_is_answered_and_the_code_tells() -> None:
    done = chat(lines="die\ntoo long\nhello\n", FAKE_TELLS="1")
    assert done.returncode == 6  # the first one: the engine
    assert "The engine died." in done.stderr
    assert "9,000 tokens" in done.stderr
    assert done.stderr.count("STARTED fake") == 2
    assert done.stdout.splitlines() == [
        "half an answer",
        "user:die | assistant:half an answer | user:hello ",
    ]


def test_a_model_that_is_not_there_ends_it_with_its_own_code() -> None:
    done = chat("-m", "nonesuch", lines="one\ntwo\n")
    assert done.returncode == 3
    assert done.stderr.count("There is no model nonesuch.") == 1
    assert not history().exists() or "Traceback" not in done.stderr


def test_nothing_to_say_starts_no_engine() -> None:
    assert "STARTED" not in chat(lines="/help\n/exit\nnever read\n", FAKE_TELLS="1").stderr


def test_polite_reaches_the_engine() -> None:
    assert "STARTED fake politely" in chat("--polite", lines="hello\n", FAKE_TELLS="1").stderr
    assert "politely" not in chat(lines="hello\n", FAKE_TELLS="1").stderr


def test_list_search_resume_delete() -> None:
    chat("-s", "Be brief.", lines="about llamas\n")
    chat(lines="about\u3000alpacas\nand more\n")
    listed = json.loads(chat("--list", "--json").stdout)
    assert [(c["id"], c["title"], c["turns"], c["model"]) for c in listed] == [
        (2, "about alpacas", 2, "fake"),
        (1, "about llamas", 1, "fake"),
    ]
    table = chat("--list").stdout
    assert table.splitlines()[0].split() == ["ID", "WHEN", "MODEL", "TITLE", "TURNS"]
    assert "about llamas" in table
    found = json.loads(chat("--search", 'LLAMAS "', "--json").stdout)
    assert found == []
    found = json.loads(chat("--search", "LLAMAS", "--json").stdout)
    assert [c["id"] for c in found] == [1]
    again = chat("--resume", "1", lines="go on\n").stdout
    assert "system:Be brief." in again
    assert "user:about llamas" in again
    assert "user:about llamas" in chat("--resume", lines="go on\n").stdout
    assert chat("--delete", "1").returncode == 0
    assert [c["id"] for c in json.loads(chat("--list", "--json").stdout)] == [2]
    assert chat("--resume", "1").returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--list", "--search", "x"), ("--json",), ("--search", " "), ("--resume",),
        ("--delete", "7"), ("--resume", "7"), ("--context", "0"), ("--temperature", "-1"),
        ("--max-tokens", "0"), ("--nonsense",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_arguments_that_make_no_sense_end_with_two(arguments: tuple[str, ...]) -> None:
    done = chat(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_damaged_history_is_one_clear_error_and_stays() -> None:
    chat(lines="hello\n")
    history().write_bytes(b"not a database, not at all" * 100)
    for arguments in (("--list",), ()):
        done = chat(*arguments, lines="hello\n")
        assert done.returncode == 9
        assert str(history()) in done.stderr.replace("\n", "")
        assert "Traceback" not in done.stderr
    assert history().read_bytes().startswith(b"not a database")


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, str(FAKE), "chat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"slow\n")
        process.stdin.flush()
        assert process.stdout.read(5) == b"word0"
        process.stdout.close()
        assert process.wait(timeout=10) == 0
        assert b"Traceback" not in process.stderr.read()
    with opened(history()) as db:
        assert conversations.load(db, 1).messages[-1].state is State.INTERRUPTED


def begin_slow_answer() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, str(FAKE), "chat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"slow\nsecond\n")
    process.stdin.flush()
    assert process.stdout.read(5) == b"word0"
    return process


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_in_a_pipe_ends_the_program_and_keeps_what_was_said() -> None:
    with begin_slow_answer() as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    with opened(history()) as db:
        asked, answered = conversations.load(db, 1).messages
    assert (asked.content, answered.state) == ("slow", State.INTERRUPTED)
    assert answered.content.startswith("word0 ")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigkill_keeps_the_question_and_what_was_heard_a_second_before() -> None:
    with begin_slow_answer() as process:
        time.sleep(1.6)
        process.kill()
    with opened(history()) as db:
        asked, answered = conversations.load(db, 1).messages
    assert (asked.content, asked.state) == ("slow", State.COMPLETE)
    assert answered.state is State.INTERRUPTED
    assert answered.content.startswith("word0 word1 ")
    again = chat("--resume", lines="hello\n")
    assert again.returncode == 0
    assert "user:slow | assistant:word0" in again.stdout


def test_listing_imports_nothing_heavy() -> None:
    heavy = (
        "xllamacpp", "numpy", "gguf", "huggingface_hub", "httpx2", "psutil", "prompt_toolkit",
        "snugly.engine.llama_cpp",
    )  # fmt: skip
    code = (
        "import sys; from snugly.cli.app import run; run(['chat', '--list', '--json']);"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=30
    )
    assert done.stdout == "[]\n[]\n"
