"""Counters for Prometheus, in its text format. Ours, in a few lines: there are ten of them.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections import Counter
from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: from a cached prefix to a long prompt on a slow machine.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """How often which duration was seen."""

    def __init__(self) -> None:
        self._counts = [0] * len(_BUCKETS)
        self._n = 0
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._n += 1
        self._sum += seconds
        for index, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                self._counts[index] += 1

    def lines(self, name: str) -> Iterable[str]:
        """Its samples."""
        for bound, count in zip(_BUCKETS, self._counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self._n}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._n}"


class Metrics:
    """What the server counts over its life."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # (route, status)
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.cancelled = 0
        self.first_token = Histogram()

    def text(self, gauges: dict[str, tuple[str, float]]) -> str:
        """Everything, with gauges of the moment: name -> (meaning, value)."""
        lines = [
            "# HELP snugly_requests_total Requests by route and status.",
            "# TYPE snugly_requests_total counter",
        ]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'snugly_requests_total{{route="{route}",status="{status}"}} {count}')
        for name, meaning, count in (
            ("prompt_tokens", "Tokens read, the cached ones too.", self.prompt_tokens),
            ("cached_tokens", "Tokens of prompts that were cached.", self.cached_tokens),
            ("completion_tokens", "Tokens written.", self.completion_tokens),
            ("cancelled", "Answers whose client left.", self.cancelled),
        ):
            lines += [
                f"# HELP snugly_{name}_total {meaning}",
                f"# TYPE snugly_{name}_total counter",
                f"snugly_{name}_total {count}",
            ]
        for name, (meaning, value) in gauges.items():
            lines += [
                f"# HELP snugly_{name} {meaning}",
                f"# TYPE snugly_{name} gauge",
                f"snugly_{name} {value:g}",
            ]
        lines += [
            "# HELP snugly_first_token_seconds From the request to the first token.",
            "# TYPE snugly_first_token_seconds histogram",
            *self.first_token.lines("snugly_first_token_seconds"),
        ]
        return "\n".join(lines) + "\n"
