"""Planning one model again and again, as a server does, keeps nothing new."""

import gc

from tests import making

from snugly.engine.facts import box_facts
from snugly.model.types import Build
from snugly.plan.choose import choose
from snugly.plan.types import Need


def test_a_model_planned_again_and_again_is_built_once() -> None:
    spec, box = making.spec(), making.machine()
    engine = box_facts(box)
    choose(box, spec, Need(), engine)
    before = sum(isinstance(kept, Build) for kept in gc.get_objects())
    for _ in range(20):
        choose(box, spec, Need(), engine)
    assert sum(isinstance(kept, Build) for kept in gc.get_objects()) == before
