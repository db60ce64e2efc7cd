"""Candidates out of builds. Pure."""

from snugly.model.build import outline_of
from snugly.model.types import Build
from snugly.plan.types import Candidate


def candidate_of(
    build: Build,
    ref: str,
    quality: float = 0.0,
    basis: str = "",
    model: str = "",
    here: bool = False,
) -> Candidate:
    """A candidate whose build is known already."""
    return Candidate(
        make=lambda: build,
        ref=ref,
        quality=quality,
        basis=basis,
        model=model or build.name,
        file_type=build.file_type,
        outline=outline_of(build),
        here=here,
    )
