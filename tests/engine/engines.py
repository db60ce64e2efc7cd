"""The engines that the conformance suite runs: those that are here."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import FAKE_ENGINE

from snugly.engine.conformance import LACKS
from snugly.engine.llama_cpp import LlamaCpp
from snugly.engine.native import NativeLlama
from snugly.engine.native_found import look_at
from snugly.engine.types import Engine

START, SILENCE = 300.0, 60.0  # machines that test are often busy
# What the fake engine of the tests does not pretend to.
FAKE_LACKS = frozenset({
    "complete", "stop", "limit", "schema", "grammar", "tokenize", "prefix", "cached", "seed",
    "cancel", "at_once", "logprobs", "tools", "embed", "memory",
})  # fmt: skip
_SLOWLY = ("--pieces", "30", "--delay", "0.03")  # or it is done before anything happens to it
NAMES = ("fake", "xllamacpp", "native", "openvino")


def why_not_here(name: str) -> str:
    """Why an engine cannot be tested on this machine; empty when it can."""
    if name == "native" and not _server():
        return "no llama-server: name one with SNUGLY_TEST_LLAMA_SERVER"
    if name == "openvino" and find_spec("openvino_genai") is None:
        return "openvino-genai is not installed"
    return ""


def engine(name: str, silence: float = SILENCE) -> Engine:
    """One engine, as the registry would make it."""
    if name == "fake":
        return LlamaCpp(START, silence, (sys.executable, str(FAKE_ENGINE), *_SLOWLY))
    if name == "native":
        folder = Path(os.environ["SNUGLY_CACHE"])
        return NativeLlama(START, silence, look_at(_server(), "settings", folder))
    if name == "openvino":
        from snugly.engine.openvino import OpenVino

        return OpenVino(START, silence)
    return LlamaCpp(START, silence)


def lacks(name: str) -> frozenset[str]:
    """The abilities that an engine declares not to have."""
    return FAKE_LACKS if name == "fake" else frozenset(LACKS[name])


def _server() -> str:
    return os.environ.get("SNUGLY_TEST_LLAMA_SERVER", "")
