import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from snugly.quantize.solve import Option, smallest, solve, useful

options = st.lists(
    st.builds(Option, st.just("x"), st.integers(1, 1000), st.floats(0, 100)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(options, min_size=1, max_size=5), st.integers(0, 4000))
def test_no_choice_that_fits_costs_less(items: list[list[Option]], room: int) -> None:
    chosen = solve(items, room)
    fitting = [sum(option.cost for option in picked) for picked in itertools.product(*items)
               if sum(option.n_bytes for option in picked) <= room]  # fmt: skip
    if chosen is None:
        assert not fitting
        assert smallest(items) > room
        return
    assert sum(option.n_bytes for option in chosen) <= room
    assert sum(option.cost for option in chosen) <= min(fitting) + 1e-9


def test_with_many_tensors_the_room_is_used() -> None:
    sizes = (100_000, 130_000, 170_000, 210_000, 270_000)
    items = [[Option(str(n), n * (1 + k % 7), 1e9 * (k + 1) / n**2) for n in sizes]
             for k in range(150)]  # fmt: skip
    least, most = smallest(items), sum(options[-1].n_bytes for options in items)
    for share in (0.1, 0.37, 0.8):
        room = int(least + share * (most - least))
        chosen = solve(items, room)
        assert chosen is not None
        used = sum(option.n_bytes for option in chosen)
        assert 0.999 * room < used <= room


def test_what_costs_more_and_is_larger_is_never_useful() -> None:
    small, worse, large = Option("a", 1, 5), Option("b", 2, 6), Option("c", 3, 1)
    assert useful([large, worse, small]) == [small, large]
