"""A Build holds every byte of its model once."""

import pytest
from tests.making import hub_config, hub_configs

from snugly.model.build import build_of, outline_of, read_bytes, weight_bytes
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type

REFUSED = ("XiaomiMiMo__MiMo-7B-Base", "deepseek-ai__DeepSeek-V4-Pro", "google__recurrentgemma-2b")


@pytest.mark.parametrize("type_name", ["F16", "Q4_K_M"])
@pytest.mark.parametrize("name", sorted(set(hub_configs()) - set(REFUSED))[::3])
def test_every_byte_is_in_it_once(name: str, type_name: str) -> None:
    spec = in_type(spec_of_config(hub_config(name), name), type_name)
    build = build_of(spec)
    assert weight_bytes(build) == spec.weight_bytes
    assert len(build.weights) == len(build.layers)


def test_a_token_reads_the_experts_that_it_uses() -> None:
    spec = in_type(spec_of_config(hub_config("Qwen__Qwen3-30B-A3B"), "m"), "Q4_K_M")
    used = sum(
        tensor.n_bytes * 8 // 128 if "_exps" in tensor.name else tensor.n_bytes
        for tensor in spec.tensors
        if tensor.name != "token_embd.weight"
    )
    assert read_bytes(outline_of(build_of(spec))) == pytest.approx(used, rel=1e-6)
