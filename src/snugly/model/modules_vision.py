"""Vision towers and projectors of multimodal transformers classes: one table each. Pure.

Source: transformers 5.23 (Apache-2.0), models/{siglip,gemma3,gemma4,pixtral,mistral3,qwen3_vl},
read and held against the real classes by bench/footprint.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snugly.model.config_fields import Config
from snugly.model.config_rows import Sizes
from snugly.model.modules import Line, Weight, lines, weights_of

Sizer = Callable[[Config, Config, Sizes], Sizes]


@dataclass(frozen=True, slots=True)
class Tower:
    """What a `vision_config` adds. `sizes` reads it, beside the outer config and the text's sizes.

    `defaults` are those of the tower's configuration class, for keys that may be left out;
    `merged` are lines that come once for each of `deepstack_visual_indexes`.
    """

    before: tuple[Line, ...]
    layers: str
    layer: tuple[Line, ...]
    after: tuple[Line, ...]
    sizes: Sizer
    defaults: Mapping[str, Any]
    merged: tuple[Line, ...] = ()


def tower_weights(tower: Tower, config: Config, text: Sizes) -> list[Weight]:
    """The tower and the projector behind it, in their own order.

    Raises: UserError naming a key of `vision_config` that is wrong.
    """
    # Sizes of the same name stand in the text part too, so this is a config of its own.
    own = Config({**tower.defaults, **config.part("vision_config")},
                 f"{config.name}'s vision part")  # fmt: skip
    sizes = tower.sizes(own, config, text)
    found = [weight for line in tower.before for weight in weights_of(line, sizes)]
    for number in range(own.layers("num_hidden_layers", "depth")):
        prefix = f"{tower.layers}.{number}."
        found += [weight for line in tower.layer for weight in weights_of(line, sizes, prefix)]
    found += [weight for line in tower.after for weight in weights_of(line, sizes)]
    extra = own.get("deepstack_visual_indexes") if tower.merged else None
    for number in range(len(extra) if isinstance(extra, list) else 0):
        prefix = f"model.visual.deepstack_merger_list.{number}."
        found += [w for line in tower.merged for w in weights_of(line, sizes, prefix)]
    return found


def _plain(own: Config, text: Sizes) -> Sizes:
    return {
        "wide": own.positive("hidden_size"), "ff": own.positive("intermediate_size"),
        "patch": own.positive("patch_size"), "embd": text["embd"],
        "channels": own.positive("num_channels", "in_channels", default=3),
    }  # fmt: skip


def _siglip(own: Config, config: Config, text: Sizes) -> Sizes:
    sizes = _plain(own, text)
    sizes["positions"] = (own.positive("image_size") // sizes["patch"]) ** 2
    sizes["pooled"] = int(own.flag("vision_use_head", default=True))
    if not sizes["positions"]:
        own.fail("patch_size", "It is larger than the image")
    return sizes


def _pixtral(own: Config, config: Config, text: Sizes) -> Sizes:
    sizes, heads = _plain(own, text), own.positive("num_attention_heads")
    listed = config.get("vision_feature_layer")
    merge = config.positive("spatial_merge_size", default=2)
    sizes |= {
        "rot": own.positive("head_dim", default=sizes["wide"] // heads) // 2,
        "merged": sizes["wide"] * merge * merge,
        "features": sizes["wide"] * (len(listed) if isinstance(listed, list) else 1),
        "projector_bias": int(config.flag("multimodal_projector_bias")),
    }
    return sizes


def _qwen3vl(own: Config, config: Config, text: Sizes) -> Sizes:
    sizes, merge = _plain(own, text), own.positive("spatial_merge_size")
    sizes |= {
        "frames": own.positive("temporal_patch_size"), "out": own.positive("out_hidden_size"),
        "positions": own.positive("num_position_embeddings"),
        "merged": sizes["wide"] * merge * merge,
        "rot": sizes["wide"] // own.positive("num_heads") // 4,
    }  # fmt: skip
    return sizes


def _gemma4(own: Config, config: Config, text: Sizes) -> Sizes:
    if config.part("audio_config"):
        config.fail("audio_config", "The audio part of this class has no table yet")
    sizes, heads = _plain(own, text), own.positive("num_attention_heads")
    head = own.positive("head_dim")
    sizes |= {
        "pixels": 3 * sizes["patch"] ** 2, "positions": own.positive("position_embedding_size"),
        "q": heads * head, "k": own.positive("num_key_value_heads") * head, "head": head,
        "rot": head // 4, "clipped": int(own.flag("use_clipped_linears")),
        "standard": int(own.flag("standardize")),
    }  # fmt: skip
    return sizes


_ATTENTION = """
    {0}layer_norm1: norm wide +
    {0}self_attn.k_proj: linear wide wide +
    {0}self_attn.v_proj: linear wide wide +
    {0}self_attn.q_proj: linear wide wide +
    {0}self_attn.out_proj: linear wide wide +
    {0}layer_norm2: norm wide +
    {0}mlp.fc1: linear wide ff +
    {0}mlp.fc2: linear ff wide +
"""
_POOLED = lines("""
    model.vision_tower.post_layernorm: norm wide +
    model.vision_tower.head.probe: param 1 1 wide if pooled
    model.vision_tower.head.attention.in_proj_weight: param 3*wide wide if pooled
    model.vision_tower.head.attention.in_proj_bias: param 3*wide if pooled
    model.vision_tower.head.attention.out_proj: own wide wide + if pooled
    model.vision_tower.head.layernorm: norm wide + if pooled
    model.vision_tower.head.mlp.fc1: linear wide ff + if pooled
    model.vision_tower.head.mlp.fc2: linear ff wide + if pooled
""")
_CLIPPABLE = (
    ("self_attn.q_proj", "wide q"), ("self_attn.k_proj", "wide k"), ("self_attn.v_proj", "wide k"),
    ("self_attn.o_proj", "q wide"), ("mlp.gate_proj", "wide ff"), ("mlp.up_proj", "wide ff"),
    ("mlp.down_proj", "ff wide"),
)  # fmt: skip
_LIMITS = ("input_min", "input_max", "output_min", "output_max")
_MERGER = """
    {0}norm: norm {1} +
    {0}linear_fc1: linear merged merged +
    {0}linear_fc2: linear merged out +
"""

TOWERS: dict[str, Tower] = {
    "siglip": Tower(
        lines("""
            model.vision_tower.embeddings.patch_embedding: conv wide channels patch patch +
            model.vision_tower.embeddings.position_embedding: table positions wide
            model.vision_tower.embeddings.position_ids: i64 1 positions
        """),
        "model.vision_tower.encoder.layers",
        lines(_ATTENTION.format("")),
        _POOLED + lines("""
            model.multi_modal_projector.mm_input_projection_weight: param wide embd
            model.multi_modal_projector.mm_soft_emb_norm: norm wide
        """),
        _siglip,
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_channels": 3, "image_size": 224, "patch_size": 16},
    ),
    "pixtral": Tower(
        lines("""
            model.vision_tower.patch_conv: conv wide channels patch patch
            model.vision_tower.ln_pre: norm wide
            model.vision_tower.patch_positional_embedding.inv_freq: f32 rot
            model.vision_tower.patch_positional_embedding.original_inv_freq: f32 rot
        """),
        "model.vision_tower.transformer.layers",
        lines("""
            attention_norm: norm wide
            feed_forward.gate_proj: linear wide ff
            feed_forward.up_proj: linear wide ff
            feed_forward.down_proj: linear ff wide
            attention.k_proj: linear wide wide
            attention.v_proj: linear wide wide
            attention.q_proj: linear wide wide
            attention.o_proj: linear wide wide
            ffn_norm: norm wide
        """),
        lines("""
            model.multi_modal_projector.norm: norm wide
            model.multi_modal_projector.patch_merger.merging_layer: linear merged wide
            model.multi_modal_projector.linear_1: linear features embd +projector_bias
            model.multi_modal_projector.linear_2: linear embd embd +projector_bias
        """),
        _pixtral,
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
         "num_attention_heads": 16, "num_channels": 3, "patch_size": 16},
    ),
    "qwen3vl": Tower(
        lines("""
            model.visual.patch_embed.proj: conv wide channels frames patch patch +
            model.visual.pos_embed: table positions wide
            model.visual.rotary_pos_emb.inv_freq: f32 rot
            model.visual.rotary_pos_emb.original_inv_freq: f32 rot
        """),
        "model.visual.blocks",
        lines("""
            norm1: norm wide +
            norm2: norm wide +
            attn.qkv: linear wide 3*wide +
            attn.proj: linear wide wide +
            mlp.linear_fc1: linear wide ff +
            mlp.linear_fc2: linear ff wide +
        """),
        lines(_MERGER.format("model.visual.merger.", "wide")),
        _qwen3vl,
        {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
         "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
         "out_hidden_size": 3584, "num_position_embeddings": 2304,
         "deepstack_visual_indexes": [8, 16, 24]},
        lines(_MERGER.format("", "merged")),
    ),
    "gemma4": Tower(
        lines("""
            model.vision_tower.patch_embedder.position_embedding_table: param 2 positions wide
            model.vision_tower.patch_embedder.input_proj: linear pixels wide
            model.vision_tower.encoder.rotary_emb.inv_freq: f32 rot
            model.vision_tower.encoder.rotary_emb.original_inv_freq: f32 rot
            model.vision_tower.std_bias: buffer wide if standard
            model.vision_tower.std_scale: buffer wide if standard
        """),
        "model.vision_tower.encoder.layers",
        tuple(line for name, shape in _CLIPPABLE for line in lines(
            "\n".join([f"{name}.linear: linear {shape}",
                       *(f"{name}.{limit}: buffer if clipped" for limit in _LIMITS)])
        )) + lines("""
            self_attn.q_norm: norm head
            self_attn.k_norm: norm head
            input_layernorm: norm wide
            post_attention_layernorm: norm wide
            pre_feedforward_layernorm: norm wide
            post_feedforward_layernorm: norm wide
        """),
        lines("model.embed_vision.embedding_projection: linear wide embd"),
        _gemma4,
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16,
         "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64, "patch_size": 16,
         "position_embedding_size": 10240},
    ),
}  # fmt: skip
