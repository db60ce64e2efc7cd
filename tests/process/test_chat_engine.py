"""`snugly chat` on the real engine with real weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from snugly.history import conversations, measurements
from snugly.history.opening import opened
from snugly.history.types import State


def chat(weights: Path, lines: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "snugly", "chat", "-m", str(weights), "--temperature", "0",
         "--max-tokens", "40", *arguments],
        input=lines, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_two_questions_and_their_figures(smollm2: Path) -> None:
    done = chat(smollm2, "What is the capital of France?\nAnd of Italy?\n/stats\n")
    assert done.returncode == 0, done.stderr
    second, first = measurements.recent()
    with opened() as db:
        kept = conversations.load(db, 1)
    assert [m.state for m in kept.messages] == [State.COMPLETE] * 4
    assert kept.messages[1].content.strip() == done.stdout[: len(kept.messages[1].content)].strip()
    assert [m.tokens for m in kept.messages[1::2]] == [
        first.completion_tokens, second.completion_tokens,
    ]  # fmt: skip
    # The second prompt holds the first one, its answer and more.
    assert second.prompt_tokens > first.prompt_tokens + first.completion_tokens
    assert (first.quant, first.engine, first.model_path) == ("Q4_1", "xllamacpp", str(smollm2))
    used = second.prompt_tokens + second.completion_tokens
    assert f"{used} of {second.context} tokens used" in done.stdout
    seen = re.search(r"decode +([\d.]+) tokens/s \(\d+ tokens, ([\d.]+) as seen", done.stdout)
    assert seen is not None
    # 0.97 is what the issue asks for; this is one short answer on a machine that may be busy.
    assert float(seen[2]) / float(seen[1]) >= 0.9


def test_a_conversation_longer_than_the_context_is_refused_and_undamaged(smollm2: Path) -> None:
    lines = f"Say hello.\n{'long ' * 2000}\nSay bye.\n"
    done = chat(smollm2, lines, "--context", "1024")
    assert done.returncode == 8
    assert re.search(r"2,0\d\d tokens.*1,024", done.stderr), done.stderr
    with opened() as db:
        asked = [m.content for m in conversations.load(db, 1).messages if m.role == "user"]
    assert asked == ["Say hello.", "Say bye."]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_engine_killed_in_mid_answer_comes_back_for_the_next_question(smollm2: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "snugly", "chat", "-m", str(smollm2), "--max-tokens", "200"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("Tell me a very long story about a dragon.\n")
        process.stdin.flush()
        process.stdout.read(100)
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.stdin.write("/clear\nWhat is the capital of France?\n")
        process.stdin.close()
        rest, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=60) == 6
    assert "SIGKILL" in errors
    assert "Traceback" not in errors
    with opened() as db:
        story = conversations.load(db, 1).messages
        after = conversations.load(db, 2).messages
    assert [(m.role, m.state) for m in after] == [
        ("user", State.COMPLETE), ("assistant", State.COMPLETE),
    ]  # fmt: skip
    assert after[1].content.strip()
    assert after[1].content in rest
    assert [(m.role, m.state) for m in story] == [
        ("user", State.COMPLETE), ("assistant", State.INTERRUPTED),
    ]  # fmt: skip
    assert len(story[1].content) >= 100
