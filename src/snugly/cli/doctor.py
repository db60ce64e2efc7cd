"""`snugly doctor`: what is wrong here, why, and what to do."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snugly.cli.render import console, jsonable, print_json, visible

if TYPE_CHECKING:
    from snugly.doctor.types import Finding

_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}
_INDENT = " " * 5


def doctor(
    *,
    deep: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Find what is wrong here, why, and what to do.

    Nothing is changed and nobody is contacted. The exit code is 2 when something is bad.

    Parameters
    ----------
    deep
        Compare every byte of the models with what was downloaded.
    as_json
        Print every finding as JSON.
    """
    from snugly.cli.progress import shown
    from snugly.doctor.examine import examine
    from snugly.errors import UserError

    findings = []
    for finding in examine(deep, shown() if deep else None):
        findings.append(finding)
        if not as_json:
            _show(finding)
    wrong = [finding for finding in findings if finding.verdict == "bad"]
    if as_json:
        print_json(_document(findings))
    if wrong:
        names = ", ".join(dict.fromkeys(finding.name for finding in wrong))
        raise UserError(f"{len(wrong)} of {len(findings)} findings are bad: {names}.")


def _show(finding: "Finding") -> None:
    out = console()
    verdict = finding.verdict.value
    out.print(f"{verdict:<4} ", style=_STYLES[verdict], end="", markup=False)
    out.print(f"{finding.name}: ", style="bold", end="", markup=False)
    out.print(visible(finding.what), markup=False)
    for text in (finding.why, finding.remedy):
        if text and finding.verdict != "ok":
            out.print(_INDENT + visible(text), markup=False)


def _document(findings: "list[Finding]") -> dict[str, Any]:
    count = {verdict: sum(f.verdict == verdict for f in findings) for verdict in _STYLES}
    return {**count, "findings": jsonable(findings)}
