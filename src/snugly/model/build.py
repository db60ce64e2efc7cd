"""From a whole ModelSpec to the few numbers of a Build. Pure."""

import re
from collections import Counter
from collections.abc import Iterable

from snugly.model.types import Build, Bytes, LayerWeights, ModelSpec, Outline, Tensor

_BLOCK = re.compile(r"^blk\.(\d+)\.")
# Where llama.cpp puts what belongs to no block: src/llama-arch.cpp, LLM_TENSOR_INFOS.
_LOOKED_UP = (
    "token_embd.weight",
    "per_layer_token_embd.weight",
    "position_embd.weight",
    "token_types.weight",
)
_WITH_FIRST_LAYER = ("per_layer_model_proj.weight", "per_layer_proj_norm.weight")
_EXPERTS = re.compile(r"_(exps|chexps)\b")  # as llama.cpp's --cpu-moe matches them


def build_of(spec: ModelSpec) -> Build:
    """What a search needs of `spec`."""
    dense: dict[int, list[Tensor]] = {}
    experts: dict[int, list[Tensor]] = {}
    embedding, output = [], []
    tied = 0
    for tensor in spec.tensors:
        block = _BLOCK.match(tensor.name)
        if block:
            side = experts if _EXPERTS.search(tensor.name) else dense
            side.setdefault(int(block[1]), []).append(tensor)
        elif tensor.name in _WITH_FIRST_LAYER:
            dense.setdefault(0, []).append(tensor)
        elif tensor.name in _LOOKED_UP:
            embedding.append(tensor)
            if spec.tied_embeddings and spec.is_causal and tensor.name == _LOOKED_UP[0]:
                output.append(tensor)  # an encoder has no head: nothing is multiplied with it
                tied = tensor.n_bytes
        else:
            output.append(tensor)
    return Build(
        name=spec.name,
        architecture=spec.architecture,
        file_type=spec.file_type,
        file_bytes=spec.file_bytes,
        n_params=spec.n_params,
        layers=spec.layers,
        weights=tuple(
            LayerWeights(by_type(dense.get(i, ())), by_type(experts.get(i, ())))
            for i in range(len(spec.layers))
        ),
        embedding=by_type(embedding),
        output=by_type(output),
        tied_embeddings=spec.tied_embeddings,
        context_train=spec.context_train,
        embedding_length=spec.embedding_length,
        feed_forward_length=spec.feed_forward_length,
        n_heads=spec.n_heads,
        vocab_size=spec.vocab_size,
        n_merges=spec.n_merges,
        experts=spec.experts,
        experts_used=spec.experts_used,
        is_causal=spec.is_causal,
        widths=widths(spec.tensors),
        tied_bytes=tied,
    )


def widths(tensors: Iterable[Tensor]) -> tuple[tuple[str, int, int], ...]:
    """What each kind of matrix takes in and gives, in elements; the widest of all layers.

    And the table that positions are turned by, where there is one: it orders what a GPU does.
    """
    found: dict[str, tuple[int, int]] = {}
    for tensor in tensors:
        name = _BLOCK.sub("", tensor.name).removesuffix(".weight")
        if len(tensor.shape) > 1 or name == "rope_freqs":
            before = found.get(name, (0, 0))
            gives = tensor.shape[1] if len(tensor.shape) > 1 else 1
            found[name] = max(before[0], tensor.shape[0]), max(before[1], gives)
    return tuple((name, *both) for name, both in sorted(found.items()))


def by_type(tensors: Iterable[Tensor]) -> Bytes:
    """Bytes of some tensors, by type, largest first."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.ggml_type] += tensor.n_bytes
    return tuple(sizes.most_common())


def weight_bytes(build: Build) -> int:
    """Bytes of all weights, each once."""
    parts: list[Bytes] = [build.embedding]
    for layer in build.weights:
        parts += [layer.dense, layer.experts]
    total = sum(n_bytes for part in parts for _, n_bytes in part)
    once = sum(n_bytes for _, n_bytes in build.output)
    return total + once - build.tied_bytes


def loaded(build: Build) -> tuple[LayerWeights, ...]:
    """Weights of each layer that is loaded: not of the last ones where they only draft.

    llama.cpp skips those unless it is told to draft with them (load_mtp); the file has them.
    """
    count = len(build.weights)
    if any(name.startswith("nextn.") for name, _, _ in build.widths):
        while count and not build.layers[count - 1].cached:
            count -= 1
    return build.weights[:count] + (LayerWeights(()),) * (len(build.weights) - count)


def outline_of(build: Build) -> Outline:
    """The sums of a build."""
    weights = loaded(build)
    return Outline(
        file_bytes=build.file_bytes,
        context_train=build.context_train,
        dense=_together(layer.dense for layer in weights),
        experts=_together(layer.experts for layer in weights),
        output=build.output,
        kinds=tuple(Counter(build.layers).items()),
        mixtures=sum(1 for layer in weights if layer.experts),
        experts_share=build.experts_used / build.experts if build.experts else 1.0,
        n_heads=build.n_heads,
    )


def _together(parts: Iterable[Bytes]) -> Bytes:
    sizes: Counter[str] = Counter()
    for part in parts:
        sizes.update(dict(part))
    return tuple(sizes.most_common())


def read_bytes(outline: Outline) -> float:
    """Bytes of weights that one token reads: of a mixture the experts that it uses."""
    always = sum(n for _, n in (*outline.dense, *outline.output))
    return always + outline.experts_share * sum(n for _, n in outline.experts)
