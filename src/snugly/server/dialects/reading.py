"""Reading JSON from strangers: every value is checked, and what is wrong is named by its path."""

import json
import math
from collections.abc import Mapping
from typing import Any

from snugly.server.dialects.faults import BadRequest

MAX_DEPTH = 100  # of a whole body; Python's parser and everything after it recurse
MAX_INT = 2**31 - 1  # llama.cpp counts tokens in 32 bits
# A schema becomes a grammar in the engine. The largest of the schemas that llama.cpp's own
# tests convert has 60 nodes; tools of coding agents have a few hundred.
MAX_SCHEMA_NODES = 20_000
MAX_SCHEMA_DEPTH = 50
MAX_SCHEMA_REPEATS = 2000  # llama-grammar.cpp: MAX_REPETITION_THRESHOLD
MAX_GRAMMAR_CHARS = 200_000


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object in the body of a request.

    Raises: BadRequest for anything else, also for what Python would take beyond JSON
    (NaN) and for nesting that nothing could walk through.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("The request is nested too deeply.") from None
    except ValueError as error:  # also UnicodeDecodeError and numbers of 4,300 digits
        raise BadRequest("The request is not JSON.", because=f"{error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The request must be a JSON object.")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def whole_text(text: str) -> str:
    """`text` with halves of surrogate pairs joined, or replaced where one stands alone.

    JSON can hold half a character as an escape; nothing could be encoded with it inside.
    """
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean(value: Any, path: str, depth: int = MAX_DEPTH) -> Any:
    """A copy of a JSON value that can be sent on.

    Raises: BadRequest for nesting below `depth` and for numbers that JSON cannot write.
    """
    if depth < 0:
        raise BadRequest(f"`{path}` is nested too deeply.", path)
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, Mapping):
        return {whole_text(str(k)): clean(v, path, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, path, depth - 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"`{path}` holds a number that JSON does not have.", path)
    return value


def schema_of(value: Any, path: str) -> dict[str, Any]:
    """A JSON schema fit to become a grammar.

    Raises: BadRequest for what is none, for one that is too large, and for one that points
    to another place: nothing is fetched.
    """
    if not isinstance(value, Mapping):
        raise BadRequest(f"`{path}` must be a JSON schema (an object).", path)
    copy: dict[str, Any] = clean(value, path, MAX_SCHEMA_DEPTH)
    nodes: list[Any] = [copy]
    for count, node in enumerate(nodes):
        if count > MAX_SCHEMA_NODES:
            raise BadRequest(f"`{path}` is larger than {MAX_SCHEMA_NODES:,} values.", path)
        if isinstance(node, dict):
            _check_schema_node(node, path)
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return copy


def _check_schema_node(node: dict[str, Any], path: str) -> None:
    target = node.get("$ref")
    if isinstance(target, str) and not target.startswith("#"):
        raise BadRequest(
            f"`{path}` refers to {target[:80]!r}.", path, "Nothing is fetched from elsewhere."
        )
    for name in ("minItems", "minLength"):
        bound = node.get(name)
        if isinstance(bound, int) and bound > MAX_SCHEMA_REPEATS:
            raise BadRequest(
                f"`{path}` asks for {name} {bound}; {MAX_SCHEMA_REPEATS} is the most.", path
            )


class Fields:
    """One JSON object being read: typed access by name, null the same as absent.

    Every method raises BadRequest with the path of a value that is of another type or out
    of bounds. `unread` gives the names that nobody asked for.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, Mapping):
            raise BadRequest(f"`{path or 'body'}` must be an object.", path)
        self._value = value
        self._path = path
        self._seen: set[str] = set()

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def wrong(self, name: str, must: str) -> BadRequest:
        """The error for a field that "must be ..."."""
        return BadRequest(f"`{self.at(name)}` must be {must}.", self.at(name))

    def raw(self, name: str) -> Any:
        """The value as it is, None where absent."""
        self._seen.add(name)
        return self._value.get(name)

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def unread(self) -> tuple[str, ...]:
        """Names of fields with a value that were not asked for."""
        left = (str(name) for name in self._value if name not in self._seen)
        return tuple(sorted(whole_text(n)[:80] for n in left if self._value.get(n) is not None))

    def text(self, *names: str, default: str = "") -> str:
        """The first of `names` that is there."""
        for name in names:
            value = self.raw(name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise self.wrong(name, "text")
            return whole_text(value)
        return default

    def needed(self, name: str) -> str:
        """Text that must be there and not empty."""
        text = self.text(name)
        if not text:
            raise self.wrong(name, "given")
        return text

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def maybe(self, name: str) -> bool | None:
        """True, false, or None where absent."""
        return None if self.raw(name) is None else self.flag(name)

    def number(self, *names: str, low: float, high: float) -> float | None:
        """The first of `names` that is there, as a number from `low` to `high`."""
        for name in names:
            value = self.raw(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self.wrong(name, "a number")
            if not low <= value <= high:  # also refuses NaN
                raise self.wrong(name, f"from {low:g} to {high:g}")
            return float(value)
        return None

    def integer(self, *names: str, low: int, high: int = MAX_INT) -> int | None:
        """The first of `names` that is there, as a whole number from `low` to `high`."""
        for name in names:
            value = self.raw(name)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # JavaScript and Lua write whole numbers as 1.0
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.wrong(name, "a whole number")
            if not low <= value <= high:
                raise self.wrong(name, f"from {low} to {high}")
            return value
        return None

    def listed(self, name: str, most: int = 100_000) -> list[Any]:
        """A list, empty where absent."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        if len(value) > most:
            raise self.wrong(name, f"a list of at most {most:,}")
        return value

    def texts(self, name: str, most: int = 100_000) -> tuple[str, ...]:
        """One text or a list of texts."""
        value = self.raw(name)
        items = [value] if isinstance(value, str) else self.listed(name, most)
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(name, "text or a list of texts")
        return tuple(whole_text(item) for item in items)

    def objects(self, name: str, most: int = 100_000) -> list["Fields"]:
        """A list of objects."""
        path = self.at(name)
        return [Fields(v, f"{path}[{i}]") for i, v in enumerate(self.listed(name, most))]

    def inner(self, name: str) -> "Fields | None":
        """An object within, None where absent."""
        value = self.raw(name)
        return None if value is None else Fields(value, self.at(name))

    def word(self, name: str, allowed: tuple[str, ...], default: str = "") -> str:
        """One of a few words."""
        text = self.text(name, default=default)
        if text not in allowed and text != default:
            raise self.wrong(name, f"one of {', '.join(allowed)}")
        return text
