"""What a search found, in sentences and commands. Pure."""

from collections.abc import Iterator

from snugly.plan.box import Box
from snugly.plan.search import Found, keeps_up, pace
from snugly.plan.types import Fit, Interval


def command(fit: Fit, verb: str = "run") -> str:
    """The command that runs it this way."""
    words = [f"snugly {verb} -m {fit.candidate.ref}", f"--context {fit.setup.context}"]
    if fit.setup.kv_type != "F16":
        words.append(f"--kv {fit.setup.kv_type.lower()}")
    return " ".join(words)


def why(found: Found, box: Box) -> Iterator[str]:
    """Two sentences: why this one, and why not a better or a faster one."""
    best = found.best
    if best is None:
        yield f"None of the {len(found.unfit)} ways to have a model fits {box.name}."
        return
    slow = pace(found.need, found.task)
    tps = best.speed.decode_tps.expected
    wait = f"begin within {found.task.patience_s:g} s"
    if keeps_up(best, found.need, found.task):
        yield (
            f"Of all that fit, write at least {slow:g} tokens/s and {wait}, it answers best"
            f" ({figure(best)})."
        )
    else:
        yield (
            f"Nothing that fits can write {slow:g} tokens/s and {wait} here; at about {tps:.1f}"
            f" tokens/s it is the best compromise ({figure(best)})."
        )
    if found.better is not None:
        other = found.better
        yield (
            f"{name(other)} would answer better ({figure(other)}), at about"
            f" {other.speed.decode_tps.expected:.1f} tokens/s."
        )
    elif found.unfit:
        yield "What would answer better does not fit."
    else:
        yield "Nothing in the catalogue would answer better."


def name(fit: Fit) -> str:
    """Model and quantization."""
    return f"{fit.candidate.build.name} {fit.candidate.file_type}"


def figure(fit: Fit) -> str:
    """How good it is, and by what."""
    quality = f"{fit.candidate.quality:.0f} of 100"
    basis = fit.candidate.basis.replace("https://huggingface.co/", "")
    return f"{quality}: {basis}" if basis else quality


def spread(interval: Interval) -> str:
    """`12 (9 to 16)`: the value expected, and between which four of five fall."""
    return f"{_short(interval.expected)} ({_short(interval.low)}..{_short(interval.high)})"


def _short(value: float) -> str:
    if value >= 99.5:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
