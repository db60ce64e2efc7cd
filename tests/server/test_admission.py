"""Whose turn it is."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.server.admission import Admission, Turns
from snugly.server.dialects.faults import HttpFault


async def order_of(turns: Turns, asking: list[tuple[str, int]]) -> list[str]:
    """Who got in, in order, when all ask at once while one slot is held."""
    served: list[str] = []

    async def one(client: str, tokens: int) -> None:
        async with turns.turn(client, tokens):
            served.append(client)
            await asyncio.sleep(0)

    async with turns.turn("first"):
        tasks = [asyncio.create_task(one(*each)) for each in asking]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return served


async def test_clients_take_turns_and_nobody_can_push_in() -> None:
    asking = [("greedy", 0)] * 5 + [("modest", 0)]
    assert (await order_of(Turns(1, 100), asking))[:2] == ["greedy", "modest"]


async def test_slots_share_a_context() -> None:
    turns = Turns(4, 100)
    inside = most = 0

    async def one(tokens: int) -> None:
        nonlocal inside, most
        async with turns.turn("a", tokens):
            inside += tokens
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= tokens

    await asyncio.gather(*(one(40) for _ in range(10)))
    assert most == 80


async def test_one_that_is_larger_than_the_context_gets_in_alone() -> None:
    async with Turns(4, 100).turn("a", 1000):
        pass


async def test_whoever_leaves_the_queue_gives_nothing_away() -> None:
    turns = Turns(1, 100)
    async with turns.turn("a", 50):
        waiting = [asyncio.create_task(order_of(turns, [])) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1):
        for _ in range(3):
            async with turns.turn("b", 100):
                pass


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 150)), max_size=30))
def test_everybody_is_served_once(asking: list[tuple[str, int]]) -> None:
    served = asyncio.run(order_of(Turns(3, 100), asking))
    assert sorted(served) == sorted(client for client, _ in asking)


async def test_the_queue_is_bounded() -> None:
    admission = Admission(2)
    with admission.waits(), admission.waits():
        with pytest.raises(HttpFault, match="full") as caught, admission.waits():
            pass
        assert caught.value.status == 503
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= 60
    assert admission.waiting == 0
