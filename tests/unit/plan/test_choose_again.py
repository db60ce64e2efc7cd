"""Planning one model again and again, as a server does, keeps nothing new."""

import gc
from collections.abc import Callable

from tests import making

from snugly.engine.facts import box_facts
from snugly.machine.types import Machine
from snugly.model.types import Build
from snugly.plan.choose import choose
from snugly.plan.speed_cost import Ready
from snugly.plan.types import Need
from snugly.units import GiB


def test_a_model_planned_again_and_again_is_built_once() -> None:
    spec, box = making.spec(), making.machine()
    engine = box_facts(box)
    choose(box, spec, Need(), engine)
    before = sum(isinstance(kept, Build) for kept in gc.get_objects())
    for _ in range(20):
        choose(box, spec, Need(), engine)
    assert sum(isinstance(kept, Build) for kept in gc.get_objects()) == before


def test_a_machine_looked_at_again_and_again_is_prepared_for_once() -> None:
    spec, engine = making.spec(), box_facts(making.machine())

    def prepared(look: Callable[[int], Machine]) -> int:
        for number in range(20):
            choose(look(number), spec, Need(), engine)
        return sum(isinstance(kept, Ready) for kept in gc.get_objects())

    # Each look is an object of its own; what is free differs, what computes does not.
    before = prepared(lambda _: making.machine())
    assert prepared(lambda number: making.machine(free=8 * GiB + number)) == before
    # Those that differ each time, as where rates are measured anew, are not kept for ever either.
    assert prepared(lambda number: making.machine(cores=8 + number)) <= before + 8
