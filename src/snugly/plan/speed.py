"""How fast a run will be: a roofline per device, with an interval. Pure."""

from snugly.machine.types import NOT_TOLD, Fact
from snugly.model.types import Build
from snugly.plan.speed_learning import NOTHING_LEARNT, Corrections
from snugly.plan.types import Placement, Processor, Setup, Speed


def predict(
    build: Build,
    setup: Setup,
    placement: Placement,
    processors: tuple[Processor, ...],
    prompt_tokens: int = 512,
    disk_rate: Fact[float] = NOT_TOLD,
    corrections: Corrections = NOTHING_LEARNT,
) -> Speed:
    """Speed of `build` under `setup`, with its layers where `placement` says.

    `processors` come from `processors_of`: first what computes over RAM, then one per GPU
    in the order of `Machine.pools[1:]`. `disk_rate` is in bytes per second.

    Raises: ValueError when the placement names more GPUs than there are processors.
    """
    raise NotImplementedError
