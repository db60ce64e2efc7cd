"""Rows about model files: damaged headers, cut files, hostile templates, pickles."""

import asyncio
import os
import pickle
import random
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from snugly.model.spec import read_spec
from tests.conftest import WEIGHTS
from tests.faults.figure import Figure
from tests.making import gguf_bytes
from tests.process.test_damaged_models import HEADER_BYTES, INTERESTING, Patient, places
from tests.server.making import Served, served


def weights() -> Path | None:
    """SmolLM2, where it was fetched for the tests."""
    return next(iter(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf")), None)


def _patient(folder: Path) -> Patient:
    whole = weights()
    assert whole is not None
    place = folder / "test" / "hurt"
    place.mkdir(parents=True)
    return Patient(whole, place / "hurt.gguf")


async def _shown(it: Served, whole: bool = True) -> tuple[int, str]:
    """What the server says of the file as it is now; `whole`: with the vocabulary."""
    it.service.shelf.forget()
    if whole:
        answer = await it.client.post("/api/show", json={"model": "hurt"}, timeout=60)
    else:
        answer = await it.client.get("/v1/models/hurt", timeout=60)
    return answer.status_code, answer.text


async def mutants(soak: bool) -> Figure:
    """Row 9: one change each, equally often in each part of the header, through the server."""
    count, seen, odd = 5000 if soak else 40, Counter[int](), 0
    dice = random.Random(9)
    with TemporaryDirectory() as name:
        patient = _patient(Path(name))
        parts = list(places(patient._head).values())
        async with served(store=Path(name)) as it:
            for number in range(count):
                begin, end = parts[number % len(parts)]
                what = dice.choice((*INTERESTING, dice.randbytes(1), dice.randbytes(8)))
                at = dice.randrange(begin, end - len(what))
                patient.hurt(at, what)
                status, text = await _shown(it, whole=number % 10 == 0)
                seen[status] += 1
                odd += status not in (200, 422) or (status == 422 and "hurt.gguf" not in text)
                patient.heal(at, len(what))
            healed, _ = await _shown(it)
    counts = ", ".join(f"{many:,} answered {status}" for status, many in sorted(seen.items()))
    return Figure(
        9, "GGUF mutants of SmolLM2's header", "clear 422 or, where it still makes sense, 200",
        f"{count:,} mutants, {counts}, {odd} otherwise; healed: {healed}",
        not odd and healed == 200 and seen[422] > 0,
    )  # fmt: skip


async def truncated(soak: bool) -> Figure:
    """Row 10: an empty file, cuts at every border, cuts anywhere."""
    dice, named, count = random.Random(10), 0, 100 if soak else 12
    with TemporaryDirectory() as name:
        patient = _patient(Path(name))
        lengths = [0, 1, 3, 4, 8, 16, 24, HEADER_BYTES - 1, HEADER_BYTES, patient.size - 1]
        lengths += [dice.randrange(patient.size) for _ in range(count - len(lengths))]
        async with served(store=Path(name)) as it:
            for length in sorted(lengths, reverse=True):
                os.truncate(patient.path, length)
                status, text = await _shown(it)
                named += status == 422 and "hurt.gguf" in text
    return Figure(
        10, "truncated or empty GGUF", "422 naming the file", f"{named} of {count}", named == count
    )


# What a template could try. Each must end in an answer, a refusal or a deadline.
TEMPLATES = {
    "python's classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a command": "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "a command by name": "{{ lipsum.__globals__['os'].system('touch MARK') }}",
    "an import": "{% import 'os' as os %}{{ os.system('touch MARK') }}",
    "a file": "{% include '/etc/passwd' %}",
    "another file": "{% extends '/etc/passwd' %}",
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "deep brackets": "{{ " + "(" * 150 + "1" + ")" * 150 + " }}",
    "an open block": "{% for x in messages %}",
    "a refusal": "{{ raise_exception('no') }}",
    "nothing": "",
}
_SIGNS = ("<class", "root:x:0", "subprocess.Popen")


async def templates(soak: bool) -> Figure:
    """Row 11 on the real engine: hostile chat templates in a model file, and in a request."""
    names = list(TEMPLATES) if soak else ["python's classes", "a command", "an open block"]
    said, escapes, unwell = Counter[int](), 0, 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        patient, mark = _patient(folder), folder / "mark"
        own = read_spec(str(patient.path)).chat_template.encode()
        at = patient._head.index(own)
        async with served(
            store=folder, look=None, engine_command=(), engine_start_seconds=30.0,
            engine_silence_seconds=10.0,
        ) as it:  # fmt: skip
            for trick in names:
                text = TEMPLATES[trick].replace("MARK", str(mark)).encode()
                patient.hurt(at, text + b"{#" + b"-" * (len(own) - len(text) - 4) + b"#}")
                it.service.shelf.forget()
                answer = await it.chat("hi", model="hurt", max_tokens=8)
                said[answer.status_code] += 1
                escapes += mark.exists() or any(sign in answer.text for sign in _SIGNS)
                unwell += (await it.client.get("/health")).status_code != 200
                await it.service.pool.unload("test/hurt/hurt.gguf")
                for seat in it.service.pool._seats.values():
                    seat.crashes.clear()
            patient.heal(at, len(own))
            it.service.shelf.forget()
            bomb = TEMPLATES["loops in loops"]
            answer = await it.chat("hi", model="hurt", max_tokens=8, chat_template=bomb)
            unwell += answer.status_code != 200  # it is not looked at
    counts = ", ".join(f"{many} answered {status}" for status, many in sorted(said.items()))
    return Figure(
        11, "chat template that breaks out, loops or nests, SmolLM2",
        "refused, or stopped by a deadline in the engine's process",
        f"{len(names)} templates, {counts}, {escapes} escapes; one in a request was not looked at;"
        f" server unwell {unwell} times", not escapes and not unwell,
    )  # fmt: skip


class _Trap:
    """What a pickle does when it is loaded."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.mark, "w")


async def pickles(soak: bool) -> Figure:
    """Row 40: pickled weights and adapters, by every command that takes a file."""
    names = ["pytorch_model.bin", "adapter_model.bin", "model.pt", "model.pth", "model.ckpt",
             "model.pkl", "model.gguf"]  # fmt: skip
    asked = loads = taken = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        mark, good = folder / "mark", folder / "good.gguf"
        good.write_bytes(gguf_bytes())
        # The same words with a good file, so that a refusal is one of what the file holds.
        sound = [
            ("show",),
            ("inspect",),
            ("quantize", "--out", str(folder / "q.gguf"), "--to", "q8_0"),
        ]
        well = [await _command(folder, verb, str(good), *more) for verb, *more in sound]
        for file in names if soak else names[:2]:
            place = folder / file.replace(".", "-")
            place.mkdir()
            path = place / file
            path.write_bytes(pickle.dumps(_Trap(str(mark))))
            (place / "config.json").write_text('{"model_type": "llama"}')
            calls = [
                ("run", "-m", str(path), "hi"), ("show", str(path)), ("inspect", str(path)),
                ("quantize", str(path), "--out", str(folder / "out.gguf"), "--to", "q8_0"),
                ("quantize", str(place), "--out", str(folder / "out.gguf"), "--to", "q8_0"),
                ("compare", str(place), str(place)), ("compare", str(path), str(path)),
                ("pull", str(path)), ("footprint", str(place)),
            ]  # fmt: skip
            for words in calls if soak else calls[:3]:
                code = await _command(folder, *words)
                asked += 1
                taken += code == 0 and words[0] != "footprint"  # which reads config.json alone
                loads += mark.exists()
                mark.unlink(missing_ok=True)
    return Figure(
        40, "pickled weights and adapters (`.bin`, `.pt`, ...)", "refused",
        f"{asked} commands, {taken} took it, {loads} loads; of a good file {well.count(0)} of"
        f" {len(well)} take it", not loads and not taken and not any(well),
    )  # fmt: skip


async def _command(folder: Path, *words: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snugly", *words,
        env={**os.environ, "SNUGLY_STORE": str(folder / "store")}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await asyncio.wait_for(process.wait(), 120)


ROWS = (mutants, truncated, templates, pickles) if weights() else (pickles,)
