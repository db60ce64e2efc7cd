"""From a reference to a running model: find or fetch, plan, start."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snugly.engine import offers
from snugly.engine.registry import DEFAULT, ENGINES
from snugly.errors import EngineError, HistoryError, SnuglyError, UnknownModel, UserError
from snugly.history.measurements import recent
from snugly.machine.detect import detect
from snugly.machine.load import Clock
from snugly.machine.rates import fingerprint_text, load_rates
from snugly.machine.types import Machine
from snugly.model import catalog
from snugly.model.lookup import find, short_name
from snugly.model.progress import Progress
from snugly.model.refs import DEFAULT_REF, RefKind, parse
from snugly.model.spec import read_spec
from snugly.model.store import Store
from snugly.model.types import Installed, ModelSpec
from snugly.plan.box import Box, box_of
from snugly.plan.choose import check, check_cache, plan_of, stretched
from snugly.plan.remedy import refusal, rejected
from snugly.plan.search import best_way, key, survey
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections, corrections
from snugly.plan.tasks import task_named
from snugly.plan.types import EngineFacts, Fit, Need, Placement, Plan
from snugly.settings import Settings, settings
from snugly.units import GiB, format_bytes, format_count

if TYPE_CHECKING:
    from snugly.engine.types import Running

Say = Callable[[str], None]
_TEACHING = 200  # latest runs that are looked at


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answers of a model are best drawn, where the catalogue knows; else None."""

    temperature: float | None = None
    repeat_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """What a plan was made of, so that its run can teach the next one."""

    box: Box
    fit: Fit
    machine: Machine

    @property
    def placement(self) -> Placement:
        """Where the layers are computed; over one memory there is no choice."""
        return Placement() if len(self.box.pools) == 1 else self.fit.placement


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is here and has a plan, not started yet."""

    installed: Installed
    spec: ModelSpec
    plan: Plan
    sampling: Sampling
    name: str  # the shortest that a person would call it by
    way: Way | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """A model that is ready to answer, and what led to it."""

    running: "Running"
    plan: Plan
    installed: Installed
    sampling: Sampling
    name: str  # the shortest that a person would call it by
    engine: str  # its name
    way: Way | None = None


def _silent(_: str) -> None:
    """Say nothing."""


def prepare(
    ref: str | None,
    *,
    context: int | None = None,
    kv_type: str | None = None,
    polite: bool = False,
    say: Say = _silent,
    progress: Progress | None = None,
    begun: Clock | None = None,
) -> Prepared:
    """Find the model that `ref` names, fetching it when it is not here, and plan it.

    None means the best installed model for this machine, or the embedded default when
    nothing is installed. `polite`: as the setting `polite = "on"`. Blocks; call it outside the
    event loop, so that Ctrl-C works.

    Raises: UserError, UnknownModel, BadModelFile, DoesNotFit, DownloadError, EngineError.
    """
    config, need = settings(), Need(context=context, kv_type=kv_type)
    config = replace(config, polite="on") if polite else config
    check_cache(need)
    store = Store(config.store)
    machine = measured_machine(config, begun)
    _check_engine(machine, config)
    if ref is not None:
        prepared = _planned(_named(ref, store, config, say, progress), machine, need)
    elif (chosen := _best_installed(store, machine, need, say)) is not None:
        prepared = chosen
    else:
        some = "None of the installed models can be used" if store.installed() else ""
        say(f"{some or 'No model is installed yet'}: fetching the small default, {DEFAULT_REF}.")
        prepared = _planned(_fetched(DEFAULT_REF, store, config, progress), machine, need)
        _suggest(prepared, machine, say)
    if not prepared.spec.chat_template:
        say(
            f"{prepared.spec.name} has no chat template: it was not made to answer, only to"
            " continue text. Take an instruct or chat model for answers."
        )
    from snugly.engine.calibrated import calibrated  # here: `snugly plan` needs none of it

    engine = engine_facts(machine).name
    plan = calibrated(prepared.plan, prepared.spec, machine, config, need.task, engine)
    return replace(prepared, plan=plan, name=_called(prepared.installed, store))


def measured_machine(config: Settings, begun: Clock | None = None) -> Machine:
    """This machine, with the rates that `snugly machine --measure` kept, if they still hold.

    `begun` is a clock read earlier, over which the load is taken; else a tenth of a second is.
    """
    machine = detect(config.store, begun=begun)
    return replace(machine, rates=load_rates(machine, config.cache))


def engine_facts(machine: Machine) -> EngineFacts:
    """What the planner must know of the engine that would run here."""
    return ENGINES[DEFAULT][0](machine)


def _check_engine(machine: Machine, config: Settings) -> None:
    engine = ENGINES[DEFAULT][1](config)
    why = engine.unusable(
        machine.cpu.architecture.or_else(""), machine.cpu.instructions.or_else(())
    )
    if why and not config.engine_command:
        raise EngineError(
            f"The engine {engine.name} cannot run here.",
            f"{why[:1].upper()}{why[1:]}.",
            "`snugly engine build` compiles one for this processor.",
        )


def _named(
    ref: str, store: Store, config: Settings, say: Say, progress: Progress | None
) -> Installed:
    """The model that a person named: a file in place, an installed one, or fetched."""
    parsed = parse(ref)
    try:
        return _given_to_the_engine(find(store, ref))
    except UnknownModel:
        if parsed.kind is RefKind.PATH:
            raise
        if parsed.kind is RefKind.NAME and catalog.lookup(parsed.name, parsed.tag) is None:
            raise
    say(f"{ref} is not installed yet: fetching it.")
    return _fetched(ref, store, config, progress)


def _fetched(ref: str, store: Store, config: Settings, progress: Progress | None) -> Installed:
    from snugly.model.pull import pull  # here: mostly nothing is fetched

    return pull(ref, store, config, progress)


def _given_to_the_engine(installed: Installed) -> Installed:
    """The model, if its path can travel in the worker's configuration."""
    try:
        installed.path.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{installed.path!r} cannot be given to the engine.",
            "Its name is not UTF-8.",
            "Rename the file or its folder.",
        ) from None
    return installed


def _planned(installed: Installed, machine: Machine, need: Need) -> Prepared:
    spec = read_spec(installed.path)
    if spec.made_for:
        what = "scores documents" if spec.made_for == "rerank" else "turns text into vectors"
        raise EngineError(
            f"{spec.name} cannot answer questions.",
            f"By its header ({spec.architecture}) it {what}.",
            "Take a chat model, such as `snugly run -m smollm2`.",
        )
    facts = engine_facts(machine)
    box = box_of(machine, facts)
    candidate = offers.of_file(installed, spec, need.task)
    check(candidate, need)
    taught = learned(machine)
    fit = best_way(box, candidate, need, taught)
    if fit is None:
        raise refusal(rejected(box, candidate, need))
    fit = stretched(box, fit, need, taught)
    plan = plan_of(box, fit, installed.path, need)
    way = Way(box, fit, machine)
    return Prepared(installed, spec, plan, advised(installed), installed.ref, way)


def learned(machine: Machine) -> Corrections:
    """What runs in the history teach about this machine; nothing where it cannot be read."""
    try:
        return corrections(recent(_TEACHING), fingerprint_text(machine))
    except HistoryError:
        return NOTHING_LEARNT


def advised(installed: Installed) -> Sampling:
    """How the catalogue says that a model's answers are best drawn."""
    publisher, _, rest = installed.ref.partition("/")
    model, _, file = rest.partition("/")
    entry = catalog.of_repository(f"{publisher}/{model}", file)
    return Sampling(entry.temperature, entry.repeat_penalty) if entry else Sampling()


def _called(installed: Installed, store: Store) -> str:
    """`smollm2` for what is in the store, the file's name for what is not."""
    stored = store.installed()
    for item in stored:
        if item.ref == installed.ref:
            return short_name(item, stored)
    return os.path.basename(installed.path)


def _best_installed(store: Store, machine: Machine, need: Need, say: Say) -> Prepared | None:
    """The best installed model that fits; what cannot be used is said and passed over."""
    candidates: list[Prepared] = []
    troubles: list[SnuglyError] = []
    for installed in store.installed():
        try:
            candidates.append(_planned(installed, machine, need))
        except SnuglyError as error:
            troubles.append(error)
    if candidates:
        task = task_named(need.task)
        talks = [c for c in candidates if c.spec.chat_template] or candidates
        return max(talks, key=lambda c: key(c.way.fit, need, task) if c.way else ())
    if troubles and all(isinstance(trouble, UserError) for trouble in troubles):
        raise troubles[0]  # what was asked for suits no model: another one would not help
    for trouble in troubles:
        say(f"{trouble.problem} {trouble.because}")
    return None


def _suggest(prepared: Prepared, machine: Machine, say: Say) -> None:
    """Say what better model than the small default would fit, and how to get it."""
    way = prepared.way
    if way is None:
        return
    room = machine.disk.free_bytes.or_else(0) - 1 * GiB
    every = offers.catalogue("chat", Store(settings().store))
    found = survey(way.box, [c for c in every if c.file_bytes <= room], Need()).best
    if found is not None and found.candidate.quality > way.fit.candidate.quality:
        better = found.candidate
        say(
            f"Running {DEFAULT_REF} ({format_count(prepared.spec.n_params)} parameters)."
            f" A better model would fit: {better.ref}, {format_count(better.build.n_params)}"
            f" parameters, {format_bytes(better.file_bytes)}, about"
            f" {found.speed.decode_tps.expected:.0f} tokens/s (`snugly pull {better.ref}`)."
        )


@asynccontextmanager
async def launched(
    ref: str | None | Prepared,
    *,
    context: int | None = None,
    say: Say = _silent,
    progress: Progress | None = None,
) -> AsyncIterator[Launched]:
    """Start the model that `ref` names, or that was prepared; stop it when the block ends.

    `say` gets remarks of one line for the person ("A better model would fit: ...").

    Raises: what `prepare` raises, and EngineError when the engine does not start.
    """
    ready = (
        ref
        if isinstance(ref, Prepared)
        else prepare(ref, context=context, say=say, progress=progress)
    )
    engine = ENGINES[DEFAULT][1](settings())
    running = await engine.start(ready.plan)
    try:
        yield Launched(
            running, ready.plan, ready.installed, ready.sampling, ready.name, engine.name, ready.way
        )
    finally:
        await running.stop()
