"""A Build holds every byte of its model once."""

import pytest
from tests.making import hub_config, hub_configs

from snugly.model.build import build_of, weight_bytes
from snugly.model.config import spec_of_config
from snugly.plan.best import active_bytes
from snugly.plan.sizes import in_type

REFUSED = ("XiaomiMiMo__MiMo-7B-Base", "deepseek-ai__DeepSeek-V4-Pro", "google__recurrentgemma-2b")


@pytest.mark.parametrize("type_name", ["F16", "Q4_K_M"])
@pytest.mark.parametrize("name", sorted(set(hub_configs()) - set(REFUSED))[::3])
def test_every_byte_is_in_it_once(name: str, type_name: str) -> None:
    spec = in_type(spec_of_config(hub_config(name), name), type_name)
    build = build_of(spec)
    assert weight_bytes(build) == spec.weight_bytes
    assert len(build.weights) == len(build.layers)


def test_experts_stand_apart_and_a_token_reads_some_of_them() -> None:
    spec = in_type(spec_of_config(hub_config("Qwen__Qwen3-30B-A3B"), "m"), "Q4_K_M")
    build = build_of(spec)
    used = sum(
        sum(n for _, n in layer.dense)
        + sum(n for _, n in layer.experts) * build.experts_used // build.experts
        for layer in build.weights
    ) + sum(n for _, n in build.output)
    assert used == pytest.approx(active_bytes(spec), rel=1e-6)
