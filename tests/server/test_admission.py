"""Whose turn it is."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.server.admission import Admission, Share, Turns
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


async def test_an_answer_without_a_bound_gets_an_equal_part_and_more_while_nobody_needs_it() -> (
    None
):
    turns = Turns(2, 8000)
    async with turns.turn("a", 1000, None) as first:
        assert first.granted == 3000  # half of the context, less its prompt
        assert first.holds(5000)  # alone it goes on
        async with turns.turn("b", 500, None) as second:
            assert second.tokens <= 8000 - first.tokens
            assert second.holds(1024)  # a usual answer is sure
            assert not first.holds(6000)
            assert first.tokens + second.tokens <= 8000
        assert first.holds(6000)


async def test_one_who_waits_ends_what_has_had_its_share() -> None:
    turns = Turns(2, 8000)
    async with turns.turn("a", 0, None) as first:
        assert first.holds(7600)
        waiting = asyncio.create_task(order_of_one(turns, 1000))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert first.holds(first.granted)
        assert not first.holds(first.granted + 1)
    await waiting


async def order_of_one(turns: Turns, prompt: int) -> None:
    async with turns.turn("b", prompt, 10):
        pass


async def test_what_a_client_asks_for_is_kept_where_others_still_get_a_usual_answer() -> None:
    turns = Turns(2, 8000)
    async with turns.turn("a", 100, 6000) as first:
        assert first.granted == 6000
        assert first.holds(9999)  # the engine ends it, exactly
    async with turns.turn("a", 100, 7900) as first:
        assert first.granted == 3900


sizes = st.tuples(st.integers(0, 120), st.one_of(st.none(), st.integers(0, 150)), st.integers(0, 9))


@given(st.lists(sizes, max_size=12), st.integers(2, 4))
def test_answers_beside_each_other_never_overflow_the_context(
    asking: list[tuple[int, int | None, int]], slots: int
) -> None:
    turns, inside = Turns(slots, 100), list[Share]()

    async def one(prompt: int, answer: int | None, steps: int) -> None:
        async with turns.turn(str(prompt), prompt, answer) as share:
            inside.append(share)
            for _ in range(steps):
                share.holds(share.granted + 1)
                assert len(inside) == 1 or sum(each.tokens for each in inside) <= 100
                await asyncio.sleep(0)
            inside.remove(share)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(*each) for each in asking))

    asyncio.run(all_of_them())


async def test_one_that_is_larger_than_the_context_gets_in_alone() -> None:
    turns = Turns(4, 100)
    async with asyncio.timeout(1), turns.turn("a", 1000) as share:
        assert (share.prompt, share.granted) == (1000, 0)
        behind = asyncio.create_task(order_of(turns, []))
        await asyncio.sleep(0)
        assert not behind.done()
    assert await behind == []


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
            async with turns.turn("b", 100) as share:
                assert share.tokens == 100


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
