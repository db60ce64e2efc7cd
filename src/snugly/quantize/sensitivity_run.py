"""The pass over a text that tells what matters: a task of the process that runs models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snugly.errors import UserError
from snugly.quantize.logits_gguf import GgufModel
from snugly.quantize.measure_loss import cut
from snugly.quantize.reader import Source, read_gguf
from snugly.quantize.sensitivity import write_sensitivity
from snugly.quantize.sensitivity_check import PLACES, check
from snugly.quantize.sensitivity_errors import Cost, Errors
from snugly.quantize.sensitivity_net import Floats, Net

Say = Callable[[dict[str, Any]], None]
_BLOCK = 256  # places whose logits are held at once
# Of every second text the first half goes back too. What comes in needs the most text (8,960
# columns, some of them rarely used); gradients only rank 200 tensors, and going back through a
# place takes twice the time.
_BACK, _SHORTER = 2, 2
_TABLE_ROWS = 64  # places whose embeddings are tried


def calibrate(config: dict[str, Any], say: Say) -> None:
    """`model`, `text`, `places`, `texts`, `tiny`, `threads`, `out`, `text_name`, `text_sha256`."""
    source = read_gguf(config["model"])
    net = Net(source, config["threads"])
    tokens = _tokens(config, source, say)
    run = Calibration(source, net, tokens, config["threads"], config["tiny"], say)
    costs = {name: (cost.inputs, cost.errors) for name, cost in run.costs().items()}
    write_sensitivity(Path(config["out"]), source, costs, config["text_name"],
                      config["text_sha256"], *tokens.shape)  # fmt: skip


def _tokens(config: dict[str, Any], source: Source, say: Say) -> NDArray[np.int64]:
    """Texts [texts, places], after what we compute was compared with the engine."""
    model = GgufModel(config["model"], PLACES, config["threads"], words_only=True)
    found = cut(model.tokens(config["text"]), config["places"], config["texts"])
    bos = model.bos
    model.close()
    if not found:
        raise UserError(
            "The calibration text is too short.",
            f"It has fewer than {config['places']} tokens.",
            "Give more of it with --calibrate, or leave that out.",
        )
    tokens = np.array(found, dtype=np.int64)
    if bos is not None:
        tokens[:, 0] = bos
    folder = Path(config["out"]).parent
    say({"checked": check(config["model"], source, tokens[0, :PLACES].tolist(), config["threads"],
                          folder)})  # fmt: skip
    return tokens


class Calibration:
    """One pass forwards and one back."""

    def __init__(
        self, source: Source, net: Net, tokens: NDArray[np.int64], threads: int, tiny: bool,
        say: Say,
    ) -> None:  # fmt: skip
        self._net, self._tokens, self._say = net, tokens, say
        places = max(tokens.shape[1] // _SHORTER, 1)
        self._back = (slice(None, None, _BACK), slice(places))  # of [texts, places]
        self._errors = Errors(threads, tiny)
        self._costs: dict[str, Cost] = {}
        self._inputs: dict[str, Floats] = {}
        self._draw = np.random.default_rng(1)
        self._steps = 2 * net.shape.layers + 2
        self._done = 0

    def costs(self) -> dict[str, Cost]:
        """Of every matrix of the model."""
        h = self._net.embed(self._tokens)
        streams = [h[self._back].copy()]
        for number in range(self._net.shape.layers):
            h = self._net.layer(number).forward(h, self._entering)
            streams.append(h[self._back].copy())
            self._step("forwards")
        self._entering(self._net.head, self._net.final(h))
        last = streams.pop()
        given = self._net.final_back(last, self._head(self._net.final(last)))
        self._step("the head")
        for number in reversed(range(self._net.shape.layers)):
            given = self._net.layer(number).backward(streams.pop(), given, self._seen)
            self._step("backwards")
        self._table(given.reshape(-1, self._net.shape.width))
        self._step("the embeddings")
        return self._costs

    def _step(self, what: str) -> None:
        self._done += 1
        self._say({"step": self._done, "of": self._steps, "what": what})

    def _entering(self, name: str, x: Floats) -> None:
        self._inputs[name] = np.einsum("ti,ti->i", x, x) / np.float32(len(x))

    def _seen(self, name: str, x: Floats, given: Floats) -> None:
        rows = self._net.weights
        self._costs[name] = self._errors.of_matrix(
            lambda row: rows.rows(name, row, 1), self._inputs[name], x, given
        )

    def _head(self, x: Floats) -> Floats:
        """Gradients over the head's input, by labels drawn from the model; its own cost."""
        result = np.empty_like(x)
        for start in range(0, len(x), _BLOCK):
            part = x[start : start + _BLOCK]
            logits = self._net.logits(part)
            wrong = logits - logits.max(axis=1, keepdims=True)
            np.exp(wrong, out=wrong)
            wrong /= wrong.sum(axis=1, keepdims=True)
            for row, mark in zip(wrong, self._draw.random(len(part)), strict=True):
                sums = np.cumsum(row, dtype=np.float64)
                row[min(np.searchsorted(sums, mark * sums[-1]), len(row) - 1)] -= 1
            over, result[start : start + _BLOCK] = self._net.head_back(wrong, logits)
            if start == 0:
                self._seen(self._net.head, part, over)
        return result

    def _table(self, given: Floats) -> None:
        """The embeddings; where they are the head too, both costs add up."""
        name = "token_embd.weight"
        size = np.einsum("tj,tj->t", given, given, dtype=np.float64)
        picked = self._errors.pick(size, min(_TABLE_ROWS, len(given)))
        tokens = self._tokens[self._back].reshape(-1)[picked]
        sample = np.concatenate([self._net.weights.rows(name, int(t), 1) for t in tokens])
        cost = self._errors.of_embedding(
            sample, given[picked], self._net.shape.embedding_scale, float(size.mean())
        )
        head = self._costs.get(name)
        if head is not None:
            both = {kind: error + cost.errors.get(kind, 0.0)
                    for kind, error in head.errors.items()}  # fmt: skip
            cost = Cost(head.inputs, both)
        self._costs[name] = cost
