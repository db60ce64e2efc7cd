import io
import time

import pytest
from rich.console import Console

from snugly.cli import progress


def test_plain_lines_when_piped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    clock = iter([100.0, 102.0, 110.0, 111.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "note", said.append)
    lines = progress.Lines()
    lines.begin("x.gguf", 10 * 1024**2, 2 * 1024**2)
    for _ in range(3):
        lines.advance(1024**2)
    lines.end()
    assert said == [
        "x.gguf: 10.0 MiB, 2.00 MiB are here already",
        # 2 MiB more in 10 s, 6 MiB left
        "x.gguf: 4.00 MiB of 10.0 MiB, 205 KiB/s, 30.00 s left",
    ]


def test_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(progress, "console", lambda stderr=False: screen)
    bar = progress.Bar()
    bar.begin("a-very-long-file-name-" * 5 + ".gguf", 100 * 1024**2, 0)
    bar.advance(50 * 1024**2)
    bar.end()
    file = screen.file
    assert isinstance(file, io.StringIO)
    assert "50.0/100.0 MiB" in file.getvalue()
    bar.advance(1)  # after the end: nothing happens
    bar.end()
