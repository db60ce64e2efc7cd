"""One search over everything: nothing exceeds a pool, and more is never worse."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.making import CPU_ENGINE, apple_gpu, hub_config, machine

from snugly.engine.llama_cpp import box_facts
from snugly.engine.offers import of_entry
from snugly.errors import UserError
from snugly.machine.boxes import box as box_named
from snugly.machine.boxes import box_of as box_by_figures
from snugly.model import catalog
from snugly.model.build import build_of
from snugly.model.config import spec_of_config
from snugly.model.quant_size import USUAL_TYPES, in_type
from snugly.plan.box import Box, box_of
from snugly.plan.candidates import candidate_of
from snugly.plan.found import Found
from snugly.plan.limits import Limits
from snugly.plan.preference import CLEARLY, PATIENT, beats, keeps_up, key, merits
from snugly.plan.prospects import reach_of
from snugly.plan.search import best_way, place, search, survey
from snugly.plan.setups import KV_TYPES
from snugly.plan.speed_learning import NOTHING_LEARNT, Correction, Corrections
from snugly.plan.tasks import TASKS, task_named
from snugly.plan.types import Candidate, EngineFacts, Need, Placement, Setup
from snugly.units import GiB

CUDA = replace(CPU_ENGINE, offloads_to="cuda", device_bytes=500 << 20, device_ram_bytes=200 << 20)
NAMES = (
    "HuggingFaceTB__SmolLM2-1.7B-Instruct", "Qwen__Qwen2.5-7B-Instruct",
    "Qwen__Qwen3-30B-A3B-Instruct-2507", "google__gemma-3-4b-it", "meta-llama__Llama-3.1-8B",
    "deepseek-ai__DeepSeek-V2-Lite-Chat", "openai__gpt-oss-20b", "Qwen__Qwen2.5-72B-Instruct",
)  # fmt: skip


def _candidates() -> tuple[Candidate, ...]:
    found = []
    for number, name in enumerate(NAMES):
        spec = spec_of_config(hub_config(name), name)
        for step, kind in enumerate(USUAL_TYPES):
            build = build_of(in_type(spec, kind))
            quality = 10.0 * number + step + 1
            found.append(candidate_of(build, f"{name}-{kind}", quality, model=name))
    return tuple(found)


CANDIDATES = _candidates()
sizes = st.integers(1, 96).map(lambda n: n * GiB)
needs = st.builds(
    Need,
    context=st.one_of(st.none(), st.sampled_from((512, 4096, 8192, 16384))),
    task=st.sampled_from([task.name for task in TASKS]),
    kv_type=st.sampled_from((None, None, "F16", "Q8_0")),
    budget_bytes=st.one_of(st.none(), sizes),
)


@st.composite
def boxes(draw: st.DrawFn, ram: int | None = None, vram: int | None = None) -> Box:
    """A desktop with a GPU of its own or none."""
    ram = ram or draw(sizes)
    cards = (vram,) if vram else draw(st.sampled_from(((), (6 * GiB,), (12 * GiB, 24 * GiB))))
    made = box_by_figures(ram, cards, 300e9 if cards else 50e9)
    return box_of(made, replace(CUDA, offloads_to="vulkan") if cards else CPU_ENGINE)


def _key(found: Found) -> tuple[float, ...]:
    return () if found.best is None else key(found.best, found.need, found.task)


@settings(max_examples=25, deadline=None)
@given(boxes(), needs)
def test_no_plan_exceeds_a_pool_or_the_budget(box: Box, need: Need) -> None:
    for fit in search(box, CANDIDATES[::5], need).fits:
        for use, budget in zip(fit.uses, box.budgets, strict=True):
            assert use.total_bytes <= budget
        if need.budget_bytes is not None:
            assert sum(use.total_bytes for use in fit.uses) <= need.budget_bytes


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from((0, 4, 8, 12, 24)), st.integers(1, 32), needs, st.booleans())
def test_more_memory_never_makes_the_answer_worse(
    ram: int, vram: int, more: int, need: Need, in_ram: bool
) -> None:
    def best(ram: int, vram: int) -> tuple[float, ...]:
        made = box_by_figures(ram, (vram,) if vram else (), 300e9 if vram else 50e9)
        engine = replace(CUDA, offloads_to="vulkan") if vram else CPU_ENGINE
        return _key(search(box_of(made, engine), CANDIDATES[::4], need))

    before = best(ram, vram * GiB)
    grown = (ram + more * GiB, vram) if in_ram or not vram else (ram, vram + more)
    after = best(grown[0], grown[1] * GiB)
    assert after[:2] >= before[:2]
    if after[:2] == before[:2]:  # half a point is less than anyone notices
        assert after[2:3] >= tuple(merit - 0.5 for merit in before[2:3])


@settings(max_examples=25, deadline=None)
@given(boxes(), needs)
def test_the_survey_recommends_what_the_whole_search_does(box: Box, need: Need) -> None:
    whole, quick = search(box, CANDIDATES, need), survey(box, CANDIDATES, need)
    assert _key(quick) == _key(whole)
    assert quick.front == whole.front


def test_of_what_keeps_the_pace_the_best_is_taken() -> None:
    box = box_of(box_by_figures(64 * GiB, (), 50e9), CPU_ENGINE)
    found = search(box, CANDIDATES, Need())
    assert found.best is not None
    assert keeps_up(found.best, Need(), task_named("chat"))
    best, speed = found.best.candidate.quality, found.best.speed.decode_tps.expected
    for fit in found.fits:
        if keeps_up(fit, Need(), task_named("chat")) and fit.candidate.quality >= best + CLEARLY:
            assert fit.speed.decode_tps.expected < speed


def _by(name: str, task: str) -> Found:
    """What is found in the whole catalogue for a box by name."""
    made = box_named(name)
    every = [
        candidate
        for entry in catalog.entries()
        if task in entry.tasks
        for candidate in of_entry(entry, task)
    ]
    return survey(box_of(made, box_facts(made), name), every, Need(task=task))


@pytest.mark.parametrize("name", ["rtx 4090", "m3 max 64gb", "rtx 3060 laptop", "2x rtx 3090"])
def test_what_answers_alike_but_twice_as_fast_is_recommended(name: str) -> None:
    found = _by(name, "chat")
    assert found.best is not None
    for fit in found.fits:
        if keeps_up(fit, found.need, found.task):
            twice = fit.speed.decode_tps.expected > 2 * found.best.speed.decode_tps.expected
            sooner = fit.speed.first_token_s.expected <= found.best.speed.first_token_s.expected
            alike = fit.candidate.quality > found.best.candidate.quality - CLEARLY / 2
            assert not (twice and sooner and alike), fit.candidate.ref


@pytest.mark.parametrize("task", ["embed", "summarize"])
@pytest.mark.parametrize("name", ["raspberry pi 5 8gb", "jetson orin nano", "16gb laptop"])
def test_alternatives_give_up_neither_context_nor_patience(name: str, task: str) -> None:
    found = _by(name, task)
    assert found.best is not None
    assert found.best in found.front
    for other, patience in ((found.faster, 1.0), (found.better, PATIENT)):
        if other is not None:
            latest = max(found.task.patience_s, found.best.speed.first_token_s.expected)
            assert other.speed.first_token_s.expected <= patience * latest
            assert other.setup.context >= min(
                found.best.setup.context, other.candidate.build.context_train
            )


def test_a_small_board_embeds_with_what_indexes_in_reasonable_time() -> None:
    found = _by("raspberry pi 5 8gb", "embed")
    assert found.best is not None
    assert found.best.speed.first_token_s.expected < 4


def test_faster_and_better_are_what_they_say() -> None:
    found = search(box_of(box_by_figures(96 * GiB, (), 80e9), CPU_ENGINE), CANDIDATES, Need())
    assert found.best is not None
    if found.faster is not None:
        assert found.faster.speed.decode_tps.expected >= 1.5 * found.best.speed.decode_tps.expected
    if found.better is not None:
        assert found.better.candidate.quality > found.best.candidate.quality


def test_nothing_on_the_front_is_beaten() -> None:
    found = search(box_of(box_by_figures(32 * GiB, (), 50e9), CPU_ENGINE), CANDIDATES, Need())
    own = [merits(fit, found.task) for fit in found.front if fit is not found.best]
    for one in own:
        assert not any(beats(other, one) for other in own)


def test_a_card_that_holds_part_of_a_model_takes_that_part() -> None:
    llama = [c for c in CANDIDATES if "Llama-3.1-8B-Q8_0" in c.ref]
    box = box_of(box_by_figures(32 * GiB, (8 * GiB,), 300e9), replace(CUDA, offloads_to="vulkan"))
    (fit,) = search(box, llama, Need()).fits
    assert 0 < sum(fit.placement.gpu_layers) < 33


@pytest.mark.parametrize("cards", [(4 * GiB,), (6 * GiB, 3 * GiB)])
def test_what_is_hopeless_fits_nowhere(
    cards: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = box_of(box_by_figures(8 * GiB, cards, 300e9), replace(CUDA, offloads_to="vulkan"))

    def found() -> list[Placement]:
        setups = [Setup(context, kv_type=kind) for context in (512, 8192) for kind in KV_TYPES]
        return [where for c in CANDIDATES[::3] for setup in setups
                for where, _ in place(box, c, setup, Need())]  # fmt: skip

    quick = found()
    monkeypatch.setattr("snugly.plan.placement._Task.is_hopeless", lambda task: False)
    assert quick == found()


def test_an_engine_without_a_backend_leaves_the_card_alone() -> None:
    box = box_of(box_by_figures(32 * GiB, (24 * GiB,)), CPU_ENGINE)
    assert len(box.pools) == 1
    assert box.unused


def test_a_mac_has_one_pool_of_what_its_gpu_may_take() -> None:
    metal = EngineFacts("xllamacpp", 32 << 20, frozenset(), "metal")
    box = box_of(machine(16 * GiB, gpus=(apple_gpu(11 * GiB),)), metal)
    assert [(pool.name, pool.total_bytes) for pool in box.pools] == [("unified", 11 * GiB)]
    assert box.is_unified


def test_a_task_that_there_is_not_is_named_with_its_neighbour() -> None:
    with pytest.raises(UserError, match="Did you mean chat"):
        task_named("chatt")


@pytest.mark.parametrize("name", ["rtx 4060 ti 16gb", "m3 max 64gb", "raspberry pi 5 8gb"])
def test_boxes_by_name_can_be_searched(name: str) -> None:
    found = _by(name, "chat")
    assert found.best is not None
    assert keeps_up(found.best, Need(), task_named("chat"))


@pytest.mark.parametrize("means", [(1.2, 1.9), (-0.7, -0.3), (-0.2, 0.8)])
def test_the_survey_holds_with_what_runs_taught(means: tuple[float, float]) -> None:
    decode, prompt = (Correction(mean, 0.1, 5) for mean in means)
    narrow = (Correction(means[0] - 0.2, 0.1, 5), Correction(means[1] - 0.2, 0.1, 5))
    taught = Corrections({("cpu", "", ""): (decode, prompt), ("cpu", "", "Q4_K_M"): narrow})
    box = box_of(box_by_figures(32 * GiB, (), 50e9), CPU_ENGINE)
    whole = search(box, CANDIDATES, Need(), taught)
    quick = survey(box, CANDIDATES, Need(), taught)
    assert _key(quick)[:3] == _key(whole)[:3]


ENTRIES = catalog.entries()[::9]  # of every family some
OFFERED = {
    name: [c for entry in ENTRIES if name in entry.tasks for c in of_entry(entry, name)]
    for name in ("chat", "code", "embed")
}


@pytest.mark.parametrize("task", list(OFFERED))
@pytest.mark.parametrize(
    "name", ["rtx 4060 ti 16gb", "2x rtx 3090", "m3 max 64gb", "raspberry pi 5 8gb", "laptop"]
)
def test_the_survey_finds_all_that_a_search_of_everything_does(name: str, task: str) -> None:
    other = box_by_figures(16 * GiB, (), 50e9) if name == "laptop" else box_named(name)
    box = box_of(other, box_facts(other))
    need = Need(task=task)
    whole, quick = (find(box, OFFERED[task], need) for find in (search, survey))
    assert quick.front == whole.front
    assert (quick.best, quick.faster, quick.better) == (whole.best, whole.faster, whole.better)
    limits = Limits(box, NOTHING_LEARNT, need, task_named(task))
    for fit in whole.fits:
        most, there = limits.of(fit.candidate), reach_of(fit, whole.task)
        assert all(x >= y for x, y in zip(most, there, strict=True)), fit.candidate.ref
        assert best_way(box, fit.candidate, need, most=limits.most(fit.candidate)) == fit
