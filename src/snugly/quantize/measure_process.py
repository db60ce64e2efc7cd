"""Asks the process that runs models for a task, and hears its answers."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from functools import lru_cache
from typing import IO, Any

from snugly import errors
from snugly.errors import EngineError, SnuglyError
from snugly.machine.host import Host

# What OpenBLAS's kernels of this name are compiled for (its Makefile.x86_64: skylake-avx512).
_WIDE, _WIDE_FLAGS = "SkylakeX", {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


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
    quiet = {**kept, **torch, **_wider(), "GGML_NO_BACKTRACE": "1",
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


@lru_cache(maxsize=1)
def _wider() -> dict[str, str]:
    """What makes OpenBLAS use the registers of 512 bits that newer processors of AMD have.

    numpy 2.4.6 has OpenBLAS 0.3.31, which knows no Zen 5 and takes kernels of 256 bits: 122
    instead of 220 billion operations per second and core (EPYC 9005). A person's choice stands.
    """
    text = Host().read("/proc/cpuinfo") or ""
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    wide = "AuthenticAMD" in text and set(flags.split()) >= _WIDE_FLAGS
    return {"OPENBLAS_CORETYPE": _WIDE} if wide and "OPENBLAS_CORETYPE" not in os.environ else {}


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
