"""Fields that the dialects have in common, with their bounds: sampling, lengths, keep-alive."""

import json
import re
from typing import Any

from snugly.chat.types import Tool
from snugly.server.dialects.faults import BadRequest
from snugly.server.dialects.reading import MAX_GRAMMAR_CHARS, MAX_INT, Fields, clean, schema_of

MAX_STOPS = 64
MAX_STOP_CHARS = 1000
MAX_TOOLS = 1024
MAX_TOP_LOGPROBS = 20  # OpenAI's own bound
MAX_N = 128  # OpenAI's own bound
MAX_BIASES = 10_000
MAX_CONTEXT = 2**24  # four times the longest context of any model in the catalogue
_FOR_EVER = -1.0
_LONGEST_KEEP = 10 * 365 * 24 * 3600.0


def sampling(fields: Fields) -> dict[str, Any]:
    """How tokens are chosen, by the names that OpenAI, Ollama and llama.cpp share."""
    top_k = fields.integer("top_k", low=-1)  # -1 is what vLLM's clients send for none
    found = {
        "temperature": fields.number("temperature", low=0, high=100),
        "top_p": fields.number("top_p", low=0, high=1),
        "top_k": None if top_k is None else max(0, top_k),
        "min_p": fields.number("min_p", low=0, high=1),
        "typical_p": fields.number("typical_p", low=0, high=1),
        "seed": fields.integer("seed", "random_seed", low=-(2**63), high=2**64),
        "stop": stops(fields, "stop"),
        "presence_penalty": fields.number("presence_penalty", low=-100, high=100),
        "frequency_penalty": fields.number("frequency_penalty", low=-100, high=100),
        "repeat_penalty": fields.number("repeat_penalty", "repetition_penalty", low=0, high=100),
        "repeat_last_n": repeat_last_n(fields),
    }
    return {name: value for name, value in found.items() if value is not None}


def repeat_last_n(fields: Fields) -> int | None:
    """How far back a penalty looks; -1, the whole context, is as far as a number goes."""
    value = fields.integer("repeat_last_n", "penalty_last_n", low=-1)
    return MAX_INT if value == -1 else value


def most_tokens(fields: Fields, *names: str, low: int = 1) -> int | None:
    """The most tokens of an answer; -1 is how LM Studio's and llama.cpp's clients say none."""
    unlimited = any(name in fields and fields.raw(name) == -1 for name in names)
    return None if unlimited else fields.integer(*names, low=low)


def stops(fields: Fields, name: str) -> tuple[str, ...]:
    """Stop sequences: one or several, the empty ones left out."""
    found = fields.texts(name, MAX_STOPS)
    if any(len(stop) > MAX_STOP_CHARS for stop in found):
        raise fields.wrong(name, f"of at most {MAX_STOP_CHARS:,} characters each")
    return tuple(stop for stop in found if stop)


def logit_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    """OpenAI's object {"token": bias} or llama.cpp's list [[token, bias]]; false bans a token."""
    value = fields.raw("logit_bias")
    pairs = list(value.items()) if isinstance(value, dict) else fields.listed("logit_bias")
    if len(pairs) > MAX_BIASES:
        raise fields.wrong("logit_bias", f"for at most {MAX_BIASES:,} tokens")
    return tuple(_bias(fields, pair) for pair in pairs)


def _bias(fields: Fields, pair: Any) -> tuple[int, float]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise fields.wrong("logit_bias", "pairs of a token and a number")
    token, bias = pair
    if isinstance(token, str) and re.fullmatch(r"[0-9]{1,9}", token, re.ASCII):
        token = int(token)
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token <= MAX_INT:
        raise fields.wrong("logit_bias", "by ids of tokens")
    if bias is False:
        return token, float("-inf")
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not -1e6 <= bias <= 1e6:
        raise fields.wrong("logit_bias", "numbers")
    return token, float(bias)


def chat_logprobs(fields: Fields) -> int | None:
    """`logprobs: true` with `top_logprobs`, as in OpenAI's chat; None where not asked for."""
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", low=0, high=MAX_TOP_LOGPROBS)
    if top is not None and top > 0 and not wanted:
        raise fields.wrong("top_logprobs", "given together with `logprobs: true`")
    return (top or 0) if wanted else None


def response_format(fields: Fields) -> dict[str, Any] | None:
    """OpenAI's `response_format`, in the chat's shape or in that of Responses: a schema or None."""
    kind = fields.word("type", ("text", "json_object", "json_schema"), default="text")
    if kind == "text":
        return None
    if kind == "json_object":
        given = fields.raw("schema")
        return {} if given is None else schema_of(given, fields.at("schema"))
    wrapper = fields.inner("json_schema") or fields
    wrapper.text("name"), wrapper.raw("strict"), wrapper.raw("description")
    given = wrapper.raw("schema")
    return {} if given is None else schema_of(given, wrapper.at("schema"))


def grammar(fields: Fields) -> str:
    """A GBNF grammar."""
    text = fields.text("grammar")
    if len(text) > MAX_GRAMMAR_CHARS:
        raise fields.wrong("grammar", f"at most {MAX_GRAMMAR_CHARS:,} characters")
    return text


def tool(fields: Fields, schema_name: str = "parameters") -> Tool:
    """A function's name, description and the schema of its arguments."""
    name = fields.needed("name")
    if len(name) > 256:
        raise fields.wrong("name", "at most 256 characters")
    given = fields.raw(schema_name)
    schema = {} if given is None else schema_of(given, fields.at(schema_name))
    return Tool(name, fields.text("description"), schema)


def options(fields: Fields) -> dict[str, Any]:
    """What is asked of the model's place in memory: `keep_alive` and `num_ctx`."""
    found = {
        "keep_alive": keep_alive(fields),
        "context": fields.integer("num_ctx", low=0, high=MAX_CONTEXT) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


_PIECE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def keep_alive(fields: Fields) -> float | None:
    """Seconds from a number or from a duration as Go writes them ("1h30m", "-1", "300").

    Any negative one means for ever (-1.0). Source: Ollama docs/api.md and its api.Duration.
    """
    value = fields.raw("keep_alive")
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = _go_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise fields.wrong("keep_alive", 'seconds or a duration such as "5m"')
    if value < 0:
        return _FOR_EVER
    if value > _LONGEST_KEEP:
        raise fields.wrong("keep_alive", "at most ten years, or -1")
    return float(value)


def _go_duration(text: str) -> float | None:
    sign = -1.0 if text.startswith("-") else 1.0
    bare = text.lstrip("+-")
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", bare, re.ASCII):
        return sign * float(bare)
    if len(text) > 64 or not re.fullmatch(f"(?:{_PIECE.pattern})+", bare):
        return None
    return sign * sum(float(n) * _UNITS.get(unit, 3600.0) for n, unit in _PIECE.findall(bare))


def tool_names(tools: tuple[Tool, ...], names: tuple[str, ...], path: str) -> tuple[str, ...]:
    """`names`, all of which must be among `tools`."""
    known = {tool.name for tool in tools}
    for name in names:
        if name not in known:
            raise BadRequest(f"`{path}` names {name[:80]!r}, which is not among the tools.", path)
    return names


def arguments(function: Fields) -> str:
    """A call's arguments as JSON text; OpenAI sends text, Ollama and some others the object."""
    given = copied(function, "arguments")
    if isinstance(given, str):
        return given
    return json.dumps({} if given is None else given, ensure_ascii=False)


def copied(fields: Fields, name: str) -> Any:
    """Any JSON value, checked for depth."""
    return clean(fields.raw(name), fields.at(name))
