"""Asks the process that runs models for a task, and hears its answers."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from typing import IO, Any

from snugly import errors
from snugly.errors import EngineError, SnuglyError


def answers(
    config: dict[str, Any], worker: str = "snugly.quantize.measure_worker"
) -> Generator[dict[str, Any], None, None]:
    """Each line of the answer to a task, but for the last. Close it to end the process.

    Raises: what the task raised; EngineError when the process dies.
    """
    threads = str(config.get("threads", 1))
    # Large arrays come and go: the C library gives each back to the system and has the next one
    # filled with zeros anew, a fifth of the time, unless told to keep them (glibc mallopt).
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    if config.get("task") in ("checkpoint", "ask"):
        kept = {}  # whole models of transformers come and go once, and are given back
    # Threads of torch that wait must sleep: spinning on cores that others used too, SmolLM2 in
    # NF4 took 146 s for 8 tokens instead of 1.1. No kernel of the hub is ever fetched and run.
    torch = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet = {**kept, **torch, "GGML_NO_BACKTRACE": "1",
             "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": threads}  # fmt: skip
    with tempfile.TemporaryFile() as heard:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=heard,
            env={**os.environ, **quiet},
            start_new_session=True,  # Ctrl-C is ours to answer
        )
        try:
            yield from _hear(process, config, heard)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()


def _hear(
    process: "subprocess.Popen[bytes]", config: dict[str, Any], heard: IO[bytes]
) -> Generator[dict[str, Any], None, None]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(config).encode() + b"\n")
        process.stdin.flush()
    except OSError as error:
        raise _died(process, heard) from error
    for line in process.stdout:
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise _error(answer)
        if "end" in answer:
            return
        yield answer
    raise _died(process, heard)


def _error(answer: dict[str, Any]) -> SnuglyError:
    kind = getattr(errors, str(answer["failed"]), EngineError)
    error: SnuglyError = kind(
        answer.get("problem", ""), answer.get("because", ""), answer.get("remedy", "")
    )
    return error


def _died(process: "subprocess.Popen[bytes]", heard: IO[bytes]) -> EngineError:
    code = process.wait()
    heard.seek(0, os.SEEK_END)
    heard.seek(max(heard.tell() - 2000, 0))
    last = heard.read().decode(errors="replace").strip().splitlines()
    why = "The system stopped it, most likely because memory ran out" if code == -9 else ""
    return EngineError(
        "The process that runs the models died.",
        f"{why or f'It ended with {code}'}" + (f": {last[-1]}" if last else "") + ".",
        "Stop other programs and try again; with smaller files if it happens again.",
    )
