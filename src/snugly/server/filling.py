"""Fill-in-the-middle: the prompt in tokens, by the family of the model that is running."""

import asyncio
import weakref

from snugly.chat.fim import MARKERS, FimFamily, Mark, Piece, fim_family, fim_pieces
from snugly.chat.requests import InfillRequest, Prompt, TokenizeRequest
from snugly.engine.types import Running
from snugly.errors import PromptTooLong
from snugly.server.dialects.faults import HttpFault
from snugly.server.service import Lent

# What each running engine was found to know: its family, and the tokens before every prompt.
_KNOWN: "weakref.WeakKeyDictionary[Running, tuple[FimFamily | None, tuple[int, ...]]]"
_KNOWN = weakref.WeakKeyDictionary()


async def filled(lent: Lent, request: InfillRequest) -> Prompt:
    """The ids of the prompt. Markers in a person's own text stay text.

    What does not fit is taken from the files beside, the least important first, then from
    the far ends of prefix and suffix: in a file of any length the cursor's surroundings
    count, which is what every client of this expects.

    Raises: HttpFault 422 for a model that was not made for it.
    """
    running = lent.lease.running
    family, first = await _family(lent)
    if family is None:
        raise HttpFault(
            422,
            f"{lent.volume.name} cannot fill in the middle.",
            "Its vocabulary has none of the markers that this takes.",
            "Take a model that was trained for it, such as qwen2.5-coder.",
        )
    context = lent.lease.plan.context
    room = context - min(request.max_tokens or 256, context // 2) - len(first)
    extra = list(request.extra)
    prefix, suffix = request.prefix, request.suffix
    while True:
        pieces = fim_pieces(family, prefix, suffix, extra)
        tokens = first + sum(await asyncio.gather(*(_ids(running, p) for p in pieces)), ())
        if len(tokens) <= room + len(first):
            return tokens
        if extra:
            extra.pop(0)
            continue
        if len(prefix) + len(suffix) < 64:
            raise PromptTooLong(f"The context of {context:,} tokens is too short for this.")
        share = room / len(tokens)
        prefix = prefix[-int(len(prefix) * share * 0.9) or len(prefix) :]
        suffix = suffix[: int(len(suffix) * share * 0.9)]


async def _family(lent: Lent) -> tuple[FimFamily | None, tuple[int, ...]]:
    running = lent.lease.running
    if running not in _KNOWN:
        found = await asyncio.gather(*(_ids(running, Mark(mark)) for mark in MARKERS))
        single = {mark for mark, ids in zip(MARKERS, found, strict=True) if len(ids) == 1}
        spec = lent.volume.spec
        family = fim_family(spec.special_tokens, single, f"{spec.name} {lent.volume.name}")
        start = await running.tokenize(TokenizeRequest("", "", add_special=True))
        _KNOWN[running] = family, start[:1]
    return _KNOWN[running]


async def _ids(running: Running, piece: Piece) -> tuple[int, ...]:
    if isinstance(piece, Mark):
        return await running.tokenize(TokenizeRequest("", piece.text, parse_special=True))
    return await running.tokenize(TokenizeRequest("", piece, parse_special=False))
