"""`snugly tune-machine`: measure which engine and which settings are fastest here."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from snugly.cli.render import console, note, print_json

if TYPE_CHECKING:
    from snugly.plan.calibration import Calibration, Sample, Tuning


def tune_machine(
    *,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 60.0,
    anyway: Annotated[bool, Parameter(negative="")] = False,
    again: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure which engine and which settings are fastest on this machine.

    A minute at the most; what is interrupted goes on from there the next time. What is
    found is used for models of the same type and size; the engine's own settings are always
    among what is measured, and stay where nothing is clearly faster.

    Parameters
    ----------
    model
        The model to measure with; without it the best installed one.
    seconds
        How long to measure.
    anyway
        Measure even while other programs keep the machine busy.
    again
        Forget what was measured before.
    as_json
        Print every sample, and what was chosen for each task, as JSON.
    """
    from snugly.engine import calibrate_store
    from snugly.engine.calibrate import bench_for, calibrate
    from snugly.engine.calibrated import identity
    from snugly.engine.launch import measured_machine, prepare
    from snugly.plan.calibration import class_of
    from snugly.settings import settings

    config = settings()
    if again:
        calibrate_store.forget(config.cache)
    ready = prepare(model, say=note)
    machine = measured_machine(config)
    mark, kind = identity(config, machine), class_of(ready.spec)
    bench = bench_for(ready.plan, ready.spec, config, machine, seconds, anyway)
    known = calibrate_store.load(config.cache, mark, kind)
    note(f"Measuring with {ready.name} ({kind}) for {seconds:.0f} seconds at the most.")
    with console(stderr=True).status("measuring") as status:

        def told(tuning: "Tuning", sample: "Sample | None", number: int) -> None:
            if sample is None:
                status.update(f"round {number + 1}: {tuning.words}")

        found = asyncio.run(
            calibrate(
                bench, known, kind, told, lambda now: calibrate_store.save(config.cache, mark, now)
            )
        )
    if as_json:
        print_json(document(found))
    else:
        _print(found)


def document(found: "Calibration") -> dict[str, object]:
    """The JSON document: samples, comparisons and choices per task."""
    from snugly.plan.calibration import also_of, best, verdicts, work_of
    from snugly.plan.tasks import TASK_NAMES

    return {
        "model_class": found.model_class,
        "default": found.default,
        "samples": found.samples,
        "tasks": {
            task: {
                "chosen": best(found, work_of(task), also=also_of(task)),
                "compared": verdicts(found, work_of(task)),
            }
            for task in TASK_NAMES
            if task not in ("embed", "rerank")
        },
    }


def _print(found: "Calibration") -> None:
    from rich.table import Table

    from snugly.plan.calibration import also_of, best, verdicts, work_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "prefill", "decode", "a chat turn", "rounds"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for verdict in verdicts(found, work_of("chat")):
        own = " (the engine's own)" if verdict.tuning == found.default else ""
        table.add_row(
            verdict.tuning.words + own,
            f"{verdict.prefill:.2f}", f"{verdict.decode:.2f}", f"{verdict.work:.2f}",
            str(verdict.rounds),
        )  # fmt: skip
    out = console()
    out.print(table)
    out.print("Times as fast as the engine's own settings, median over rounds.", style="dim")
    for task in ("chat", "code", "summarize"):
        taken = best(found, work_of(task), also=also_of(task))
        words = f"{taken.tuning.words} ({taken.work:.2f})" if taken else "the engine's own settings"
        out.print(f"{task + ':':<11}{words}", markup=False)
    if found.rounds < 2:
        note("One round is luck: nothing is taken before the second. The next call goes on here.")
