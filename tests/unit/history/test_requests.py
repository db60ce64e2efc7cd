"""Sums over requests: by model, client, dialect and day."""

import json
from dataclasses import replace

import pytest

from snugly.cli.app import run
from snugly.cli.render import console
from snugly.history.opening import opened
from snugly.history.requests import KEYS, Asked, usage, write

ONE = Asked(
    "2026-01-05T12:00:00.000+00:00", "a/b/c.gguf", "127.0.0.1", "openai", "/v1/chat/completions",
    "done", status=200, prompt_tokens=10, completion_tokens=20, cached_tokens=4, ttft_ms=100.0,
    total_ms=500.0, peak_bytes=1000,
)  # fmt: skip
ROWS = (
    ONE,
    replace(ONE, client="10.0.0.2", dialect="ollama", ttft_ms=300.0, peak_bytes=3000),
    replace(ONE, model="d/e/f.gguf", outcome="failed", status=503, completion_tokens=None),
    replace(ONE, started_at="2026-01-07T12:00:00.000+00:00", outcome="cancelled"),
    replace(ONE, model="", outcome="refused", status=404),  # it never came to a model
)


@pytest.fixture
def kept() -> None:
    with opened() as db:
        write(db, [(None, row) for row in ROWS])


@pytest.mark.parametrize(
    ("by", "counts"),
    [
        ("model", {"a/b/c.gguf": 3, "d/e/f.gguf": 1}),
        ("client", {"127.0.0.1": 3, "10.0.0.2": 1}),
        ("dialect", {"openai": 3, "ollama": 1}),
        ("day", {"2026-01-05": 3, "2026-01-07": 1}),
    ],
)
@pytest.mark.usefixtures("kept")
def test_requests_are_summed(by: str, counts: dict[str, int]) -> None:
    with opened() as db:
        lines = usage(db, by=by)
    # Noon in UTC is the same day from UTC-12 to UTC+11: no place of a test is beyond.
    assert {line.name: line.requests for line in lines} == counts
    assert sum(line.completion_tokens for line in lines) == 60
    assert sum(line.failed for line in lines) == 1  # who leaves has not failed


@pytest.mark.usefixtures("kept")
def test_means_peaks_and_a_beginning() -> None:
    with opened() as db:
        line = usage(db)[0]
        late = usage(db, since="2026-01-06")
        with pytest.raises(KeyError):
            usage(db, by="1; DROP TABLE request")
    assert line.ttft_ms == pytest.approx(500 / 3)
    assert line.peak_bytes == 3000
    assert [one.requests for one in late] == [1]
    assert set(KEYS) == {"model", "client", "dialect", "day"}


@pytest.mark.usefixtures("kept")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage", "--by", "dialect", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line["name"] for line in told["dialects"]] == ["openai", "ollama"]
    console.cache_clear()
    assert run(["usage", "--by", "day"]) == 0
    shown = capsys.readouterr().out
    console.cache_clear()
    assert shown.splitlines()[0].split()[:2] == ["DAY", "REQUESTS"]
    assert "2026-01-07" in shown
