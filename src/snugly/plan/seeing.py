"""A plan with a projector beside the model, where there is room for it. Pure."""

from dataclasses import replace

from snugly.plan.memory import PROJECTOR_ROOM
from snugly.plan.types import Estimate, Plan


def seeing(plan: Plan, projector: str, n_bytes: int) -> Plan:
    """`plan` with the projector at that path and its bytes; where there is no room, with why.

    It lies on the first GPU that holds layers, else in RAM, as in `plan.memory`.
    """
    if not projector:
        return plan
    where = next((i for i, count in enumerate(plan.placement.gpu_layers, 1) if count), 0)
    where = min(where, len(plan.estimate.uses) - 1)
    more = n_bytes + PROJECTOR_ROOM
    use, pool = plan.estimate.uses[where], plan.pools[where]
    if use.total_bytes + more > pool.free_bytes - plan.reserves[where]:
        words = f"It could see, but {pool.name} has no room for its projector: no pictures."
        return replace(plan, why=(*plan.why, words))
    uses = list(plan.estimate.uses)
    uses[where] = replace(use, extras_bytes=use.extras_bytes + more)
    return replace(
        plan,
        projector=projector,
        estimate=Estimate(tuple(uses)),
        why=(*plan.why, "It sees: its projector is loaded beside it."),
    )
