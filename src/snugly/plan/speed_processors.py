"""What computes in a machine, over which memory, and how fast it is at most. Pure."""

from snugly.machine.types import Machine
from snugly.plan.types import EngineFacts, Processor


def processors_of(machine: Machine, engine: EngineFacts) -> tuple[Processor, ...]:
    """What the engine computes with: first the one over RAM, then one per GPU pool.

    The order is that of `Machine.pools`. Over RAM stands the CPU, or the GPU that shares
    the RAM where the engine computes on it. Rates: measured here, else by data sheet,
    else a stated assumption.
    """
    raise NotImplementedError
