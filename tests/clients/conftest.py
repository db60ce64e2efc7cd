"""`snugly serve` as a person runs it, with the real engine, for the tests of clients."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.clients.encoders import make_encoder

CHAT, CODER = "smollm2", "Qwen/Qwen2.5-Coder-0.5B-Instruct"
ENCODER, RANKER = "test/encoder", "test/ranker"
# A coder that fills in the middle and calls tools is 469 MiB: too much to fetch for a test.
CODER_FILE = os.environ.get("SNUGLY_TEST_CODER", "")
_START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A running `snugly serve`."""

    url: str
    token: str


def _linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all clients: SmolLM2, two encoders, and a coder where there is one."""
    own = tmp_path_factory.mktemp("served")
    store = own / "store"
    _linked(smollm2, store / "HuggingFaceTB" / "SmolLM2-135M-Instruct" / smollm2.name)
    for name, ranks in (("encoder", False), ("ranker", True)):
        folder = store / "test" / name
        folder.mkdir(parents=True)
        make_encoder(folder / f"{name}.gguf", ranks=ranks)
    if CODER_FILE:
        name = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
        _linked(Path(CODER_FILE), store / CODER / name)
    port = _free_port()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("SNUGLY_")},
        "SNUGLY_STORE": str(store),
        "SNUGLY_HISTORY": str(own / "history.db"),
        "SNUGLY_CACHE": str(own / "cache"),
        "SNUGLY_CONFIG": str(own / "config.toml"),
    }
    (own / "config.toml").write_text("")
    command = [sys.executable, "-m", "snugly", "serve", "-m", CHAT, "--port", str(port)]
    with open(own / "log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _until_healthy(url, process, own / "log")
        yield Server(url, (own / "server.token").read_text().strip())
    finally:
        process.terminate()
        process.wait(30)


def _until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def coder() -> str:
    """The coder's name, where there is one."""
    if not CODER_FILE:
        pytest.skip("SNUGLY_TEST_CODER names no GGUF of Qwen2.5-Coder-0.5B-Instruct")
    return CODER
