"""`snugly run` as a person calls it: a real process, with the fake or the real engine."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import FAKE_ENGINE
from tests.making import LLAMA_PAIRS, gguf_bytes, text_pair

from snugly.history.measurements import recent

HEAVY = ("torch", "transformers", "openvino", "numpy", "httpx2", "huggingface_hub", "xllamacpp")


def snugly(
    *words: str, stdin: str | bytes = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "snugly", *words],
        input=data,
        capture_output=True,
        env={**os.environ, **variables},
        timeout=120,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes(pairs=(*LLAMA_PAIRS, text_pair("tokenizer.chat_template", "x"))))
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*switches: str) -> None:
        command = json.dumps([sys.executable, str(FAKE_ENGINE), *switches])
        monkeypatch.setenv("SNUGLY_ENGINE_COMMAND", command)

    use()
    return use


def test_help_version_and_plan_import_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv=['snugly',{!r}]; from snugly.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in {!r} if m in sys.modules], file=sys.stderr)"
    )
    for word, heavy in (
        ("--help", (*HEAVY, "rich.markdown", "pydantic", "snugly.settings")),
        ("--version", (*HEAVY, "cyclopts", "rich")),
        ("plan", (*HEAVY, "pydantic", "snugly.model.pull", "snugly.machine.boxes")),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(word, heavy)], capture_output=True, text=True
        )
        assert done.stderr.splitlines()[-1] == "[]"
        assert "snugly" in done.stdout.lower()


@pytest.mark.parametrize(
    "verb", ["run", "chat", "machine", "pull", "models", "show", "rm", "adopt"]
)
def test_every_verb_explains_itself(verb: str) -> None:
    done = snugly(verb, "--help", COLUMNS="80")
    assert done.returncode == 0
    assert "Usage: snugly " + verb in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_unknown_words_are_usage_errors() -> None:
    assert snugly("bogus").returncode == 2
    assert snugly("run", "--bogus", "x").returncode == 2
    assert snugly("run", "--max-tokens", "0", "x").returncode == 2


def test_words_files_and_stdin_make_one_prompt(tiny: Path, fake: Any, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("one two three")
    done = snugly(
        "run", "-m", str(tiny), "-f", str(notes), "sum", "up", "--json", stdin="four five"
    )
    document = json.loads(done.stdout)
    # notes.txt: ``` one two three ``` / four five / sum up: 6 + 2 + 2 words
    assert document["usage"]["prompt_tokens"] == 10
    assert document["text"] == "word " * 8
    assert document["finish_reason"] == "stop"
    assert document["memory"]["predicted_bytes"] > 0


def test_piped_output_is_the_answer_and_nothing_else(tiny: Path, fake: Any) -> None:
    done = snugly("run", "-m", str(tiny), "hello")
    assert done.stdout == "word " * 8 + "\n"
    assert "\x1b" not in done.stdout + done.stderr


def test_stats_go_to_stderr_and_the_run_into_the_history(tiny: Path, fake: Any) -> None:
    done = snugly("run", "-m", str(tiny), "hello", "--stats")
    assert done.stdout == "word " * 8 + "\n"
    for fact in ("time to first token", "prefill", "decode", "predicted"):
        assert fact in done.stderr
    (kept,) = recent()
    assert (kept.prompt_tokens, kept.completion_tokens, kept.decode_tps) == (1, 8, 80.0)


@pytest.mark.parametrize(
    ("words", "stdin", "code", "text"),
    [
        ((), "", 2, "There is no prompt"),
        (("x",), b"\xff\xfe\x00", 2, "Standard input is not text"),
        (("x", "-f", "/nowhere"), "", 2, "/nowhere cannot be read"),
        (("x", "--schema", "/nowhere"), "", 2, "/nowhere cannot be read"),
        (("x", "--schema", "{nonsense"), "", 2, "not JSON"),
        (("x", "--context", "100"), "", 2, "too short"),
        (("x", "--context", "100000"), "", 2, "trained for 4,096"),
        (("word " * 5000,), "", 8, "5,000"),
    ],
)
def test_bad_input_is_a_clear_error(
    words: tuple[str, ...], stdin: str | bytes, code: int, text: str, tiny: Path, fake: Any
) -> None:
    done = snugly("run", "-m", str(tiny), *words, stdin=stdin)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("ref", "code", "text"),
    [
        ("./nowhere.gguf", 3, "nowhere.gguf"),
        ("smolm2", 3, "Did you mean smollm2"),
        ("/etc/passwd", 5, "passwd"),
    ],
)
def test_a_model_that_is_not_there(ref: str, code: int, text: str, fake: Any) -> None:
    done = snugly("run", "-m", ref, "x")
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("switches", "text"),
    [
        (("--crash-after", "2"), "A check inside the engine failed"),
        (("--no-done",), "in the middle of its answer"),
        (("--die-loading", "E x: failed to allocate"), "It ran out of memory"),
    ],
)
def test_an_engine_that_breaks(switches: tuple[str, ...], text: str, tiny: Path, fake: Any) -> None:
    fake(*switches)
    done = snugly("run", "-m", str(tiny), "x")
    assert (done.returncode, text in done.stderr) == (6, True), done.stderr


def test_a_schema_needs_whole_json(tiny: Path, fake: Any) -> None:
    fake("--words", "1", "--pieces", "3")
    assert snugly("run", "-m", str(tiny), "x", "--schema", "json").stdout == "111\n"
    fake("--words", "{", "--pieces", "1")
    done = snugly("run", "-m", str(tiny), "x", "--schema", "json")
    assert done.returncode == 6
    assert "not whole JSON" in done.stderr


def test_a_base_model_is_told_from_a_chat_model(tmp_path: Path, fake: Any) -> None:
    base = tmp_path / "base.gguf"
    base.write_bytes(gguf_bytes())
    assert "no chat template" in snugly("run", "-m", str(base), "x").stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--temperature", "inf"), "temperature"),
        (("--temperature", "nan"), "temperature"),
        (("--temperature", "-1"), "temperature"),
        (("--schema", "[1]"), "not a JSON object"),
        ((os.fsdecode(b"\xff\xfe"),), "not UTF-8"),
    ],
)
def test_words_that_make_no_sense(words: tuple[str, ...], text: str, tiny: Path, fake: Any) -> None:
    done = snugly("run", "-m", str(tiny), "x", *words)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_a_folder_with_one_model_is_a_model(tiny: Path, fake: Any) -> None:
    assert snugly("run", "-m", str(tiny.parent), "x").stdout == "word " * 8 + "\n"


def test_names_from_a_file_reach_no_terminal(tmp_path: Path, fake: Any) -> None:
    evil = "A\x1b]0;PWNED\x07\x1b[2J"
    path = tmp_path / "esc.gguf"
    pairs = (*LLAMA_PAIRS[:1], text_pair("general.name", evil), *LLAMA_PAIRS[2:])
    path.write_bytes(gguf_bytes(pairs=(*pairs, text_pair("tokenizer.chat_template", evil))))
    for words in (("run", "-m", str(path), "--context", "99999", "x"), ("show", str(path))):
        done = snugly(*words)
        assert "PWNED" in done.stdout + done.stderr
        assert not set("\x1b\x07") & set(done.stdout + done.stderr)


def test_output_that_cannot_be_written_is_said(tiny: Path, fake: Any) -> None:
    for line in ("run -m {} x > /dev/full", "machine > /dev/full", "run -m {} x >&-"):
        command = f"{sys.executable} -m snugly {line.format(tiny)}"
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert ("could not be written" in done.stderr) is ("full" in line)
        assert done.returncode == (2 if "full" in line else 0)


def test_a_silent_pipe_is_waited_for_aloud(tiny: Path, fake: Any) -> None:
    command = f"sleep 3 | {sys.executable} -m snugly run -m {tiny} x"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert "Reading standard input" in done.stderr
    assert done.stdout == "word " * 8 + "\n"


def test_a_wish_that_no_model_grants_fetches_nothing(stocked: Path) -> None:
    done = snugly("run", "--context", "100000", "hi")
    assert done.returncode == 2
    assert "fetching" not in done.stderr
    assert "trained for 8,192" in done.stderr


def test_what_was_measured_counts(stocked: Path) -> None:
    from dataclasses import replace

    from snugly.engine.launch import measured_machine
    from snugly.machine.rates import save_rates
    from snugly.machine.types import Rates, measured
    from snugly.settings import settings

    machine = measured_machine(settings())
    assert machine.rates is None
    rate = measured(123e9, "test")
    load = machine.cpu.load.or_else(0.0)
    kept = Rates(((1, rate),), rate, rate, rate, "2026-11-20T00:00:00Z", load, 1.0)
    save_rates(kept, replace(machine, rates=None), settings().cache)
    again = measured_machine(settings())
    # A load that moved by half a core between the two looks is the one lawful reason.
    assert again.rates == kept or abs(again.cpu.load.or_else(0.0) - load) > 0.5


def test_a_reader_that_has_enough_is_no_error(tiny: Path, fake: Any) -> None:
    fake("--pieces", "100000")
    line = f"{sys.executable} -m snugly run -m {tiny} x | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.stdout == "word word 0\n"
    assert done.stderr == ""


@pytest.mark.parametrize("when", ["loading", "answering"])
def test_ctrl_c_stops_the_command_and_the_engine(when: str, tiny: Path, fake: Any) -> None:
    fake(*(("--never-ready",) if when == "loading" else ("--pieces", "100000", "--delay", "0.01")))
    process = subprocess.Popen(
        [sys.executable, "-m", "snugly", "run", "-m", str(tiny), "x"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    engines: list[psutil.Process] = []
    deadline = time.monotonic() + 20
    while not engines and time.monotonic() < deadline:
        time.sleep(0.05)
        engines = psutil.Process(process.pid).children()
    if when == "answering":
        assert process.stdout is not None
        process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(engines, timeout=2)
    assert not alive


def test_at_a_terminal_control_characters_are_left_out(tiny: Path, fake: Any) -> None:
    fake("--separators", "--pieces", "4")
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "snugly", "run", "-m", str(tiny), "x"],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(follower)
    shown = os.read(leader, 4096).decode()
    os.close(leader)
    assert done.returncode == 0
    assert shown.replace("\r\n", "\n") == "a\u2028bcde\nfgh\n"


def test_nothing_named_takes_what_is_installed(stocked: Path) -> None:
    done = snugly("run", "Say hello.", "--max-tokens", "8", "--json")
    document = json.loads(done.stdout)
    assert document["model"].endswith("SmolLM2-135M-Instruct.Q4_1.gguf")
    assert document["usage"]["completion_tokens"] == 8
    assert document["finish_reason"] == "length"
    assert "cut at --max-tokens 8" in done.stderr


def test_a_file_piped_in_reaches_the_real_model(stocked: Path) -> None:
    text = "The deploy key is kept in the blue cabinet on floor 3. Ask Maria for the code."
    done = snugly(
        "run", "-m", "smollm2", "--temperature", "0", "Where is the deploy key?", stdin=text
    )
    assert re.search("cabinet", done.stdout, re.IGNORECASE), done.stdout


def test_a_second_question_about_a_file_finds_it_read(stocked: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("The secret word is walnut, said the committee long ago.\n" * 40)
    asked = ("run", "-m", "smollm2", "--json", "--max-tokens", "4", "-f", str(notes))
    first, second = (
        json.loads(snugly(*asked, words).stdout)["usage"] for words in ("Which word?", "Who said?")
    )
    assert first["cached_tokens"] == 0
    assert second["cached_tokens"] > 0.9 * second["prompt_tokens"] > 400


def test_a_model_that_does_not_fit_is_refused_before_loading(tmp_path: Path, fake: Any) -> None:
    """A true header and a sparse body of 4 TB: nothing of it is ever read."""
    path = tmp_path / "huge.gguf"
    shape = (1 << 20, 1 << 20)
    data = gguf_bytes(tensors=(("token_embd.weight", (32, 1), "F32"),))
    small = (32).to_bytes(8, "little") + (1).to_bytes(8, "little")
    large = shape[0].to_bytes(8, "little") + shape[1].to_bytes(8, "little")
    assert data.count(small) == 1
    path.write_bytes(data.replace(small, large))
    with path.open("r+b") as file:
        file.truncate(len(data) + 4 * shape[0] * shape[1])
    done = snugly("run", "-m", str(path), "x")
    assert done.returncode == 4
    assert "needs 4.00 TiB" in done.stderr
    assert "more free memory" in done.stderr
