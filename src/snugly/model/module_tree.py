"""From a Hugging Face `config.json` to the parameters and buffers of its transformers class. Pure.

    tree_of_config(config, name)   class, weights and what had to be assumed

Architectures are tables (modules_dense, modules_sparse, modules_vision); one that has none is
refused by name. How a config is read is shared with `model.config`: the same sizes serve
llama.cpp's tensors and transformers' modules.
"""

from dataclasses import dataclass, replace
from typing import Any

from snugly.errors import UserError
from snugly.model.config import FAMILIES
from snugly.model.config_fields import Config
from snugly.model.config_rows import Shape, Sizes
from snugly.model.modules import Kind, Tree, Weight, weights_of
from snugly.model.modules_dense import DENSE
from snugly.model.modules_sparse import SPARSE
from snugly.model.modules_vision import TOWERS, tower_weights

TREES: dict[str, Tree] = {kind: tree for tree in DENSE + SPARSE for kind in tree.model_types}

# Defaults of outer configuration classes, where they differ from those of the language part's.
_OUTER: dict[str, dict[str, Any]] = {"mistral3": {"tie_word_embeddings": True}}


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """One model as transformers builds it; tied weights stand once."""

    class_name: str
    weights: tuple[Weight, ...]  # parameters in the class's order, then buffers
    tied: bool  # the output head is the embedding
    float32: tuple[str, ...]
    float32_in_float16: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def n_parameters(self) -> int:
        """As `sum(p.numel() for p in model.parameters())` counts them."""
        return sum(w.n_elements for w in self.weights if w.kind is not Kind.BUFFER)


def covered() -> tuple[str, ...]:
    """The `model_type`s that have a table, in order."""
    return tuple(sorted(TREES))


def tree_of_config(raw: dict[str, Any], name: str) -> ModuleTree:
    """What transformers 5.23 builds from this config.

    A config without `vision_config` is taken as its language model alone.

    Raises: UserError naming the architecture or vision part that is not covered, or the key
    that is wrong.
    """
    config = Config(raw, name)
    kind = config.values.get("model_type")
    # A multimodal config gives its language part's type last; the outer one decides.
    kind = raw.get("model_type", kind)
    if not isinstance(kind, str) or kind not in TREES:
        raise _not_covered(name, kind)
    tree = TREES[kind]
    family = FAMILIES.get(kind) or FAMILIES.get(str(config.values.get("model_type")))
    if family is None:  # an outer config whose language part is of another kind
        raise _not_covered(name, config.values.get("model_type"))
    if kind in FAMILIES:
        config.values["model_type"] = kind
    if tree.vision != "apart" and config.part("vision_config"):
        # Whether the head is tied is asked of the outer config then, not of its text part.
        config.values.pop("tie_word_embeddings", None)
        if "tie_word_embeddings" in raw:
            config.values["tie_word_embeddings"] = raw["tie_word_embeddings"]
    config.defaults = dict(family.defaults) | _OUTER.get(kind, {})
    shape = family.read(config)
    shape.layers = [layer for layer in shape.layers if not layer.get("nextn")]
    sizes = _sizes(config, shape, tree)
    weights = _filled(config, tree, shape, sizes)
    weights, class_name = _with_vision(config, tree, sizes, weights)
    _remark_on_checkpoint(config)
    ordered = [w for w in weights if w.kind is not Kind.BUFFER]
    ordered += [w for w in weights if w.kind is Kind.BUFFER]
    return ModuleTree(
        class_name,
        tuple(ordered),
        bool(sizes["tied"]),
        tree.float32,
        tree.float32_in_float16,
        tuple(config.open_points),
    )


def _sizes(config: Config, shape: Shape, tree: Tree) -> Sizes:
    sizes = dict(shape.sizes)
    rotated = sizes.get("kv_a", 0) - sizes.get("rank", 0)  # latent attention: the part apart
    if not rotated or "kv_a" not in sizes:
        rotated = int(sizes["head"] * config.rotary(tree.rotated))
    sizes["rot"] = (rotated + 1) // 2
    tree.more(config, sizes)
    return sizes


def _filled(config: Config, tree: Tree, shape: Shape, sizes: Sizes) -> list[Weight]:
    try:
        found = [weight for line in tree.before for weight in weights_of(line, sizes)]
        for number, own in enumerate(shape.layers):
            here, prefix = {**sizes, **own}, f"{tree.layers}.{number}."
            found += [w for line in tree.layer for w in weights_of(line, here, prefix)]
        return found + [weight for line in tree.after for weight in weights_of(line, sizes)]
    except ValueError as error:
        config.fail("hidden_size", f"With these values {error}")


def _with_vision(
    config: Config, tree: Tree, sizes: Sizes, weights: list[Weight]
) -> tuple[list[Weight], str]:
    if not config.part("vision_config"):
        if not tree.text_class:
            config.fail("vision_config", "It is missing, and this class has no other form")
        return weights, tree.class_name
    if tree.vision == "apart":
        config.note("the vision part is not counted: AutoModelForCausalLM loads the text alone")
        return weights, tree.class_name
    inner = [
        replace(w, name=w.name.replace("model.", "model.language_model.", 1))
        if w.name.startswith("model.") else w for w in weights
    ]  # fmt: skip
    name = tree.class_name.replace("ForCausalLM", "ForConditionalGeneration")
    return tower_weights(TOWERS[tree.vision], config, sizes) + inner, name


def _remark_on_checkpoint(config: Config) -> None:
    method = config.part("quantization_config").get("quant_method")
    if method:
        config.note(f"the checkpoint itself is quantized ({method}); shown is what it would be"
                    " if it were loaded unquantized, or quantized anew")  # fmt: skip
    dtype = str(config.get("dtype", "torch_dtype") or "")
    if dtype == "float32":
        config.note("the config says float32: without dtype= transformers keeps what is not"
                    " quantized in float32")  # fmt: skip


def _not_covered(name: str, kind: object) -> UserError:
    return UserError(
        f"The transformers class of {name} has no table yet:"
        f" {kind if isinstance(kind, str) and kind else 'no model_type is given'}.",
        f"Covered are {', '.join(covered())}.",
        "`snugly plan` may know it as a GGUF; or load it on torch's meta device and ask it.",
    )
