"""Running beside a person's other work, on a battery or on a hot machine. Pure."""

from dataclasses import replace

from snugly.plan.types import Plan


def politely(plan: Plan, why: str) -> Plan:
    """`plan` with half of its threads, and the lowest claim on the processor but one.

    Half: power goes with threads, decoding mostly with memory, which half of the cores
    nearly fill on most machines (docs/performance.md, one thread beside two).
    """
    words = f"Half of the threads, with low priority: {why}."
    return replace(
        plan,
        threads=max(1, plan.threads // 2),
        threads_batch=max(1, plan.threads_batch // 2),
        polite=True,
        why=(*plan.why, words),
    )
