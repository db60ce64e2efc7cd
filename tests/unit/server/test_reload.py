"""What changes while the server runs, what the supervisor is told, what the log holds."""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snugly.cli.logs import readable
from snugly.history.requests import Asked
from snugly.server import notify
from snugly.server.logs import JsonLines, Words, log_path, logged, request_fields
from snugly.server.record import Record, read_record, remove_record, write_record
from snugly.server.reload import LIVE, compare
from snugly.settings import NAMES, settings


def test_what_changes_at_once_and_what_waits() -> None:
    old = settings()
    new = replace(old, keep_alive_seconds=7.0, serve_port=9, store=Path("/x"))
    changes = compare(old, new)
    assert changes.live == {"keep_alive_seconds": 7.0}
    assert changes.restart == ("serve_port", "store")
    assert changes.words == (
        "Changed: keep_alive_seconds. Only after a restart: serve_port, store."
    )
    assert compare(old, old).words == "The settings are as they were."
    assert set(NAMES) >= LIVE


def test_sd_notify_over_both_kinds_of_names(tmp_path: Path) -> None:
    for name in (str(tmp_path / "s"), f"@snugly-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.bind(name.replace("@", "\0"))
            environment = {"NOTIFY_SOCKET": name}
            assert notify.tell(notify.READY, notify.status("a\nb"), environment=environment)
            assert line.recv(1000) == b"READY=1\nSTATUS=a b"
    assert not notify.tell(notify.READY, environment={})
    assert not notify.tell(notify.READY, environment={"NOTIFY_SOCKET": "/no/such"})


def test_the_watchdog_is_fed_twice_as_often_as_must_be() -> None:
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "60000000"}) == 30.0
    mine = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    assert notify.watchdog_seconds(mine) == 1.0
    assert notify.watchdog_seconds(mine | {"WATCHDOG_PID": "1"}) is None
    assert notify.watchdog_seconds({}) is None


ASKED = Asked(
    "2026-01-01T00:00:00.000+00:00", "test/tiny", "127.0.0.1", "openai", "/v1/chat/completions",
    "done", status=200, prompt_tokens=5, completion_tokens=8, ttft_ms=12.34, total_ms=50.0,
    prompt="my secret words", answer="my secret answer",
)  # fmt: skip


def record_of(message: str, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelname": "INFO", **more})


def test_a_request_in_the_log_has_counts_and_no_words() -> None:
    fields = request_fields("ab12", "/v1/chat/completions", ASKED)
    line = JsonLines().format(record_of("x", fields=fields))
    told = json.loads(line)
    assert told["request"] == "ab12"
    assert told["prompt_tokens"] == 5
    assert told["ttft_ms"] == 12.3
    assert "secret" not in line
    assert readable(line).endswith(
        "127.0.0.1 /v1/chat/completions test/tiny 200 done 5 in, 8 out, first token 12 ms, 50 ms"
    )


def test_a_client_s_own_words_in_an_error_stay_out() -> None:
    from dataclasses import replace

    bad = replace(ASKED, outcome="refused", status=404, error="There is no model called 'sk-key'.")
    assert "sk-key" not in str(request_fields("a", "/x", bad))
    broken = replace(bad, outcome="failed", status=503, error="The engine crashed.")
    assert request_fields("a", "/x", broken)["error"] == "The engine crashed."


def test_an_unexpected_error_is_told_by_kind_and_place() -> None:
    import sys

    try:
        raise KeyError("my secret words")
    except KeyError:
        record = record_of("a bug of ours in %s", args=("/x",), exc_info=sys.exc_info())
    for formatter in (JsonLines(), Words()):
        line = formatter.format(record)
        assert "KeyError" in line
        assert "test_reload.py" in line
        assert "secret" not in line
    assert readable("no JSON at all") == "no JSON at all"


def test_the_log_rotates_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snugly.server import logs

    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    path = tmp_path / "server.log"
    with logged(path, as_json=True, verbose=False):
        for number in range(200):
            logging.getLogger("snugly.server").info("line %d", number)
    files = sorted(tmp_path.glob("server.log*"))
    assert len(files) == logs.FILES
    assert all(file.stat().st_size <= 2000 for file in files)
    assert json.loads(path.read_text().splitlines()[-1])["message"] == "line 199"


def test_a_full_disk_does_not_stop_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.log"
    path.symlink_to("/dev/full")
    with logged(path, as_json=False, verbose=False):
        for _ in range(20):
            logging.getLogger("snugly.server").info("x")
    assert capsys.readouterr().err.count("cannot be written") == 1


@pytest.mark.skipif(os.name != "posix", reason="a pipe that is full")
def test_a_pipe_that_nobody_reads_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    written: list[int] = []

    def work() -> None:
        with logged(tmp_path / "server.log", as_json=True, verbose=False):
            for number in range(3000):  # 300 kB: a pipe holds 64
                logging.getLogger("snugly").error("%s %s", "x" * 50, number)
            written.append(1)

    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(20)
        assert written
        os.set_blocking(reading, False)  # read now, so that nobody waits in a write for ever
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 65536)
            time.sleep(0.002)
    os.close(reading)
    assert len((tmp_path / "server.log").read_text().splitlines()) == 3000


def test_a_record_of_a_server_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    import time

    path = tmp_path / "server.json"
    assert read_record(path) is None
    mine = Record(os.getpid(), "127.0.0.1", 1, False, "0", time.time())
    write_record(path, mine)
    assert read_record(path) == mine
    write_record(path, Record(os.getpid(), "127.0.0.1", 1, False, "0", 5.0))
    assert read_record(path) is None  # this process began after that: another had its number
    path.write_text("{}")
    assert read_record(path) is None
    remove_record(path)
    assert not path.exists()
    assert log_path(tmp_path / "history.db") == tmp_path / "server.log"
