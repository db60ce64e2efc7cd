"""A server's first moments and its neighbours: loading while it serves, SIGHUP, a second one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.faults.whole import free_port
from tests.making import machine
from tests.server.making import fake, stock

from snugly.engine import calibrate_store
from snugly.engine.calibrate import default_tuning
from snugly.engine.calibrated import identity
from snugly.history import requests
from snugly.history.opening import opened
from snugly.model.spec import read_spec
from snugly.plan.calibration import Calibration, Sample, class_of
from snugly.server.serving import pool_of
from snugly.settings import settings

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@contextmanager
def serving(port: int, *arguments: str, switches: tuple[str, ...] = ()) -> Iterator[Any]:
    if not settings().store.exists():
        stock(settings().store)
    process = subprocess.Popen(
        [sys.executable, "-m", "snugly", "serve", "--port", str(port), *arguments],
        env={**os.environ, "SNUGLY_ENGINE_COMMAND": json.dumps(fake(*switches))},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            assert httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
            return
        except httpx2.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def waiting(port: int) -> int:
    ready = httpx2.get(f"http://127.0.0.1:{port}/ready", trust_env=False).json()
    return int(ready["requests_waiting"])


def ask(port: int) -> int:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return httpx2.post(url, json=body, timeout=60, trust_env=False).status_code


@posix
def test_sighup_while_the_first_model_loads_loses_no_request(own_folders: Path) -> None:
    port = free_port()
    with (
        serving(port, "-m", "tiny", switches=("--load-seconds", "3")) as process,
        ThreadPoolExecutor() as threads,
    ):
        answers(port)  # although the model is far from loaded
        asked = [threads.submit(ask, port) for _ in range(4)]
        deadline = time.monotonic() + 30
        while waiting(port) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        (own_folders / "config.toml").write_text("serve_body_bytes = 10\n")
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert not any(future.done() for future in asked)
        assert [future.result() for future in asked] == [200] * 4
        assert ask(port) == 413  # the settings were read
        with opened(settings().history) as db:
            assert [row.outcome for row in requests.recent(db, 4)][1:] == ["done"] * 3
        process.terminate()
        assert process.wait(20) == 0


def test_what_was_to_stay_and_does_not_load_ends_the_server() -> None:
    with serving(free_port(), "-m", "tiny", switches=("--die-loading", "no such thing")) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "could not load the model" in said


def test_a_second_server_on_the_same_history_is_refused_and_the_first_lives_on() -> None:
    port = free_port()
    with serving(port, switches=("--delay", "0.2")), ThreadPoolExecutor() as threads:
        answers(port)
        first = threads.submit(ask, port)
        time.sleep(0.5)
        with serving(free_port()) as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "Another `snugly serve` runs with this history." in said
        assert f"127.0.0.1:{port}" in said
        assert first.result() == 200
        with opened(settings().history) as db:
            assert [row.outcome for row in requests.recent(db, 2)] == ["done"]


def test_the_place_of_a_killed_server_can_be_taken() -> None:
    port = free_port()
    for _ in range(2):
        with serving(port):  # ends with SIGKILL
            answers(port)


async def test_what_was_measured_here_is_taken_when_a_model_is_loaded(tmp_path: Path) -> None:
    stock(tmp_path)
    spec = read_spec(str(next(tmp_path.rglob("*.gguf"))))
    config = replace(settings(), engine_command=fake(), store=tmp_path)
    box = machine(cores=4)
    own = replace(default_tuning(box, "xllamacpp"), threads=4, threads_batch=4)
    fewer = replace(own, threads=2, spin_rounds=500)
    samples = [Sample(n, own, 100.0, 10.0) for n in range(3)]
    samples += [Sample(n, fewer, 100.0, 20.0) for n in range(3)]
    known = Calibration(class_of(spec), own, tuple(samples))
    plans = []
    for kept in (None, known):
        if kept is not None:
            await asyncio.to_thread(calibrate_store.save, config.cache, identity(config, box), kept)
        async with pool_of(config, lambda: box) as pool:
            async with pool.lease(*_model(spec)) as lease:
                plans.append(lease.plan)
    before, after = plans
    assert (before.threads, before.spin_rounds) != (2, 500)
    assert (after.threads, after.spin_rounds) == (2, 500)
    assert any("Measured here" in why for why in after.why)


def _model(spec: Any) -> Any:
    from snugly.model.types import Installed, Provenance

    empty = Provenance("", "", "", "", 0, "")
    return Installed("test/tiny/tiny.gguf", spec.path, (spec.path,), empty, False), spec
