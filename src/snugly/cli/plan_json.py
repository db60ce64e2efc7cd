"""What `snugly plan --json` prints, documented in docs/plan.md. Pure."""

from typing import Any

from snugly.engine.outlook import Outlook
from snugly.plan.tasks import Task
from snugly.plan.types import Fit
from snugly.plan.words import command, why


def document(seen: Outlook) -> dict[str, Any]:
    """The whole outlook."""
    found = seen.found
    return {
        "box": {
            "name": seen.box.name,
            "pools": seen.box.pools,
            "budgets": seen.box.budgets,
            "processors": seen.box.processors,
            "threads": seen.box.threads,
        },
        "need": seen.need,
        "recommended": _maybe(seen, found.best),
        "faster": _maybe(seen, found.faster),
        "better": _maybe(seen, found.better),
        "why": tuple(why(found, seen.box)),
        "front": [fit_document(fit, found.task) for fit in found.front],
        "options": [fit_document(fit, found.task) for fit in found.fits] if seen.models else [],
        "rejected": [_rejected(seen, one) for one in found.unfit] if seen.models else [],
        "remarks": seen.remarks,
    }


def _maybe(seen: Outlook, fit: Fit | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    longest = seen.longest(fit)
    return fit_document(seen.roomy(fit), seen.found.task) | {"longest_context": longest}


def _rejected(seen: Outlook, candidate: Any) -> dict[str, Any]:
    no = seen.why_not(candidate)
    return {
        "model": candidate.model,
        "type": candidate.file_type,
        "file_bytes": candidate.file_bytes,
        "needed_bytes": no.needed_bytes,
        "changes": no.changes,
    }


def fit_document(fit: Fit, task: Task) -> dict[str, Any]:
    """One way to run one model."""
    build = fit.candidate.build
    return {
        "model": fit.candidate.model,
        "ref": fit.candidate.ref,
        "type": build.file_type,
        "installed": fit.candidate.here,
        "parameters": build.n_params,
        "file_bytes": build.file_bytes,
        "context": fit.setup.context,
        "context_train": build.context_train,
        "setup": fit.setup,
        "placement": fit.placement,
        "memory": fit.uses,
        "total_bytes": sum(use.total_bytes for use in fit.uses),
        "speed": fit.speed,
        "quality": round(fit.candidate.quality, 1),
        "quality_basis": fit.candidate.basis,
        "command": command(fit, task),
    }
