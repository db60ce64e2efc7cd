"""Who makes way for another model."""

from hypothesis import given
from hypothesis import strategies as st

from snugly.engine.evict import Holding, bytes_by_pool, evict
from snugly.plan.types import PoolUse
from snugly.units import GiB


def held(key: str, gib: int, last_used: float, idle: bool = True, pool: str = "RAM") -> Holding:
    return Holding(key, (PoolUse(pool, weights_bytes=gib * GiB),), last_used, idle)


def test_nothing_goes_while_there_is_room() -> None:
    assert evict([held("a", 4, 1.0)], {"RAM": 4 * GiB}, {"RAM": 8 * GiB}) == ()


def test_the_longest_unused_goes_first() -> None:
    running = [held("new", 4, 9.0), held("old", 4, 1.0)]
    assert evict(running, {"RAM": 4 * GiB}, {"RAM": 8 * GiB}) == ("old",)


def test_a_small_old_one_is_spared_when_a_larger_one_must_go_anyway() -> None:
    running = [held("small", 1, 1.0), held("large", 6, 2.0)]
    assert evict(running, {"RAM": 6 * GiB}, {"RAM": 8 * GiB}) == ("large",)


def test_what_is_in_use_stays() -> None:
    running = [held("busy", 4, 1.0, idle=False), held("idle", 2, 9.0)]
    assert evict(running, {"RAM": 4 * GiB}, {"RAM": 8 * GiB}) == ("idle",)
    assert evict(running, {"RAM": 5 * GiB}, {"RAM": 8 * GiB}) is None


def test_pools_are_counted_apart() -> None:
    running = [held("on the card", 6, 1.0, pool="GPU 0"), held("in RAM", 6, 2.0)]
    budgets = {"RAM": 8 * GiB, "GPU 0": 8 * GiB}
    assert evict(running, {"GPU 0": 4 * GiB}, budgets) == ("on the card",)


HOLDINGS = st.lists(
    st.builds(
        held,
        key=st.uuids().map(str),
        gib=st.integers(0, 20),
        last_used=st.floats(0, 100),
        idle=st.booleans(),
        pool=st.sampled_from(("RAM", "GPU 0")),
    ),
    max_size=8,
)
POOLS = st.fixed_dictionaries({"RAM": st.integers(0, 40), "GPU 0": st.integers(0, 40)})


def rest_after(running: list[Holding], gone: tuple[str, ...]) -> dict[str, int]:
    return bytes_by_pool(use for h in running if h.key not in gone for use in h.uses)


@given(HOLDINGS, POOLS, POOLS)
def test_room_is_made_with_as_few_as_possible_or_not_at_all(
    running: list[Holding], wanted: dict[str, int], sizes: dict[str, int]
) -> None:
    needed = {pool: n * GiB for pool, n in wanted.items()}
    budgets = {pool: n * GiB for pool, n in sizes.items()}

    def fits(gone: tuple[str, ...]) -> bool:
        rest = rest_after(running, gone)
        return all(n == 0 or rest.get(p, 0) + n <= budgets[p] for p, n in needed.items())

    gone = evict(running, needed, budgets)
    idle = tuple(h.key for h in running if h.idle)
    if gone is None:
        assert not fits(idle)
        return
    assert fits(gone)
    assert set(gone) <= set(idle)
    for spared in gone:  # none of them could have stayed
        assert not fits(tuple(key for key in gone if key != spared))
