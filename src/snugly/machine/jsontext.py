"""JSON that a tool printed: found within other text, and read as far as it goes."""

import json
import re
from itertools import islice
from typing import Any

# A whole string, or one of the signs that structure JSON.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],]')
_START = re.compile(r"^[ \t]*[\[{]", re.MULTILINE)
_TRIES = 40  # cut points tried, from the end; a real cut needs one or two


def read_json(text: str, tool: str) -> tuple[Any, bool]:
    """The first JSON object or list in `text`, and whether it was whole.

    Of one that was cut short, everything up to the last whole value is given.

    Raises: ValueError when there is nothing to read.
    """
    starts = [match.end() - 1 for match in islice(_START.finditer(text), _TRIES)]
    if not starts:
        at = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
        if at < 0:
            raise ValueError(f"{tool} gave no JSON")
        starts = [at]
    for start in starts:
        try:
            return json.JSONDecoder().raw_decode(text[start:])[0], True
        except RecursionError:
            raise ValueError(f"{tool}'s JSON is nested too deep") from None
        except ValueError:
            continue  # "[WARN] ..." before the JSON looks like a list
    body = text[starts[0] :]
    for end, closers in reversed(_cut_points(body)[-_TRIES:]):
        try:
            return json.loads(body[:end] + closers), False
        except (ValueError, RecursionError):
            continue
    raise ValueError(f"{tool}'s JSON is damaged from the start")


def _cut_points(body: str) -> list[tuple[int, str]]:
    """Places where a value has just ended, each with the brackets that close what is open."""
    points: list[tuple[int, str]] = []
    opened: list[str] = []
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token in "{[":
            opened.append("}" if token == "{" else "]")
        elif token in "}]" and opened:
            opened.pop()
        if token in "}],":
            end = match.start() if token == "," else match.end()
            points.append((end, "".join(reversed(opened[-200:]))))
    return points
