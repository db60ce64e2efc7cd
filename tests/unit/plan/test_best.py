from tests.making import CPU_ENGINE, hub_configs, machine, spec

from snugly.errors import UserError
from snugly.machine.types import Rates, measured
from snugly.model.catalog import entries
from snugly.model.catalog_quality import quality_of
from snugly.model.config import spec_of_config
from snugly.model.types import ModelSpec, Tensor
from snugly.plan.best import _BYTES_PER_PARAMETER, active_bytes, best, better
from snugly.plan.choose import choose
from snugly.plan.sizes import in_type
from snugly.plan.types import Need, Plan
from snugly.units import GiB

BOX = machine(64 * GiB)


def candidate(model: ModelSpec) -> tuple[ModelSpec, Plan]:
    plan = choose(BOX, model, Need(), CPU_ENGINE)
    assert isinstance(plan, Plan)
    return model, plan


SMALL = candidate(spec(n_params=135_000_000, weight_bytes=GiB // 10))
MIDDLE = candidate(spec(n_params=8_000_000_000, weight_bytes=4 * GiB))
LARGE = candidate(spec(n_params=70_000_000_000, weight_bytes=40 * GiB))
ENCODER = candidate(spec(n_params=9_000_000_000, is_causal=False))


def test_the_largest_at_a_readable_pace() -> None:
    # 25 GB/s: 40 GiB decode at 0.6 tokens/s, 4 GiB at 5.8
    assert best([SMALL, MIDDLE, LARGE, ENCODER], BOX) == 1


def test_a_measured_bandwidth_counts() -> None:
    rate = measured(400e9, "test")
    rates = Rates(((1, rate),), rate, rate, rate, "2026-11-20T00:00:00Z", 0.0, 1.0)
    assert best([SMALL, MIDDLE, LARGE], machine(64 * GiB, rates=rates)) == 2


def test_the_fastest_when_all_are_slow_and_none_when_none_can_chat() -> None:
    assert best([LARGE], BOX) == 0
    assert best([ENCODER], BOX) is None
    assert best([], BOX) is None


def test_a_base_model_is_not_taken_when_a_chat_model_is_there() -> None:
    base = candidate(spec(n_params=9_000_000_000, chat_template=""))
    assert best([base, SMALL], BOX) == 1


def test_of_a_mixture_only_the_used_experts_count() -> None:
    tensors = (
        Tensor("blk.0.ffn_up_exps.weight", (256, 8), "Q4_K", 0, 800),
        Tensor("blk.0.attn_q.weight", (256, 1), "Q4_K", 0, 50),
        Tensor("token_embd.weight", (256, 1), "Q4_K", 0, 70),
        Tensor("output.weight", (256, 1), "Q4_K", 0, 30),
    )
    assert active_bytes(spec(tensors=tensors, experts=8, experts_used=2)) == 200 + 50 + 30


def test_a_suggestion_fits_and_grows_with_the_box() -> None:
    qualities = []
    for ram in (2, 8, 16, 64):
        box = machine(ram * GiB)
        found = better(entries(), box, CPU_ENGINE, 135_000_000)
        if found is not None:
            assert found.needed_bytes <= box.ram.free_bytes
            qualities.append(quality_of(found.entry, "chat").value)
    assert len(qualities) >= 3
    assert qualities == sorted(qualities)


def test_bytes_per_parameter_are_those_of_real_shapes() -> None:
    shares = []
    for name, config in hub_configs().items():
        try:
            model = spec_of_config(config, name)
        except UserError:
            continue  # an architecture that is not covered
        if not model.experts and 1e9 <= model.n_params <= 72e9:
            shares.append(in_type(model, "Q4_K_M").file_bytes / model.n_params)
    assert len(shares) == 57
    assert (round(min(shares), 2), round(max(shares), 2)) == (0.60, 0.66)
    assert min(shares) < _BYTES_PER_PARAMETER < max(shares)


def test_nothing_is_suggested_for_a_box_that_is_full() -> None:
    assert better(entries(), machine(free=0), CPU_ENGINE, 0) is None
