"""What a search found, in sentences and commands. Pure."""

import shlex
from collections.abc import Iterator

from snugly.plan.box import Box
from snugly.plan.found import Found
from snugly.plan.preference import CLEARLY, keeps_up, pace
from snugly.plan.tasks import Task
from snugly.plan.types import Fit, Interval
from snugly.units import format_seconds


def command(fit: Fit, task: Task) -> str:
    """The command that runs it this way; empty where a file of it has to be made first.

    What makes vectors or scores is served: there is nothing to say to it.
    """
    if not fit.candidate.ref:
        return ""
    ref = shlex.quote(fit.candidate.ref)
    if not task.writes:
        return f"snugly serve -m {ref}"
    words = [f"snugly run -m {ref}", f"--context {fit.setup.context}"]
    if fit.setup.kv_type != "F16":
        words.append(f"--kv {fit.setup.kv_type.lower()}")
    return " ".join(words)


def why(found: Found, box: Box) -> Iterator[str]:
    """Two sentences: why this one, and why not a better one."""
    best, task = found.best, found.task
    if best is None:
        yield f"None of the {len(found.unfit)} ways to have a model fits {box.name}."
        return
    wanted = _wanted(found)
    if keeps_up(best, found.need, task):
        yield f"Of all that fit and can {wanted}, it is best in quality and speed ({figure(best)})."
    else:
        yield f"Nothing that fits can {wanted} here; it is the best compromise ({figure(best)})."
    if found.better is not None:
        other = found.better
        yield f"{name(other)} would serve better ({figure(other)}), {_price(other, found)}."
        return
    clearly = best.candidate.quality + CLEARLY
    slow = any(fit.candidate.quality >= clearly for fit in found.fits)
    large = any(candidate.quality >= clearly for candidate in found.unfit)
    if slow or large:
        reasons = ["is too slow"] * slow + ["does not fit"] * large
        yield f"What would serve clearly better {' or '.join(reasons)}."
    else:
        yield "None of the others would serve clearly better."


def _wanted(found: Found) -> str:
    """What the task asks of speed."""
    task = found.task
    if not task.writes:
        return f"read {task.prompt_tokens:,} tokens within {task.patience_s:g} s"
    slow = pace(found.need, task)
    return f"write {slow:g} tokens/s and begin within {task.patience_s:g} s"


def _price(fit: Fit, found: Found) -> str:
    """What is to be put up with: its pace, and its wait where that is too long."""
    wait = fit.speed.first_token_s.expected
    if not found.task.writes:
        return f"after {format_seconds(wait)}"
    late = f", its first word after {format_seconds(wait)}" if wait > found.task.patience_s else ""
    return f"at about {_short(fit.speed.decode_tps.expected)} tokens/s{late}"


def name(fit: Fit) -> str:
    """Model and quantization."""
    return f"{fit.candidate.build.name} {fit.candidate.file_type}"


def figure(fit: Fit) -> str:
    """How good it is, and by what."""
    quality = f"{fit.candidate.quality:.0f} of 100"
    basis = fit.candidate.basis.replace("https://huggingface.co/", "")
    return f"{quality}: {basis}" if basis else quality


def spread(interval: Interval) -> str:
    """`12.0 (9.1..16.0)`: the value expected, and between which four of five fall."""
    return f"{_short(interval.expected)} ({_short(interval.low)}..{_short(interval.high)})"


def _short(value: float) -> str:
    if value >= 99.5:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
