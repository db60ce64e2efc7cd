"""Guessing ahead on real engines with real weights: the same words, in fewer steps."""

from contextlib import aclosing
from pathlib import Path

import pytest
from tests.engine.engines import engine, why_not_here
from tests.making import plan

from snugly.chat.requests import CompletionRequest
from snugly.chat.types import Usage
from snugly.engine.types import Running
from snugly.plan.speculation import LOOKUP
from snugly.plan.speculation_types import Drafter, Speculation

CODE = '''def area(width, height):
    """The area of a rectangle."""
    return width * height


def volume(width, height, depth):
    """The volume of a box."""
    return area(width, height) * depth


def surface(width, height, depth):
    """The surface of a box."""
    sides = area(width, height) + area(width, depth) + area(height, depth)
    return 2 * sides


'''
# What is repeated, and what is not.
PROMPTS = {
    "code again": f"The file, twice:\n\n{CODE}# The same file again:\n\n{CODE[:230]}",
    "a story": "Once upon a time there was a lighthouse keeper who",
}


async def written(running: Running) -> dict[str, tuple[str, Usage]]:
    found = {}
    for name, prompt in PROMPTS.items():
        request = CompletionRequest((prompt,), temperature=0.0, max_tokens=100)
        text, usage = "", None
        async with aclosing(running.complete(request, prompt)) as deltas:
            async for delta in deltas:
                text += delta.text
                usage = delta.usage or usage
        assert usage is not None
        found[name] = text, usage
    return found


@pytest.mark.parametrize("name", ["xllamacpp", "native"])
async def test_greedy_answers_are_the_same_as_without(smollm2: Path, name: str) -> None:
    if why := why_not_here(name):
        pytest.skip(why)
    told = {}
    for guess in (Speculation(), LOOKUP):
        running = await engine(name).start(plan(smollm2, speculation=guess))
        try:
            told[guess.n_max] = await written(running)
        finally:
            await running.stop()
    plain, guessed = told[0], told[LOOKUP.n_max]
    assert {k: text for k, (text, _) in guessed.items()} == {k: t for k, (t, _) in plain.items()}
    assert all(usage.drafted_tokens == 0 for _, usage in plain.values())
    assert sum(usage.accepted_tokens for _, usage in guessed.values()) >= LOOKUP.n_min


@pytest.mark.parametrize("name", ["xllamacpp", "native"])
async def test_a_drafter_changes_no_word_either(smollm2: Path, name: str) -> None:
    """The model as its own drafter: every guess is right, so half of the steps are saved."""
    if why := why_not_here(name):
        pytest.skip(why)
    told = {}
    for n_tokens in (0, 2):
        drafter = Drafter(str(smollm2), "itself", 0, n_tokens) if n_tokens else None
        running = await engine(name).start(plan(smollm2, speculation=Speculation(drafter=drafter)))
        try:
            told[n_tokens] = (await written(running))["a story"]
        finally:
            await running.stop()
    assert told[2][0] == told[0][0]
    assert told[2][1].accepted_tokens >= 40
