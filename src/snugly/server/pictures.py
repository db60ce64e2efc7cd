"""Pictures in requests: whether the model that is asked can see them."""

import os

from snugly.chat.types import ChatRequest
from snugly.model.projectors import projector_of
from snugly.plan.seeing import seeing
from snugly.plan.types import Plan
from snugly.server.dialects.faults import BadRequest, HttpFault
from snugly.server.service import Lent, Service


def has_pictures(request: ChatRequest) -> bool:
    """Whether any turn holds one."""
    return any(message.images for message in request.messages)


async def check_sight(service: Service, request: ChatRequest) -> None:
    """Refuse pictures for a model that cannot see, before anything is loaded for them.

    Raises: BadRequest; what finding the model raises.
    """
    if not has_pictures(request):
        return
    volume = await service.volume(request.model)
    if not volume.projector:
        raise BadRequest(
            f"{volume.name} cannot see pictures.",
            "messages",
            "No projector (mmproj-*.gguf) of this model lies beside it.",
            "Leave the pictures out, or take a model that sees, with its projector in its folder.",
        )


def check_seeing(lent: Lent, request: ChatRequest) -> None:
    """Refuse pictures where the model was loaded without its projector.

    Raises: HttpFault 507: there was no memory for it.
    """
    if has_pictures(request) and not lent.lease.plan.projector:
        raise HttpFault(
            507,
            f"{lent.name} is loaded without its projector, so it sees no pictures.",
            "There was no memory for both.",
            "Ask for a shorter context, or unload other models (`snugly stop`), then ask again.",
        )


def with_sight(plan: Plan, embedding_length: int) -> Plan:
    """The plan with the projector that lies beside its model, where there is one and room."""
    path = projector_of(plan.model_path, embedding_length)
    return seeing(plan, path, os.path.getsize(path)) if path else plan
