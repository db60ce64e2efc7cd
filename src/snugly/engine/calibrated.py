"""What was measured of this machine's engines, as the planner gets it."""

import hashlib
import json
from importlib import metadata

from snugly.engine import calibrate_store
from snugly.engine.drafters import drafter_for
from snugly.engine.native_found import find
from snugly.engine.registry import ENGINES, NATIVE, WHEEL
from snugly.engine.speculating import guess_for
from snugly.errors import EngineError
from snugly.machine.power import strained
from snugly.machine.rates import fingerprint_text
from snugly.machine.types import Machine
from snugly.model.build import build_of
from snugly.model.store import Store
from snugly.model.types import ModelSpec
from snugly.plan.calibration import Calibration, class_of, tuned
from snugly.plan.polite import politely
from snugly.plan.speculation import speculating
from snugly.plan.threads import threads
from snugly.plan.types import Plan
from snugly.settings import Settings

_GUESSING = (WHEEL, NATIVE)  # llama.cpp's; OpenVINO has a setting of its own


def identity(settings: Settings, machine: Machine) -> str:
    """What must be the same for a calibration to count: hardware, engines, and free threads.

    What was measured beside other programs says nothing about a quiet machine.
    """
    try:
        native = find(settings)
    except EngineError:
        native = None
    try:
        wheel = metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        wheel = ""
    told = [wheel, [native.path, native.version, native.file_bytes] if native else []]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
    return f"{fingerprint_text(machine)} {digest} {threads(machine)[0]}"


def calibration_for(settings: Settings, machine: Machine, spec: ModelSpec) -> Calibration | None:
    """What was measured for models like `spec` on the machine as it is; None: nothing yet."""
    if not calibrate_store.path_of(settings.cache).exists():
        return None
    return calibrate_store.load(settings.cache, identity(settings, machine), class_of(spec))


def calibrated(
    plan: Plan, spec: ModelSpec, machine: Machine, settings: Settings, task: str, engine: str
) -> Plan:
    """`plan` with what was measured to be faster for `task`; as it is where nothing was.

    Where there is room, it guesses ahead what stood before, unless that has cost time so far.
    """
    known = calibration_for(settings, machine, spec)
    plan = plan if known is None else tuned(plan, known, task, engine)
    if why := _spare(settings):
        plan = politely(plan, why)
    if not spec.is_causal or task in ("embed", "rerank") or engine not in _GUESSING:
        return plan
    if plan.projector:
        return plan  # `speculating` would refuse: no drafter needs to be looked for
    build = build_of(spec)
    guess = guess_for(plan.model_path, settings)
    if guess.most:
        facts = ENGINES[engine][0](machine)
        drafter = drafter_for(plan, spec, machine, facts, Store(settings.store))
        both = guess_for(plan.model_path, settings, drafter)
        guessing = speculating(plan, build, both)
        if guessing is not plan:
            return guessing
    return speculating(plan, build, guess)


def _spare(settings: Settings) -> str:
    """Why the machine is to be spared, in words; empty: it is not."""
    if settings.polite == "on":
        return "that was asked for"
    return strained() if settings.polite == "battery" else ""
