"""Row 9 and 10 of the faults: damaged model files through `show` and `run`.

Every mutant goes through the real command: in this process, so that a thousand of them
take a minute, but with everything behind it real; `run` starts the real engine for those
whose header still makes sense.
"""

import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from snugly.cli.app import run as snugly
from snugly.settings import settings

HEADER_BYTES = 1_785_664  # of SmolLM2 Q4_1: metadata, tokenizer, tensor list
INTERESTING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01\x00\x00\x00", b"\xff\xff\xff\xff",
               b"\x00\x00\x00\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff")  # fmt: skip


class Patient:
    """A copy of SmolLM2 that can be hurt in one place and healed again."""

    def __init__(self, whole: Path, path: Path) -> None:
        self.path = path
        path.write_bytes(whole.read_bytes())
        self.size = path.stat().st_size
        with whole.open("rb") as file:
            self._head = file.read(HEADER_BYTES)

    def hurt(self, at: int, what: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(what)

    def heal(self, at: int, length: int) -> None:
        self.hurt(at, self._head[at : at + length])


def places(head: bytes) -> dict[str, tuple[int, int]]:
    """Parts of the header worth hitting equally often, however long they are."""
    tokens = head.index(b"tokenizer.ggml.tokens")
    tensors = head.index(b"token_embd.weight") - 8
    return {
        "counts": (0, 24),
        "shape of the model": (24, tokens),
        "tokenizer": (tokens, tensors),
        "tensor list": (tensors, HEADER_BYTES),
    }


@pytest.fixture
def patient(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    monkeypatch.setenv("SNUGLY_ENGINE_START_SECONDS", "30")
    monkeypatch.setenv("SNUGLY_ENGINE_SILENCE_SECONDS", "30")
    settings.cache_clear()
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield Patient(smollm2, tmp_path / "hurt.gguf")


def call(capfd: pytest.CaptureFixture[str], *words: str) -> int:
    """Run one command here and check that it ended in words."""
    begun = time.monotonic()
    try:
        code = snugly(words)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err, err
    # 0 fine; 2 context or prompt out of range; 4 too large; 5 bad file; 6 engine; 8 too long
    assert code in (0, 2, 4, 5, 6, 8), (code, err)
    assert code == 0 or "error:" in err
    assert time.monotonic() - begun < 60
    return code


def both(capfd: pytest.CaptureFixture[str], path: Path) -> tuple[int, int]:
    shown = call(capfd, "show", str(path))
    # A short answer: what matters is that it loads, answers or is refused in words.
    ran = call(capfd, "run", "-m", str(path), "hi", "--max-tokens", "4", "--context", "512")
    return shown, ran


def engines() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if child.status() != "zombie"}


def test_mutated_headers(patient: Patient, capfd: pytest.CaptureFixture[str], soak: bool) -> None:
    rng = random.Random(20261120)
    parts = list(places(patient._head).values())
    seen: Counter[tuple[int, int]] = Counter()
    before = engines()  # the server that other tests share
    for number in range(1000 if soak else 60):
        begin, end = parts[number % len(parts)]
        what = rng.choice((*INTERESTING, rng.randbytes(1), rng.randbytes(4), rng.randbytes(8)))
        at = rng.randrange(begin, end - len(what))
        patient.hurt(at, what)
        seen[both(capfd, patient.path)] += 1
        patient.heal(at, len(what))
    assert engines() <= before
    assert seen[5, 5] > 0, seen
    assert seen[0, 0] > 0, seen
    with capfd.disabled():
        print(f"\n(show, run) exit codes of {sum(seen.values())} mutants: {dict(seen)}")
    # Healed, it is as good as new: every mutant was one change and no more.
    assert both(capfd, patient.path) == (0, 0)


def test_truncated_files(patient: Patient, capfd: pytest.CaptureFixture[str], soak: bool) -> None:
    rng = random.Random(20261120)
    lengths = [0, 1, 3, 4, 8, 16, 24, HEADER_BYTES - 1, HEADER_BYTES, patient.size - 1]
    lengths += [rng.randrange(HEADER_BYTES) for _ in range(45 if soak else 10)]
    lengths += [rng.randrange(HEADER_BYTES, patient.size) for _ in range(45 if soak else 5)]
    for length in sorted(lengths, reverse=True):
        with patient.path.open("r+b") as file:
            file.truncate(length)
        assert both(capfd, patient.path) == (5, 5)
    assert len(lengths) == (100 if soak else 25)


def test_a_tokenizer_array_of_the_wrong_type(
    patient: Patient, capfd: pytest.CaptureFixture[str]
) -> None:
    """The kind of damage that is easiest to get past a reader and hardest on an engine."""
    key = b"tokenizer.ggml.token_type"
    kind = patient._head.index(key) + len(key) + 4
    patient.hurt(kind, struct.pack("<I", 6))  # int32 -> float32, same width
    shown, ran = both(capfd, patient.path)
    assert shown == 0
    assert ran in (0, 6)
