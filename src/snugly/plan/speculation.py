"""Guessing tokens ahead: with what, whether there is room for it, and whether it pays. Pure.

A guess of n tokens is checked in one step over n + 1 tokens, which costs far less than n + 1
steps where reading the weights is what takes the time. Guesses come from the text so far
(llama.cpp's `ngram-mod`: the token that followed the same n tokens before) or from a smaller
model. A right guess changes no word; a wrong one costs what checking it took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from snugly.model.types import Build
from snugly.plan.speculation_types import Drafter, Speculation
from snugly.plan.types import Estimate, Plan, PoolUse
from snugly.units import MiB

# llama.cpp's --spec-default has 24, 48, 64. Half of that is as fast, more often, and takes half
# the memory (docs/journal.md); and from 64 tokens on attention is computed in another way, which
# rounds differently (ggml-cpu/ops.cpp, GGML_FA_TILE_Q).
LOOKUP = Speculation(n_match=24, n_min=31, n_max=31)
SHORT_LOOKUP = replace(LOOKUP, n_min=15, n_max=15)  # where memory is dear
_DEAR = 10  # more than a tenth of what the model takes
_POOL_BYTES = 16 * MiB  # of ngram-mod: 4 Mi entries of 4 bytes (common/speculative.cpp)
_F32 = 4
# Loss that turns guessing off, as a share of the time for writing: half of the 2% that it may
# cost, because what is seen is an estimate.
LOSS = 0.01
# Tokens that must have been written before anything is concluded: two or three chat answers.
# A loss of a tenth has then cost a fiftieth of 2,560 tokens, some thirteen answers.
_ENOUGH_TOKENS = 512
# How much an older answer counts beside the next one: half after 34 answers.
_FADING = 0.98
# What part of a drafter's guesses is right: Leviathan et al. 2023 (arXiv:2211.17192), table 3,
# see 0.5 to 0.9 for models of one family; measured acceptance takes over.
_ACCEPTED = 0.7
_WORTH = 1.15  # a drafter takes memory and threads: it has to promise this much at least
_DRAFT_TOKENS = (2, 3, 4, 6, 8)


def lookup_bytes(build: Build, n_seq: int, guess: Speculation) -> tuple[int, int]:
    """Bytes of guessing from the text: (rows of logits in the graph, in RAM beside).

    A row of logits for each guessed token of each slot, once in the graph and once in the
    buffer that answers are read from (llama-context.cpp, n_outputs_max), and the pool.
    """
    rows = _F32 * build.vocab_size * n_seq * guess.most
    return rows, rows + (_POOL_BYTES if guess.n_match else 0)


def speculating(plan: Plan, build: Build, guess: Speculation) -> Plan:
    """`plan` with `guess`, its bytes counted; as it is where there is no room for it.

    Shorter guesses are taken where memory is dear. Models with states instead of caches are
    left out: every guess would need a copy of the state to go back to; models with a projector
    too: llama-server does not guess beside pictures (server-context.cpp).
    """
    if not guess.most or plan.projector or any(layer.state_bytes for layer in build.layers):
        return plan
    uses = _uses(plan, build, guess)
    more = sum(use.total_bytes for use in uses) - plan.estimate.total_bytes
    if guess.n_match and _DEAR * more > plan.estimate.total_bytes:
        guess = replace(guess, n_min=SHORT_LOOKUP.n_min, n_max=SHORT_LOOKUP.n_max)
        uses = _uses(plan, build, guess)
    for pool, reserve, use in zip(plan.pools, plan.reserves, uses, strict=True):
        if use.total_bytes > pool.free_bytes - reserve:
            return plan
    words = "Text that was there before is guessed ahead, so that repeating it goes faster."
    if guess.drafter:
        words = f"{guess.drafter.name} guesses ahead: {guess.drafter.why}."
    return replace(plan, speculation=guess, estimate=Estimate(uses), why=(*plan.why, words))


def _uses(plan: Plan, build: Build, guess: Speculation) -> tuple[PoolUse, ...]:
    """What is taken of each pool with `guess`.

    The graph's logits come last: they lie where a prompt's activations lay before, and take
    more only where they are larger.
    """
    rows, in_ram = lookup_bytes(build, plan.setup.n_seq, guess)
    uses = plan.estimate.uses
    head = max((i for i, n in enumerate(plan.placement.gpu_layers, 1) if n), default=0)
    head = min(head, len(uses) - 1)
    more = [0] * len(uses)
    more[0] += in_ram + (guess.drafter.n_bytes if guess.drafter else 0)
    more[head] += max(0, rows - uses[head].compute_bytes)
    return tuple(
        replace(use, extras_bytes=use.extras_bytes + extra)
        for use, extra in zip(uses, more, strict=True)
    )


def drafting_gain(accepted: float, n: int, step: float, draft: float) -> float:
    """How many times as fast writing gets with `n` drafted tokens a step.

    `accepted` is the chance that a guess is right; `step` the cost of one more token in a
    step, `draft` of one token of the drafter, both in plain steps of the model.
    Source: Leviathan et al. 2023 (arXiv:2211.17192), theorem 3.8, with the checked tokens'
    own cost added.
    """
    tokens = (1 - accepted ** (n + 1)) / (1 - accepted)
    return tokens / (1 + n * (step + draft))


@dataclass(frozen=True, slots=True)
class Smaller:
    """A model that could draft for another: its file, bytes with its cache, and decode rate."""

    path: str
    name: str
    n_bytes: int
    decode_tps: float


def worth_looking(plan: Plan) -> bool:
    """Whether a drafter that costs nothing would be worth it."""
    if plan.speed is None:
        return False
    step = plan.speed.decode_tps.expected / plan.speed.prefill_tps.expected
    return max(drafting_gain(_ACCEPTED, n, step, 0.0) for n in _DRAFT_TOKENS) >= _WORTH


def best_drafter(plan: Plan, smaller: Sequence[Smaller]) -> Speculation | None:
    """The drafter that promises most, or None where none is worth its bytes."""
    if plan.speed is None:
        return None
    decode, prefill = plan.speed.decode_tps.expected, plan.speed.prefill_tps.expected
    found: list[tuple[float, int, Smaller]] = [
        (drafting_gain(_ACCEPTED, n, decode / prefill, decode / model.decode_tps), n, model)
        for model in smaller
        for n in _DRAFT_TOKENS
    ]
    if not found:
        return None
    gain, n, model = max(found, key=lambda each: each[0])
    if gain < _WORTH:
        return None
    why = f"{gain:.1f} times as fast if {_ACCEPTED:.0%} of its guesses are right"
    return Speculation(drafter=Drafter(model.path, model.name, model.n_bytes, n, why))


@dataclass(frozen=True, slots=True)
class Tally:
    """What guessing brought for one kind of request, older answers counting less.

    `gained_ms` is the time it saved, less than zero where it cost; `decode_ms` what writing
    took in all.
    """

    tokens: float = 0.0
    drafted: float = 0.0
    accepted: float = 0.0
    gained_ms: float = 0.0
    decode_ms: float = 0.0

    def plus(
        self, tokens: int, drafted: int, accepted: int, decode_ms: float, check_ms: float
    ) -> "Tally":
        """With one more answer. `check_ms` is what one checked token costs."""
        return Tally(
            _FADING * self.tokens + tokens,
            _FADING * self.drafted + drafted,
            _FADING * self.accepted + accepted,
            _FADING * self.gained_ms + gained(tokens, drafted, accepted, decode_ms, check_ms),
            _FADING * self.decode_ms + decode_ms,
        )


def gained(tokens: int, drafted: int, accepted: int, decode_ms: float, check_ms: float) -> float:
    """Milliseconds that guessing saved in one answer.

    The answer took `tokens - accepted` plain steps and `drafted` checked tokens. What a plain
    step costs follows; each accepted token saved one.
    """
    steps = max(1, tokens - accepted)
    spent = min(drafted * check_ms, decode_ms)
    return accepted * (decode_ms - spent) / steps - spent


def pays(tallies: Mapping[str, Tally]) -> bool:
    """Whether guessing is worth it over all kinds of requests that there were lately.

    It is taken to be until enough is known: llama-server has no switch per request, so one
    answer holds for all.
    """
    if sum(t.tokens for t in tallies.values()) < _ENOUGH_TOKENS:
        return True
    gained_ms = sum(t.gained_ms for t in tallies.values())
    return gained_ms >= -LOSS * sum(t.decode_ms for t in tallies.values())
