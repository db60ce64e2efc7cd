"""The examination: every check in one list, and none of them able to stop the others."""

import os
from collections.abc import Callable, Iterator, Mapping

from snugly.doctor import read_box, read_models, read_place, read_serving
from snugly.doctor.box import judge_cores, judge_gpus, judge_memory
from snugly.doctor.models import judge_engine, judge_models, judge_settings
from snugly.doctor.place import (
    judge_clock,
    judge_disk,
    judge_history,
    judge_private,
    judge_store,
)
from snugly.doctor.serving import judge_leftovers, judge_port, judge_proxy, judge_service
from snugly.doctor.types import Finding, Patient, warn
from snugly.machine.detect import detect
from snugly.machine.host import Host, NoAnswer, Task
from snugly.model.progress import Progress, Silent

# A disk on a stopped network answers never; hashing models takes as long as it takes.
CHECK_SECONDS = 60.0

Check = Callable[[Patient], list[Finding]]


def _store(patient: Patient) -> list[Finding]:
    return judge_store(read_place.read_store(patient.config.store))


def _disk(patient: Patient) -> list[Finding]:
    return [judge_disk(facts) for facts in read_place.read_disks(patient.config)]


def _models(patient: Patient) -> list[Finding]:
    return judge_models(read_models.read_models(patient), patient.deep)


def _engine(patient: Patient) -> list[Finding]:
    return [judge_engine(facts) for facts in read_models.read_engines(patient)]


def _gpu(patient: Patient) -> list[Finding]:
    used = read_models.computes_on(patient)
    return judge_gpus(read_box.read_gpus(patient, used))


def _cores(patient: Patient) -> list[Finding]:
    return [judge_cores(read_box.read_cores(patient))]


def _memory(patient: Patient) -> list[Finding]:
    return judge_memory(read_box.read_memory(patient, read_models.smallest(patient)))


def _port(patient: Patient) -> list[Finding]:
    return [judge_port(read_serving.read_port(patient.config))]


def _service(patient: Patient) -> list[Finding]:
    return [judge_service(read_serving.read_service(patient.host.env))]


def _proxy(patient: Patient) -> list[Finding]:
    host = patient.config.serve_host
    return [judge_proxy(patient.host.env, "127.0.0.1" if host in ("0.0.0.0", "::") else host)]


def _leftovers(patient: Patient) -> list[Finding]:
    return [judge_leftovers(*read_serving.read_leftovers())]


def _history(patient: Patient) -> list[Finding]:
    return [judge_history(read_place.read_history(patient.config.history, patient.deep))]


def _private(patient: Patient) -> list[Finding]:
    return judge_private(read_place.read_private(patient.config.history))


def _clock(patient: Patient) -> list[Finding]:
    return [judge_clock(read_place.read_clock(patient.config.history))]


# In the order of what the others stand on. "settings" comes before all of them.
CHECKS: Mapping[str, Check] = {
    "clock": _clock,
    "disk": _disk,
    "store": _store,
    "history": _history,
    "private files": _private,
    "models": _models,
    "engine": _engine,
    "gpu": _gpu,
    "memory": _memory,
    "cores": _cores,
    "port": _port,
    "service": _service,
    "proxy": _proxy,
    "leftovers": _leftovers,
}


def examine(
    deep: bool = False, progress: Progress | None = None, host: Host | None = None
) -> Iterator[Finding]:
    """Everything that was looked at, as it is found. Nothing is changed, nobody is contacted.

    `deep` compares every byte of the models with what was downloaded. A check that fails or
    hangs is a finding itself.
    """
    host = host or Host(env=dict(os.environ))
    config, facts = read_models.read_settings()
    yield judge_settings(facts)
    machine = detect(config.store, host)
    patient = Patient(config, machine, host, deep, progress or Silent())
    for name, check in CHECKS.items():
        yield from guarded(name, check, patient)


def guarded(
    name: str, check: Check, patient: Patient, seconds: float = CHECK_SECONDS
) -> list[Finding]:
    """What one check finds, or that it could not be made."""
    task = Task(f"The check of {name}", lambda: check(patient))
    try:
        return task.result(86400.0 if patient.deep else seconds)
    except NoAnswer as error:
        return [warn(name, f"{error}.", "A disk or a driver may hang.", "Look at `dmesg`.")]
    except Exception as error:  # one check must not hide what the others find
        why = f"{type(error).__name__}: {error}"
        return [warn(name, "This could not be checked.", why, "Please report it.")]
