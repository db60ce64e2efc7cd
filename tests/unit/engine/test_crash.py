import signal

import pytest

from snugly.engine.crash import explain


@pytest.mark.parametrize(
    ("returncode", "tail", "cause"),
    [
        (-9, "", "killed from outside (SIGKILL)"),
        (-signal.SIGSEGV, "", "crashed (SIGSEGV)"),
        (-signal.SIGILL, "", "does not have (SIGILL)"),
        (-6, "ggml.c:1: GGML_ASSERT(n > 0) failed\n", "A check inside the engine failed: n > 0"),
        (
            1,
            "llama_model_load: error loading model: unknown model architecture: 'foo'\n",
            "does not know the architecture 'foo'",
        ),
        (-6, "alloc: failed to allocate buffer of size 99\n", "ran out of memory"),
        (1, "std::bad_alloc", "ran out of memory"),
        (1, "error loading model: missing tensor 'output.weight'", "lacks the tensor"),
        (-35, "", "ended by signal 35"),
        (0xC0000005, "", "crashed (access violation)"),
        (3, "noise\nlast words \x1b[31m", 'status 3. Its last words: "last words ?[31m"'),
        (
            1,
            "0.00.1 E srv  start: couldn't bind HTTP server socket\nTraceback\nRuntimeError: x\n",
            "couldn't bind HTTP server socket",
        ),
    ],
)
def test_the_cause_is_told_in_words(returncode: int, tail: str, cause: str) -> None:
    why, remedy = explain(returncode, tail)
    assert cause in why
    assert remedy
    assert why.isprintable()
