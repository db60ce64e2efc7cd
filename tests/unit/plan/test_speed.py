import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import hub_config

from snugly.machine.types import NOT_TOLD, Kernel, assumed, measured
from snugly.model.build import build_of
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type
from snugly.model.types import Build
from snugly.plan.speed import predict, run_times
from snugly.plan.speed_table import coefficients
from snugly.plan.speed_terms import family
from snugly.plan.types import Interval, Placement, Processor, Setup, Speed

SPEC = spec_of_config(hub_config("meta-llama__Llama-3.1-8B-Instruct"), "Llama 3.1 8B")
LLAMA = build_of(in_type(SPEC, "Q4_K_M"))
MIXTURE = build_of(
    in_type(spec_of_config(hub_config("Qwen__Qwen3-30B-A3B"), "Qwen3 30B A3B"), "Q4_K_M")
)
SETUP = Setup(8192)
LAYERS = len(LLAMA.weights)


def gpu(bandwidth: float = 936e9, matrix: float = 142e12, kind: str = "cuda") -> Processor:
    told = [assumed(rate, "test") for rate in (bandwidth, matrix, matrix * 2, matrix / 4)]
    return Processor("GPU 0", kind, "a GPU", told[0], told[1], told[2], told[3])


def cpu(bandwidth: float = 50e9, f32: float = 5e11) -> Processor:
    told = [assumed(rate, "test") for rate in (bandwidth, f32 * 4, f32)]
    return Processor("RAM", "cpu", "a CPU", told[0], told[1], told[1], told[2])


def timed(read: float = 20e9, ops: float = 1e11) -> Processor:
    names = ("F16", "Q8_0", "Q4_K", "Q6_K", "ATTENTION64", "ATTENTION128")
    kernels = tuple(Kernel(4, name, False, read, ops) for name in names)
    return replace(cpu(), kernels=kernels, layer_seconds=20e-6)


def on(build: Build, *processors: Processor, gpu_layers: tuple[int, ...] = ()) -> Speed:
    return predict(build, SETUP, Placement(gpu_layers), processors)


def test_an_8b_in_4_bits_decodes_on_an_rtx_3090_as_measured() -> None:
    # XiongjieDai/GPU-Benchmarks-on-LLM-Inference: 115 tokens/s; 4030 for the prompt
    found = on(LLAMA, cpu(), gpu(), gpu_layers=(LAYERS + 1,))
    assert found.decode_tps.low < 115 < found.decode_tps.high
    assert found.decode_tps.expected == pytest.approx(115, rel=0.25)
    assert found.prefill_tps.low < 4030 < found.prefill_tps.high


def test_decoding_is_never_faster_than_memory() -> None:
    read = sum(n for w in LLAMA.weights for _, n in w.dense) + sum(n for _, n in LLAMA.output)
    for place in (cpu(), timed(read=50e9)):
        assert on(LLAMA, place).decode_tps.expected < 50e9 / read * 1.05


def test_a_mixture_decodes_faster_than_a_dense_model_of_its_size() -> None:
    dense = build_of(in_type(spec_of_config(hub_config("Qwen__QwQ-32B"), "QwQ"), "Q4_K_M"))
    assert on(MIXTURE, cpu()).decode_tps.expected > 3 * on(dense, cpu()).decode_tps.expected


def test_layers_on_the_gpu_help_one_after_another() -> None:
    rates = [
        on(LLAMA, cpu(), gpu(), gpu_layers=(count,)).decode_tps.expected
        for count in range(1, LAYERS + 2)
    ]
    assert rates == sorted(rates)
    assert on(LLAMA, cpu(), gpu(), gpu_layers=(0,)) == on(LLAMA, cpu(), gpu())


def test_two_gpus_hold_more_and_decode_no_faster() -> None:
    one = on(LLAMA, cpu(), gpu(), gpu(), gpu_layers=(LAYERS + 1, 0))
    two = on(LLAMA, cpu(), gpu(), gpu(), gpu_layers=(17, LAYERS + 1 - 17))
    assert 0.9 * one.decode_tps.expected < two.decode_tps.expected < one.decode_tps.expected


def test_experts_in_ram_cost_less_than_whole_layers_in_ram() -> None:
    layers = len(MIXTURE.weights)
    processors = (cpu(), gpu())
    aside = predict(MIXTURE, SETUP, Placement((layers + 1,), cpu_experts=layers), processors)
    whole = predict(MIXTURE, SETUP, Placement((1,)), processors)
    all_there = predict(MIXTURE, SETUP, Placement((layers + 1,)), processors)
    assert whole.decode_tps.expected < aside.decode_tps.expected < all_there.decode_tps.expected


def test_a_full_context_is_slower_and_a_smaller_cache_less_so() -> None:
    found = predict(LLAMA, Setup(32768), Placement(), (cpu(),))
    small = predict(LLAMA, Setup(32768, kv_type="Q8_0"), Placement(), (cpu(),))
    assert found.decode_tps_deep.expected < small.decode_tps_deep.expected
    assert small.decode_tps_deep.expected < small.decode_tps.expected


def test_time_to_first_token_grows_with_the_prompt() -> None:
    times = [
        predict(LLAMA, SETUP, Placement(), (cpu(),), tokens).first_token_s.expected
        for tokens in (1, 100, 512, 513, 4000)
    ]
    assert times == sorted(times)


def test_loading_takes_the_file_over_the_disk() -> None:
    fast = predict(LLAMA, SETUP, Placement(), (cpu(),), 1, measured(3e9, "test")).load_s
    unknown = predict(LLAMA, SETUP, Placement(), (cpu(),), 1, NOT_TOLD).load_s
    assert fast.expected == pytest.approx(0.3 + LLAMA.file_bytes / 3e9)
    assert unknown.low < fast.expected < unknown.high
    assert unknown.high / unknown.low > 5


def test_a_backend_without_data_has_a_wider_interval() -> None:
    assert not coefficients("sycl").known
    low, high = coefficients("sycl").decode_spread
    shared = coefficients("shared").decode_spread
    assert (low, high) == pytest.approx((1.5 * shared[0], 1.5 * shared[1]))


def test_too_many_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="go with"):
        on(LLAMA, cpu(), gpu(), gpu_layers=(LAYERS + 2,))
    with pytest.raises(ValueError, match="go with"):
        on(LLAMA, cpu(), gpu_layers=(1,))


def test_types_that_were_not_timed_take_a_slower_ones_place() -> None:
    other = build_of(in_type(SPEC, "IQ2_XS"))
    assert on(other, timed()).decode_tps.expected > 0
    assert [family(name) for name in ("F16", "Q8_0", "MXFP4", "Q2_K", "IQ3_S")] == [
        "float", "q8", "k", "low", "grid",
    ]  # fmt: skip


def test_the_rates_of_a_run_are_those_of_the_plan_at_its_depth() -> None:
    whole = on(LLAMA, timed())
    decode, prefill = run_times(LLAMA, SETUP, Placement(), (timed(),), 512, 2)
    assert whole.decode_tps_deep.expected < decode < whole.decode_tps.expected
    assert prefill == pytest.approx(whole.prefill_tps.expected)


rates = st.floats(1e9, 5e12)


@given(rates, rates, st.integers(1, LAYERS + 1), st.integers(1, 9000))
def test_intervals_are_in_order_and_a_faster_gpu_is_never_slower(
    bandwidth: float, matrix: float, count: int, tokens: int
) -> None:
    def speed(factor: float) -> Speed:
        places = (cpu(), gpu(bandwidth * factor, matrix * factor))
        return predict(LLAMA, SETUP, Placement((count,)), places, tokens)

    slow, fast = speed(1.0), speed(1.5)
    for name in ("decode_tps", "prefill_tps", "decode_tps_deep", "first_token_s", "load_s"):
        value: Interval = getattr(slow, name)
        assert 0 < value.low <= value.expected <= value.high
    assert slow.decode_tps.expected <= fast.decode_tps.expected * (1 + 1e-9)
    assert slow.first_token_s.expected >= fast.first_token_s.expected * (1 - 1e-9)


def test_a_prediction_takes_microseconds() -> None:
    places = (timed(),)
    placement = Placement()
    predict(LLAMA, SETUP, placement, places)
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(500):
            predict(LLAMA, SETUP, placement, places)
        best = min(best, (time.perf_counter() - begun) / 500)
    assert best < 60e-6  # 6 when quiet; the rest is room for a busy machine
