"""Vision towers and projectors of multimodal transformers classes. Pure.

Source: transformers 5.23 (Apache-2.0), models/siglip and models/gemma3, read and held against
the real classes by bench/footprint.py.
"""

from typing import Any

from snugly.model.config_fields import Config
from snugly.model.config_rows import Sizes
from snugly.model.modules import Weight, lines, weights_of

# Defaults of SiglipVisionConfig, for keys that a vision_config may leave out.
_SIGLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
           "num_channels": 3, "image_size": 224, "patch_size": 16}  # fmt: skip
_TOWER = "model.vision_tower."
_BEFORE = lines("""
    embeddings.patch_embedding: conv wide channels patch patch +
    embeddings.position_embedding: table positions wide
    embeddings.position_ids: i64 1 positions
""")
_LAYER = lines("""
    layer_norm1: norm wide +
    self_attn.k_proj: linear wide wide +
    self_attn.v_proj: linear wide wide +
    self_attn.q_proj: linear wide wide +
    self_attn.out_proj: linear wide wide +
    layer_norm2: norm wide +
    mlp.fc1: linear wide ff +
    mlp.fc2: linear ff wide +
""")
_HEAD = "head."  # a pooling layer on top, where vision_use_head is true
_POOL = lines("""
    probe: param 1 1 wide
    attention.in_proj_weight: param 3*wide wide
    attention.in_proj_bias: param 3*wide
    attention.out_proj: own wide wide +
    layernorm: norm wide +
    mlp.fc1: linear wide ff +
    mlp.fc2: linear ff wide +
""")
_PROJECTOR = lines("""
    model.multi_modal_projector.mm_input_projection_weight: param wide embd
    model.multi_modal_projector.mm_soft_emb_norm: norm wide
""")


def siglip(config: Config, text: Sizes) -> list[Weight]:
    """Gemma 3's SigLIP tower and the projector behind it, in their own order.

    Raises: UserError naming a key of `vision_config` that is wrong.
    """
    raw: dict[str, Any] = _SIGLIP | config.part("vision_config")
    # `num_hidden_layers` and others stand in the text part too, so this is a config of its own.
    own = Config(raw, f"{config.name}'s vision part")
    patch = own.positive("patch_size")
    sizes = {
        "wide": own.positive("hidden_size"), "ff": own.positive("intermediate_size"),
        "channels": own.positive("num_channels"), "patch": patch, "embd": text["embd"],
    }  # fmt: skip
    sizes["positions"] = (own.positive("image_size") // patch) ** 2
    if not sizes["positions"]:
        own.fail("patch_size", "It is larger than the image")
    found = [weight for line in _BEFORE for weight in weights_of(line, sizes, _TOWER)]
    for number in range(own.layers()):
        prefix = f"{_TOWER}encoder.layers.{number}."
        found += [weight for line in _LAYER for weight in weights_of(line, sizes, prefix)]
    last = lines("post_layernorm: norm wide +")
    found += [weight for line in last for weight in weights_of(line, sizes, _TOWER)]
    if own.flag("vision_use_head", default=True):
        found += [w for line in _POOL for w in weights_of(line, sizes, _TOWER + _HEAD)]
    return found + [weight for line in _PROJECTOR for weight in weights_of(line, sizes)]
