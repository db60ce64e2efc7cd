"""The most that a candidate can reach on a box, from its outline alone. Pure.

No way to run it is predicted to be faster (a test tries them all). The terms are those of
`plan.speed`, each at the lowest price that any processor of the box takes; on a box of one
processor little is left but the type of the cache.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from snugly.model.types import Outline
from snugly.plan.box import Box
from snugly.plan.preference import Q8_CACHE
from snugly.plan.prospects import Most, Reach, no_wait
from snugly.plan.setups import KV_TYPES, UBATCHES
from snugly.plan.speed_cost import BUS_BYTES_PER_S, WORTH_MOVING, looked_back, prompt_look
from snugly.plan.speed_lanes import UBATCH, looks_back, prices_of
from snugly.plan.speed_learning import Corrections
from snugly.plan.speed_prices import Looking, Prices
from snugly.plan.speed_processors import UNUSED
from snugly.plan.speed_terms import bytes_per_weight, touched
from snugly.plan.tasks import Task
from snugly.plan.types import Candidate, Need

_SLACK = 1 + 1e-9  # sums of the same terms in another order differ in their last digits
_PROBE = 1 << 20  # bytes: a whole number of blocks of every type


@dataclass(frozen=True, slots=True)
class _Price:
    """Seconds per byte of a tensor type."""

    token: float  # of answers: of what every token reads
    expert: float  # of experts, were all of them read
    prompt: float  # of prompts, per token
    prompt_expert: float
    read: float  # once per micro-batch


class _OfTypes(dict[str, _Price]):
    """The lowest price of each tensor type among some processors, worked out when asked for."""

    def __init__(self, prices: Sequence[Prices]) -> None:
        super().__init__()
        self._prices = prices

    def __missing__(self, type_name: str) -> _Price:
        part = ((type_name, _PROBE),)
        found = self[type_name] = _Price(
            min(one.token(part, None) for one in self._prices) / _PROBE,
            min(one.token(part, 1.0) for one in self._prices) / _PROBE,
            min(one.prompt(part, None) for one in self._prices) / _PROBE,
            min(one.prompt(part, 1.0) for one in self._prices) / _PROBE,
            min(one.read(part) for one in self._prices) / _PROBE,
        )
        return found


class _Cheapest:
    """The lowest price of each term among some processors."""

    def __init__(self, prices: Sequence[Prices]) -> None:
        self.step = min(one.step for one in prices)
        self.mixture = min(one.mixture for one in prices)
        self.prompt_step = min(one.prompt_step for one in prices)
        columns = zip(*(one.looking for one in prices), strict=True)
        self.looking = Looking(*map(min, columns))
        self.of = _OfTypes(prices)


class _Sums(NamedTuple):
    """Seconds of all weights at the lowest prices: of a token, of a prompt's, of a micro-batch."""

    token: float
    prompt: float
    read: float
    met: float  # of all experts, the part that some token of a micro-batch uses
    left: float  # bytes that GPUs have no room for


class _Looks(NamedTuple):
    """Seconds of looking back, which are the same for all types of a model."""

    outline: Outline  # held, so that the id of its kinds stays their own
    context: int
    layers: int
    answer: float  # per token, behind the whole context
    prompt: float  # per token of the task's prompt


def _cheapest(left: float, prices: list[tuple[float, int]]) -> float:
    """Seconds more for `left` bytes, were they those that cost least more. (price, bytes)."""
    seconds = 0.0
    for more, n_bytes in sorted(prices):
        if left <= 0:
            break
        seconds += more * min(left, n_bytes)
        left -= n_bytes
    return seconds


class Limits:
    """The most that candidates reach on one box, for one need."""

    def __init__(self, box: Box, learned: Corrections, need: Need, task: Task) -> None:
        """`learned` counts: what runs taught may make everything faster than by the table."""
        used = [one for one in box.processors if one.kind != UNUSED]
        prices = [[prices_of(one, repack, True) for repack in (True, False)] for one in used]
        self._best = _Cheapest([price for pair in prices for price in pair])
        self._ram = _Cheapest(prices[0])
        rooms = [max(0, budget - box.engine.device_bytes) for budget in box.budgets[1:]]
        self._gpu_bytes = sum(rooms) if rooms else None
        self._stages = max(1, len(box.pools) - 1)  # GPUs that work on different micro-batches
        # One GPU is never quicker with more micro-batches: none of what they take is negative.
        self._ubatches = UBATCHES if self._stages > 1 else UBATCHES[:1]
        self._box, self._learned = box, learned
        self._need, self._task = need, task
        types = (need.kv_type,) if need.kv_type else KV_TYPES
        self._element_bytes = min(map(bytes_per_weight, types))
        self._factors: dict[str, tuple[float, float]] = {}
        self._looks: dict[int, _Looks] = {}

    def most(self, candidate: Candidate, anywhere: Reach | None = None) -> Most:
        """The most of any way (which may be known), and of those that leave the GPUs alone."""
        in_ram = self._in_ram.of(candidate) if self._in_ram else None
        return Most(anywhere or self.of(candidate), in_ram)

    @cached_property
    def _in_ram(self) -> "Limits | None":
        box = self._box
        if len(box.pools) == 1:
            return None
        alone = replace(box, pools=box.pools[:1], reserves=box.reserves[:1],
                        processors=box.processors[:1])  # fmt: skip
        return Limits(alone, self._learned, self._need, self._task)

    def of(self, candidate: Candidate) -> Reach:
        """The most that `candidate` reaches with the whole context; less of it is never better."""
        outline, need, task = candidate.outline, self._need, self._task
        context = need.context or min(outline.context_train, task.context)
        slower, slower_prompt = self._least_factors(candidate.file_type)
        sums, looks = self._sums(outline), self._looks_of(outline, context)
        token = slower * self._token(outline, sums, looks)
        part = min(1.0, task.prompt_tokens / context)
        deep = token + slower * part * looks.answer
        wait = token + slower_prompt * self._prompt(outline, sums, looks)
        each = token if task.writes else slower_prompt * self._reading(outline, sums, looks)
        return Reach(
            max(0.0, candidate.quality - Q8_CACHE * (need.kv_type == "Q8_0")),
            _SLACK / each,
            _SLACK / deep,
            no_wait(wait / _SLACK, task),
            context,
        )

    def _sums(self, outline: Outline) -> _Sums:
        """All weights at the lowest prices."""
        token = prompt = read = size = 0.0
        price, share = self._best.of, outline.experts_share
        for name, n_bytes in outline.dense:
            one = price[name]
            token += n_bytes * one.token
            prompt += n_bytes * one.prompt
            read += n_bytes * one.read
            size += n_bytes
        met = touched(share, UBATCH) if outline.experts else 0.0
        for name, n_bytes in outline.experts:
            one = price[name]
            token += share * n_bytes * one.expert
            prompt += share * n_bytes * one.prompt_expert
            read += met * n_bytes * one.read
            size += n_bytes
        for name, n_bytes in outline.output:
            one = price[name]
            token += n_bytes * one.token
            read += n_bytes * one.read
            size += n_bytes
        left = 0.0 if self._gpu_bytes is None else max(0.0, size - self._gpu_bytes)
        return _Sums(token, prompt, read, met, left)

    def _token(self, outline: Outline, sums: _Sums, looks: _Looks) -> float:
        """Seconds of one token at depth 0."""
        seconds = sums.token + outline.mixtures * self._best.mixture
        seconds += looks.layers * self._best.step
        if not sums.left:
            return seconds
        best, ram, share = self._best.of, self._ram.of, outline.experts_share
        return seconds + _cheapest(
            sums.left,
            [
                *((ram[k].token - best[k].token, n) for k, n in (*outline.dense, *outline.output)),
                *((share * (ram[k].expert - best[k].expert), n) for k, n in outline.experts),
            ],
        )

    def _looks_of(self, outline: Outline, context: int) -> _Looks:
        """What looking back takes with the whole context."""
        known = self._looks.get(id(outline.kinds))
        if known is not None and known.outline.kinds is outline.kinds and known.context == context:
            return known
        back, prices = looks_back(outline, outline.kinds), self._best.looking
        # What is dealt to threads in equal parts is never quicker, and not of every cache type.
        dealt = prices._replace(workers=1.0)
        found = self._looks[id(outline.kinds)] = _Looks(
            outline,
            context,
            sum([count for _, count in outline.kinds]),
            looked_back(back, dealt, context / self._need.n_seq, self._element_bytes),
            prompt_look(back, prices, self._task.prompt_tokens),
        )
        return found

    def _prompt(self, outline: Outline, sums: _Sums, looks: _Looks) -> float:
        """Seconds of a prompt, in the micro-batches that serve it best."""
        tokens = self._task.prompt_tokens
        each, once = tokens * (sums.prompt + looks.prompt), self._once(sums, looks)
        found = []
        for ubatch in self._ubatches:
            batches = -(-tokens // ubatch)
            seconds = each + batches * once + self._prompt_left(outline, sums, tokens, batches)
            found.append(seconds * (batches + self._stages - 1) / (batches * self._stages))
        return min(found)

    def _reading(self, outline: Outline, sums: _Sums, looks: _Looks) -> float:
        """Seconds per token of reading, which is quickest by whole micro-batches."""
        left = self._prompt_left(outline, sums, UBATCH, 1)
        return sums.prompt + (self._once(sums, looks) + left) / UBATCH

    def _once(self, sums: _Sums, looks: _Looks) -> float:
        """Seconds per micro-batch. Layers that another device takes over have no step here."""
        if self._gpu_bytes is not None:
            return sums.read
        return sums.read + looks.layers * self._best.prompt_step

    def _prompt_left(self, outline: Outline, sums: _Sums, tokens: int, batches: int) -> float:
        """More of a prompt for weights that GPUs have no room for.

        They are computed in RAM, or cross the bus once per micro-batch.
        """
        if not sums.left:
            return 0.0
        best, ram, share = self._best.of, self._ram.of, outline.experts_share
        moving = 1 / BUS_BYTES_PER_S if tokens >= WORTH_MOVING else math.inf
        prices = [(0.0, n) for _, n in outline.output]  # of the last token alone
        for name, n_bytes in outline.dense:
            here, there = ram[name], best[name]
            more = tokens * (here.prompt - there.prompt) + batches * (here.read - there.read)
            prices.append((min(more, batches * (moving - there.read)), n_bytes))
        for name, n_bytes in outline.experts:
            here, there = ram[name], best[name]
            more = tokens * share * (here.prompt_expert - there.prompt_expert)
            # experts that stay behind have no price of reading in `speed_cost`
            more = min(more, batches * moving) - batches * sums.met * there.read
            prices.append((more, n_bytes))
        return _cheapest(sums.left, prices)

    def _least_factors(self, file_type: str) -> tuple[float, float]:
        """What learning multiplies times with at least: of decoding, of prompts.

        With one processor every model is corrected by one of that processor's classes; beside
        others some are not corrected at all.
        """
        found = self._factors.get(file_type)
        if found is None:
            found = self._factors[file_type] = self._factors_of(file_type)
        return found

    def _factors_of(self, file_type: str) -> tuple[float, float]:
        known = self._learned.by_class
        here = self._box.processors[0].kind
        if len(self._box.pools) > 1:
            pairs = [pair for (_, _, kind), pair in known.items() if kind in ("", file_type)]
            means = [(0.0, 0.0), *((a.mean, b.mean) for a, b in pairs)]
        else:
            named = [pair for (place, name, kind), pair in known.items()
                     if place == here and name and kind == file_type]  # fmt: skip
            others = known.get((here, "", file_type)) or known.get((here, "", ""))
            means = [(a.mean, b.mean) for a, b in named]
            means.append((others[0].mean, others[1].mean) if others else (0.0, 0.0))
        return math.exp(min(a for a, _ in means)), math.exp(min(b for _, b in means))
