"""What an answer cost, for a person (/stats) and for the history."""

from typing import Any

from snugly.chat.types import Usage
from snugly.cli.chat_session import Heard
from snugly.history.db import now
from snugly.history.types import Measurement
from snugly.machine.rates import fingerprint_text
from snugly.model.names import quantization_of
from snugly.plan.speed import place_of, run_times
from snugly.plan.speed_learning import SHORT_PROMPT
from snugly.units import format_bytes, format_seconds


def measurement_of(heard: Heard) -> Measurement | None:
    """The measurement of an answer; None when the engine gave no counts."""
    answer, plan, installed = heard.answer, heard.launched.plan, heard.launched.installed
    if answer.usage is None or answer.ttft_ms is None:
        return None
    return Measurement(
        taken_at=now(),
        model_ref=installed.ref,
        model_path=installed.path,
        quant=quantization_of(installed.path),
        context=plan.context,
        threads=plan.threads,
        predicted_bytes=plan.estimate.total_bytes,
        peak_bytes=heard.peak_bytes,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        prefill_tps=answer.usage.prefill_tps,
        decode_tps=answer.usage.decode_tps,
        ttft_ms=answer.ttft_ms,
        engine=heard.launched.engine,
        others_cores=heard.others_cores,
        **_expected(heard, answer.usage),
    )


def _expected(heard: Heard, usage: Usage) -> dict[str, Any]:
    """What the plan expected of this very run, so that it can teach the next one."""
    way = heard.launched.way
    if way is None:
        return {}
    fit = way.fit
    new = max(1, usage.prompt_tokens - usage.cached_tokens)
    decode, prefill = run_times(
        fit.candidate.build, fit.setup, way.placement, way.box.processors, new,
        usage.completion_tokens,
    )  # fmt: skip
    return {
        "machine": fingerprint_text(way.machine),
        "place": place_of(fit.candidate.build, fit.setup, way.placement, way.box.processors),
        "model_name": fit.candidate.build.name,
        "predicted_decode_tps": decode,
        # What was remembered was not read: the rest is too little to teach how fast reading is.
        "predicted_prefill_tps": prefill if new >= SHORT_PROMPT else None,
    }


def stats_text(heard: Heard) -> str:
    """Speed, context and memory of an answer, one fact a line."""
    answer, plan = heard.answer, heard.launched.plan
    facts: list[tuple[str, str]] = [("model", heard.launched.name)]
    if answer.ttft_ms is not None:
        facts.append(("time to first token", format_seconds(answer.ttft_ms / 1000)))
    usage = answer.usage
    if usage is not None:
        new = usage.prompt_tokens - usage.cached_tokens
        used = usage.prompt_tokens + usage.completion_tokens
        seen = f", {answer.seen_tps:.1f} as seen here" if answer.seen_tps else ""
        facts += [
            (
                "prefill",
                f"{usage.prefill_tps:.1f} tokens/s ({new} new, {usage.cached_tokens} kept)",
            ),
            ("decode", f"{usage.decode_tps:.1f} tokens/s ({usage.completion_tokens} tokens{seen})"),
            ("context", f"{used} of {plan.context} tokens used"),
        ]
    speed = plan.speed
    if speed is not None:
        low, high = speed.decode_tps.low, speed.decode_tps.high
        facts.append(
            ("predicted", f"{speed.decode_tps.expected:.1f} ({low:.1f} to {high:.1f}) tokens/s")
        )
    actual = "unknown here" if heard.peak_bytes is None else format_bytes(heard.peak_bytes)
    predicted = format_bytes(plan.estimate.total_bytes)
    facts.append(("memory", f"{predicted} predicted, {actual} at its peak"))
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts)
