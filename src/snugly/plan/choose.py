"""Plan one model file on one machine, or say why not. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from snugly.errors import UserError
from snugly.machine.types import Machine
from snugly.model.build import build_of
from snugly.model.types import Build, ModelSpec
from snugly.plan.batch import spread
from snugly.plan.box import Box, box_of
from snugly.plan.candidates import candidate_of
from snugly.plan.memory import CACHE_TYPES, pool_uses
from snugly.plan.remedy import refusal, rejected
from snugly.plan.search import best_way, within
from snugly.plan.setups import LEAST_CONTEXT as LEAST_CONTEXT
from snugly.plan.setups import UBATCHES
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.tasks import task_named
from snugly.plan.types import Candidate, EngineFacts, Estimate, Fit, Need, Plan, Rejected
from snugly.units import format_bytes

ROOMY_CONTEXT = 8192  # what is taken without asking when it fits
MOST_CONTEXT = 32768  # more than this only when asked for: the cache is paid up front
_MOST_KEPT = 64  # models: more than anybody serves in turn
_builds: dict[int, tuple[ModelSpec, Build]] = {}


def choose(
    machine: Machine,
    spec: ModelSpec,
    need: Need,
    engine: EngineFacts,
    learned: Corrections = NOTHING_LEARNT,
) -> Plan | Rejected:
    """Plan one model on one machine.

    Raises: UserError if the context asked for is out of the model's range.
    """
    box = box_of(machine, engine)
    candidate = candidate_of(_build(spec), spec.path)
    check(candidate, need)
    fit = best_way(box, candidate, need, learned)
    if fit is None:
        return rejected(box, candidate, need)
    return plan_of(box, stretched(box, fit, need, learned), spec.path, need)


def _build(spec: ModelSpec) -> Build:
    """What is planned of a model, made once for as long as it is in use.

    A server plans the same model with every load, and what is known of each build is kept
    (`plan.profile`): a build of its own per plan would be kept with it.
    """
    found = _builds.get(id(spec))
    if found is None or found[0] is not spec:
        if len(_builds) >= _MOST_KEPT:
            _builds.clear()
        found = _builds[id(spec)] = spec, build_of(spec)
    return found[1]


def check(candidate: Candidate, need: Need) -> None:
    """Whether the model can do what is asked at all.

    Raises: UserError.
    """
    trained = candidate.build.context_train
    if need.context is None:
        return
    if need.context > trained:
        raise UserError(
            f"{candidate.build.name} cannot use a context of {need.context:,} tokens.",
            f"It was trained for {trained:,}; beyond that its answers fall apart.",
            f"Ask for at most --context {trained}, or take a model with a longer one.",
        )
    if need.context < LEAST_CONTEXT:
        raise UserError(
            f"A context of {need.context:,} tokens is too short to be of use.",
            "The question, the chat template and the answer all have to fit into it.",
            f"Ask for --context {LEAST_CONTEXT} or more.",
        )


def check_cache(need: Need) -> None:
    """Whether the cache type asked for exists.

    Raises: UserError.
    """
    if need.kv_type is not None and need.kv_type not in CACHE_TYPES:
        raise UserError(
            f"There is no cache type {need.kv_type.lower()}.",
            "",
            f"There are {', '.join(name.lower() for name in CACHE_TYPES)}.",
        )


def stretched(box: Box, fit: Fit, need: Need, learned: Corrections = NOTHING_LEARNT) -> Fit:
    """The same way with a longer context, where that is cheap and nobody asked for one.

    Cheap: the same placement, and at most a quarter of what is free goes to the cache.
    """
    build = fit.candidate.build
    if need.context is not None or fit.setup.context < task_named(need.task).context:
        return fit
    context = min(build.context_train, MOST_CONTEXT)
    while context > fit.setup.context:
        longer = replace(need, context=context, kv_type=fit.setup.kv_type)
        wide = best_way(box, fit.candidate, longer, learned)
        if (
            wide is not None
            and wide.placement == fit.placement
            and wide.setup == replace(fit.setup, context=context)
            and sum(use.kv_bytes for use in wide.uses) <= sum(box.budgets) // 4
        ):
            return wide
        context //= 2
    return fit


def plan_of(box: Box, fit: Fit, path: str, need: Need) -> Plan:
    """What the engine needs to run it this way, and why this way."""
    on_gpu = sum(fit.placement.gpu_layers)
    return Plan(
        model_path=path,
        model_name=fit.candidate.build.name,
        setup=fit.setup,
        placement=fit.placement,
        threads=box.threads,
        threads_batch=box.threads,
        free_cores=box.threads,
        gpu_layers=len(fit.candidate.build.layers) + 1 if box.is_unified else on_gpu,
        pools=box.pools,
        reserves=box.reserves,
        estimate=Estimate(fit.uses),
        speed=fit.speed,
        why=tuple(reasons(box, fit, need)),
        experts_until=spread(fit.placement, len(fit.candidate.build.layers)).experts_until,
    )


def reasons(box: Box, fit: Fit, need: Need) -> Iterator[str]:
    """Why the plan is as it is, a sentence each."""
    build, setup = fit.candidate.build, fit.setup
    for pool, use in zip(box.pools, fit.uses, strict=True):
        if use.total_bytes:
            yield (
                f"It takes {format_bytes(use.total_bytes)} of the"
                f" {format_bytes(pool.free_bytes)} of {pool.name} that is free."
            )
    yield (
        f"A context of {setup.context:,} tokens; the model was trained for {build.context_train:,}."
    )
    yield from _where(box, fit)
    yield box.why_threads
    if setup.kv_type not in ("F16", "F32", "BF16"):
        yield f"The KV cache is kept in {setup.kv_type.lower()}, to save memory."
    if setup.ubatch != UBATCHES[0]:
        yield f"Prompts go in by {setup.ubatch} tokens at a time, to save memory."
    if not setup.repack and box.engine.repacks:
        copy = replace(setup, repack=True)
        uses = pool_uses(build, copy, fit.placement, box.pools, box.engine)
        why = "is predicted to be slower here" if within(uses, box, need) else "would not fit"
        yield f"Weights stay as they are in the file: a copy laid out for speed {why}."
    if box.unused:
        yield (f"{box.unused} is not used: the engine {box.engine.name} here computes on the CPU.")


def _where(box: Box, fit: Fit) -> Iterator[str]:
    """Which layers live where, when there is a choice."""
    if len(box.pools) == 1:
        return
    layers = len(fit.candidate.build.layers)
    on_gpu = min(sum(fit.placement.gpu_layers), layers)
    if not on_gpu:
        yield "All layers are computed on the CPU: the GPU's memory does not help here."
    elif on_gpu < layers:
        yield f"{on_gpu} of {layers} layers are on the GPU, the others in RAM."
    elif fit.placement.cpu_experts:
        yield f"All layers are on the GPU; the experts of {fit.placement.cpu_experts} in RAM."
    else:
        yield "All layers are on the GPU."


def or_refuse(choice: Plan | Rejected) -> Plan:
    """The plan, or the refusal as an error with its numbers.

    Raises: DoesNotFit.
    """
    if isinstance(choice, Plan):
        return choice
    raise refusal(choice)
