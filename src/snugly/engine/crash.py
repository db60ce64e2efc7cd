"""Why an engine died, in words: a pure function of its exit status and last output."""

import re
import signal

from snugly.errors import EngineError

OUT_OF_MEMORY = "It ran out of memory."
# What engines print -> (cause, remedy). The first match wins.
_KNOWN = (
    (
        r"failed to allocate|cannot allocate memory|out of memory|bad_alloc|cudaMalloc failed",
        OUT_OF_MEMORY,
        "Lower --context, close other programs, or take a smaller model.",
    ),
    (
        r"unknown model architecture: '([^']*)'",
        "This engine does not know the architecture {0!r}.",
        "Update Snugly's engine (`pip install -U xllamacpp`), or take another model.",
    ),
    (
        r"missing tensor '([^']*)'",
        "The model file lacks the tensor {0!r}.",
        "Fetch the file again with `snugly pull`.",
    ),
    (
        r"unknown pre-tokenizer type: '([^']*)'",
        "This engine does not know the tokenizer {0!r}.",
        "Update Snugly's engine (`pip install -U xllamacpp`), or take another model.",
    ),
    (
        r"(tensor '[^']*' (?:data is not within|has wrong shape)[^\n]*)",
        "The model file is damaged: {0}.",
        "Fetch the file again with `snugly pull`.",
    ),
    (
        r"error loading model[^:\n]*: ([^\n]+)",
        "The model could not be loaded: {0}.",
        "Fetch the file again with `snugly pull`, or take another model.",
    ),
    (
        r"(?:GGML_ASSERT\(([^\n]+)\) failed)",
        "A check inside the engine failed: {0}.",
        "The model file may be damaged: `snugly models --verify` finds out.",
    ),
    (r"Address already in use", "Its port is taken by another program.", "Try again."),
    (
        r"failed to parse chat template|Jinja Exception: ([^\n]+)|Failed to parse ([^\n]*template)",
        "The model's chat template cannot be used.",
        "Take another copy of the model.",
    ),
)
_SIGNALS = {
    signal.SIGABRT: "It aborted (SIGABRT).",
    signal.SIGSEGV: "It crashed (SIGSEGV).",
    signal.SIGFPE: "It crashed (SIGFPE).",
    signal.SIGILL: "It used an instruction that this processor does not have (SIGILL).",
    signal.SIGTERM: "It was told to stop from outside (SIGTERM).",
}
# NTSTATUS codes, which Windows gives as exit statuses.
_WINDOWS = {
    0xC0000005: "It crashed (access violation).",
    0xC000001D: "It used an instruction that this processor does not have.",
    0xC00000FD: "It crashed (stack overflow).",
    0xC0000409: "It aborted.",
}
_AGAIN = "Try again; if it comes back, `snugly models --verify` finds damaged files."


def explain(returncode: int | None, tail: str) -> tuple[str, str]:
    """The cause and the remedy, from an exit status (negative: a signal) and stderr's tail."""
    for pattern, cause, remedy in _KNOWN:
        match = re.search(pattern, tail, re.IGNORECASE)
        if match is not None:
            return cause.format(*(_short(group) for group in match.groups(""))), remedy
    if returncode == -9:
        return _by_signal(9), (
            "Try again; if memory ran out, lower --context, close programs, or take a smaller"
            " model."
        )
    if returncode is not None and returncode < 0:
        return _by_signal(-returncode), _AGAIN
    if returncode in _WINDOWS:
        return _WINDOWS[returncode], _AGAIN
    last = _last_line(tail)
    said = f' Its last words: "{last}".' if last else ""
    status = "is still running" if returncode is None else f"ended with status {returncode}"
    return f"It {status}.{said}", _AGAIN


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine ended because there was not enough memory, as far as one can tell."""
    causes = (OUT_OF_MEMORY, _by_signal(9))
    return isinstance(error, EngineError) and error.because.startswith(causes)


def _by_signal(number: int) -> str:
    # SIGKILL does not exist on Windows, where exit statuses are never negative.
    if number == 9:
        return (
            "It was killed from outside (SIGKILL), by a person or by the system"
            " because memory ran out."
        )
    try:
        known = signal.Signals(number)
    except ValueError:  # a real-time signal
        return f"It was ended by signal {number}."
    return _SIGNALS.get(known, f"It was ended by {known.name}.")


def _short(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text.strip())
    return shown if len(shown) <= 160 else shown[:157] + "..."


def _last_line(tail: str) -> str:
    """The last error that llama.cpp logged, or else the last line."""
    logged = re.findall(r"^[\d.]+ E [^:]*: ([^\n]+)$", tail, re.MULTILINE)
    lines = logged or [line.strip() for line in tail.splitlines() if line.strip()]
    return _short(lines[-1]) if lines else ""
