"""Judging what runs: the settings, the engine, the models. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from snugly.doctor.types import Finding, bad, ok, warn


@dataclass(frozen=True, slots=True)
class SettingsFacts:
    """The settings file; `fault` is (what, why, remedy) of the first slip, or nothing."""

    path: str
    exists: bool
    fault: tuple[str, str, str] | None = None


def judge_settings(facts: SettingsFacts) -> Finding:
    """Whether the settings can be read as they are meant."""
    if facts.fault is not None:
        return bad("settings", *facts.fault)
    if not facts.exists:
        return ok("settings", f"Defaults: there is no {facts.path}.")
    return ok("settings", f"{facts.path} holds no slips.")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine that there is. `unusable` and `fails` are clauses, empty when all is well.

    `used` is whether it runs models; `needed` is the version that this Snugly asks for, where
    the installed one is older; `fails` is what it met when it was tried.
    """

    name: str
    used: bool
    version: str = ""
    path: str = ""
    unusable: str = ""
    needed: str = ""
    fails: str = ""
    replaced: bool = False  # by another program, in the settings


_RUNS = "`snugly engine use auto` takes what works; `snugly engine build` makes one that fits."


def judge_engine(facts: EngineFacts) -> Finding:
    """Whether an engine can run models here; one that is not used is at most a warning."""
    title = " ".join(part for part in (facts.name, facts.version, facts.path) if part)
    say = bad if facts.used else warn
    if facts.unusable:
        return say(
            "engine", f"The engine {title} cannot run here.", _sentence(facts.unusable), _RUNS
        )
    if facts.fails:
        return say(
            "engine", f"The engine {title} does not start.", _sentence(facts.fails),
            "Correct `engine_command` in the settings, or remove it." if facts.replaced
            else f"`pip install --force-reinstall {facts.name}`" if not facts.path else _RUNS,
        )  # fmt: skip
    if facts.needed:
        return say(
            "engine", f"The engine {title} is too old.",
            f"This Snugly was made for {facts.needed} or newer.",
            f'`pip install --upgrade "{facts.name}>={facts.needed}"`',
        )  # fmt: skip
    return ok("engine", f"{title} {'runs models' if facts.used else 'could run models'}.")


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:].rstrip('.')}."


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One thing in the store. `problem` is a sentence, empty when it is sound.

    `checked` is "size and header" or "every byte"; `partial` a download that would resume.
    """

    ref: str
    problem: str = ""
    remedy: str = ""
    partial: bool = False


def judge_models(models: Sequence[ModelFacts], deep: bool) -> list[Finding]:
    """Whether what is installed can be trusted."""
    found = []
    for model in models:
        if model.problem:
            say = warn if model.partial else bad
            cannot = "is not whole yet" if model.partial else "cannot be used"
            found.append(say("models", f"{model.ref} {cannot}.", model.problem, model.remedy))
    if found:
        return found
    if not models:
        return [ok("models", "No model is installed yet; `snugly pull smollm2` fetches one.")]
    how = "every byte compared with what was downloaded" if deep else "size and header"
    count = f"{len(models)} models are" if len(models) > 1 else "One model is"
    return [ok("models", f"{count} sound ({how}).")]
