"""A decoder of Llama's build, forwards and backwards, in numpy, a layer's weights at a time.

For each matrix the pass back shows what comes in and the gradient of what goes out, at each
place of the text. Only the residual stream of each layer is kept; the rest is computed anew on
the way back, so a model of any size needs little more than one layer in single precision.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snugly.errors import BadModelFile
from snugly.quantize.reader import Source
from snugly.quantize.sensitivity_parts import attend, attend_back, gelu, norm, norm_back, silu, turn
from snugly.quantize.sensitivity_shape import Shape, shape_of
from snugly.quantize.sensitivity_threads import product
from snugly.quantize.sensitivity_weights import Weights

Floats = NDArray[np.float32]
# (name of the tensor, what comes in [places, in], gradient of what goes out [places, out])
Seen = Callable[[str, Floats, Floats], None]
Entering = Callable[[str, Floats], None]  # name of the tensor, what comes in [places, in]
SLICE = 8192  # rows of the head that are decoded at once


class Net:
    """A model for texts of equal length, [texts, places]."""

    def __init__(self, source: Source, threads: int = 1) -> None:
        names = [item.tensor.name for item in source.tensors]
        self._threads = threads
        self.shape: Shape = shape_of(source.metadata, names)
        self.weights = Weights(source, threads)
        self.head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"

    def embed(self, tokens: NDArray[np.int64]) -> Floats:
        """The residual stream [texts, places, width] before the first layer."""
        distinct, where = np.unique(tokens, return_inverse=True)
        table = np.concatenate([self.weights.rows("token_embd.weight", int(t), 1)
                                for t in distinct])  # fmt: skip
        found = table[where.reshape(tokens.shape)] * np.float32(self.shape.embedding_scale)
        return np.asarray(found, dtype=np.float32)

    def layer(self, number: int) -> "Layer":
        """One layer with its weights."""
        return Layer(self.shape, self.weights, number, self._threads)

    def final(self, h: Floats) -> Floats:
        """What the head sees [places, width]."""
        weight = self.weights.vector("output_norm.weight")
        assert weight is not None
        return norm(h, weight, self.shape.epsilon).reshape(-1, self.shape.width)

    def final_back(self, h: Floats, given: Floats) -> Floats:
        """Gradient over the residual stream after the last layer."""
        weight = self.weights.vector("output_norm.weight")
        assert weight is not None
        return norm_back(h, weight, self.shape.epsilon, given.reshape(h.shape))

    def head_slices(self) -> Iterator[tuple[int, Floats]]:
        """Rows of the head: (first row, rows)."""
        rows = self.weights.item(self.head).tensor.shape[1]
        for first in range(0, rows, SLICE):
            yield first, self.weights.rows(self.head, first, SLICE)

    def logits(self, x: Floats) -> Floats:
        """Logits [places, vocabulary] of what `final` gave."""
        vocabulary = self.weights.item(self.head).tensor.shape[1]
        found = np.empty((len(x), vocabulary), dtype=np.float32)
        for first, rows in self.head_slices():
            found[:, first : first + len(rows)] = product(x, rows.T, self._threads)
        found /= np.float32(self.shape.logit_scale)
        if self.shape.logit_cap:
            cap = np.float32(self.shape.logit_cap)
            found /= cap
            np.tanh(found, out=found)
            found *= cap
        return found

    def head_back(self, given: Floats, logits: Floats) -> tuple[Floats, Floats]:
        """From the gradient over logits to those over the head's result and its input."""
        if self.shape.logit_cap:
            given = given * (1 - (logits / np.float32(self.shape.logit_cap)) ** 2)
        if self.shape.logit_scale != 1:
            given = given / np.float32(self.shape.logit_scale)
        over = np.zeros((len(given), self.shape.width), dtype=np.float32)
        for first, rows in self.head_slices():
            over += product(given[:, first : first + len(rows)], rows, self._threads)
        return given, over


class Layer:
    """One layer, its weights decoded."""

    def __init__(self, shape: Shape, weights: Weights, number: int, threads: int = 1) -> None:
        self._shape, self._number, self._threads = shape, number, threads
        self._prefix = f"blk.{number}."
        self._weights = weights
        self._matrices: dict[str, Floats] = {}
        self._entering: Entering | None = None
        self._factors = weights.vector("rope_freqs.weight")
        if self._factors is None:
            self._factors = weights.vector("rope_factors_short.weight")

    def forward(self, h: Floats, entering: Entering | None = None) -> Floats:
        """The residual stream after this layer; `entering` is shown what every matrix gets.

        Raises: BadModelFile when it holds what is no number.
        """
        self._entering = entering
        with np.errstate(invalid="ignore", over="ignore"):
            out: Floats = self._run(h)["out"]
        self._entering = None
        if not np.isfinite(out).all():
            raise BadModelFile(
                f"Layer {self._number} of the model cannot be computed.",
                "A weight in it is no number or infinite, or far too large.",
                "Fetch the model again with `snugly pull`, or ask whoever made the file.",
            )
        return out

    def backward(self, h: Floats, given: Floats, seen: Seen) -> Floats:
        """Gradient over the stream before this layer; `seen` is shown every matrix."""
        kept = self._run(h)
        middle = given + self._feed_back(kept, given, seen)
        return middle + self._attention_back(h, kept, middle, seen)

    def _run(self, h: Floats) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        x = kept["attention in"] = self._norm("attn_norm", h)
        gathered = kept["gathered"] = self._attention(x, kept)
        added = kept["attention out"] = self._linear("attn_output", gathered)
        scale = np.float32(self._shape.residual_scale)
        middle = kept["middle"] = h + scale * self._norm("post_attention_norm", added)
        x = kept["feed in"] = self._norm("ffn_norm", middle)
        fed = kept["fed"] = self._feed(x, kept)
        added = kept["feed out"] = self._linear("ffn_down", fed)
        kept["out"] = middle + scale * self._norm("post_ffw_norm", added)
        return kept

    # ---- the feed-forward part

    def _gates(self, x: Floats) -> tuple[Floats, Floats]:
        if self._has("ffn_gate"):
            return self._linear("ffn_gate", x), self._linear("ffn_up", x)
        gate, up = np.split(self._linear("ffn_up", x), 2, axis=-1)
        return gate, up

    def _feed(self, x: Floats, kept: dict[str, Any]) -> Floats:
        gate, up = self._gates(x)
        bent, slope = gelu(gate) if self._shape.gelu else silu(gate)
        kept["up"], kept["bent"], kept["slope"] = up, bent, slope
        return bent * up

    def _feed_back(self, kept: dict[str, Any], given: Floats, seen: Seen) -> Floats:
        given = given * np.float32(self._shape.residual_scale)
        given = self._norm_back("post_ffw_norm", kept["feed out"], given)
        over = self._linear_back("ffn_down", kept["fed"], given, seen)
        gate, up = over * kept["up"] * kept["slope"], over * kept["bent"]
        x = kept["feed in"]
        if self._has("ffn_gate"):
            over = self._linear_back("ffn_gate", x, gate, seen)
            over += self._linear_back("ffn_up", x, up, seen)
        else:
            both = np.concatenate([gate, up], axis=-1)
            over = self._linear_back("ffn_up", x, both, seen)
        return self._norm_back("ffn_norm", kept["middle"], over)

    # ---- attention

    def _attention(self, x: Floats, kept: dict[str, Any]) -> Floats:
        shape = self._shape
        texts, places = x.shape[:2]
        raw = kept["raw"] = self._queries(x)
        angles = kept["angles"] = shape.angles(places, self._number, self._factors)
        q, k = (turn(self._head_norm(f"attn_{name}_norm", part), angles, shape.halves)
                for name, part in zip("qk", raw[:2], strict=True))  # fmt: skip
        kept["q"], kept["k"], kept["attends"] = q, k, []
        hidden = self._hidden(places)
        found = np.empty((texts, places, shape.heads * shape.value_length), dtype=np.float32)
        for text in range(texts):
            heads, attends = attend(q[text].swapaxes(0, 1), k[text].swapaxes(0, 1),
                                    raw[2][text].swapaxes(0, 1), shape.attention_scale, hidden,
                                    shape.attention_cap)  # fmt: skip
            kept["attends"].append(attends)
            found[text] = heads.swapaxes(0, 1).reshape(places, -1)
        return found

    def _hidden(self, places: int) -> NDArray[np.bool_]:
        rows, columns = np.arange(places)[:, None], np.arange(places)
        hidden = columns > rows
        if self._shape.has_window(self._number):
            hidden |= columns <= rows - self._shape.window
        return hidden

    def _queries(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Queries, keys and values [texts, places, heads, length]."""
        shape = self._shape
        counts = (shape.heads, shape.kv_heads, shape.kv_heads)
        lengths = (shape.length, shape.length, shape.value_length)
        if self._has("attn_qkv"):
            sizes = np.cumsum([n * m for n, m in zip(counts, lengths, strict=True)])[:-1]
            parts = np.split(self._linear("attn_qkv", x), sizes, axis=-1)
        else:
            parts = [self._linear(f"attn_{name}", x) for name in "qkv"]
        q, k, v = (part.reshape(*x.shape[:2], n, m)
                   for part, n, m in zip(parts, counts, lengths, strict=True))  # fmt: skip
        return q, k, v

    def _attention_back(self, h: Floats, kept: dict[str, Any], given: Floats, seen: Seen) -> Floats:
        shape = self._shape
        given = given * np.float32(shape.residual_scale)
        given = self._norm_back("post_attention_norm", kept["attention out"], given)
        over = self._linear_back("attn_output", kept["gathered"], given, seen)
        texts, places = over.shape[:2]
        over = over.reshape(texts, places, shape.heads, shape.value_length)
        grads: list[list[Floats]] = [[], [], []]
        for text in range(texts):
            found = attend_back(
                kept["q"][text].swapaxes(0, 1), kept["k"][text].swapaxes(0, 1),
                kept["raw"][2][text].swapaxes(0, 1), shape.attention_scale, shape.attention_cap,
                kept["attends"][text], over[text].swapaxes(0, 1),
            )  # fmt: skip
            for into, part in zip(grads, found, strict=True):
                into.append(part.swapaxes(0, 1))
        q, k, v = (np.stack(parts) for parts in grads)
        q, k = (
            self._head_norm_back(f"attn_{name}_norm", raw,
                                 turn(part, kept["angles"], shape.halves, back=True))
            for name, raw, part in zip("qk", kept["raw"][:2], (q, k), strict=True)
        )  # fmt: skip
        flat = [part.reshape(texts, places, -1) for part in (q, k, v)]
        x = kept["attention in"]
        if self._has("attn_qkv"):
            over = self._linear_back("attn_qkv", x, np.concatenate(flat, axis=-1), seen)
        else:
            over = sum((self._linear_back(f"attn_{name}", x, part, seen)
                        for name, part in zip("qkv", flat, strict=True)),
                       np.zeros_like(x))  # fmt: skip
        return self._norm_back("attn_norm", h, over)

    # ---- single steps

    def _has(self, part: str) -> bool:
        return f"{self._prefix}{part}.weight" in self._weights

    def _matrix(self, part: str) -> Floats:
        if part not in self._matrices:
            self._matrices[part] = self._weights.matrix(f"{self._prefix}{part}.weight")
        return self._matrices[part]

    def _linear(self, part: str, x: Floats) -> Floats:
        flat = x.reshape(-1, x.shape[-1])
        if self._entering:
            self._entering(f"{self._prefix}{part}.weight", flat)
        found = product(flat, self._matrix(part).T, self._threads)
        bias = self._weights.vector(f"{self._prefix}{part}.bias")
        if bias is not None:
            found += bias
        return np.asarray(found.reshape(*x.shape[:-1], -1), dtype=np.float32)

    def _linear_back(self, part: str, x: Floats, given: Floats, seen: Seen) -> Floats:
        flat = np.ascontiguousarray(given.reshape(-1, given.shape[-1]))
        seen(f"{self._prefix}{part}.weight", x.reshape(-1, x.shape[-1]), flat)
        return product(flat, self._matrix(part), self._threads).reshape(x.shape)

    def _norm(self, part: str, x: Floats) -> Floats:
        weight = self._weights.vector(f"{self._prefix}{part}.weight")
        return x if weight is None else norm(x, weight, self._shape.epsilon)

    def _norm_back(self, part: str, x: Floats, given: Floats) -> Floats:
        weight = self._weights.vector(f"{self._prefix}{part}.weight")
        return given if weight is None else norm_back(x, weight, self._shape.epsilon, given)

    _head_norm, _head_norm_back = _norm, _norm_back
