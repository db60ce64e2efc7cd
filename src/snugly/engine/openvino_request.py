"""What a request in llama-server's dialect asks of OpenVINO GenAI, and what it cannot. Pure."""

import json
from dataclasses import dataclass, field
from typing import Any

from snugly.engine.conformance import LACKS

# llama-server's defaults where a request leaves them out (common/common.h,
# common_params_sampling): the same request is answered alike by every engine.
_DEFAULTS = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05}
_RENAMED = {
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


class Refused(Exception):
    """A request that this engine does not do; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `options` are attributes of openvino_genai.GenerationConfig."""

    prompt: str | tuple[int, ...] | None  # None: `messages` through the chat template
    messages: tuple[dict[str, Any], ...] = ()
    template: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    schema: str = ""  # JSON text; empty: none
    options: dict[str, Any] = field(default_factory=dict)
    verbose: bool = False


def read_chat(body: dict[str, Any]) -> Asked:
    """A body of `/v1/chat/completions`.

    Raises: Refused, KeyError, TypeError, ValueError for what cannot be done or is no request.
    """
    if body.get("tools"):
        raise Refused(_why("tools"))
    messages = tuple(_message(message) for message in body["messages"])
    format_ = body.get("response_format") or {}
    schema = ""
    if format_.get("type") == "json_object":
        schema = json.dumps({"type": "object"})
    elif format_.get("type") == "json_schema":
        schema = json.dumps(format_["json_schema"]["schema"])
    return Asked(
        prompt=None,
        messages=messages,
        template=dict(body.get("chat_template_kwargs") or {}),
        max_tokens=_limit(body.get("max_tokens")),
        schema=schema,
        **_generation(body),
    )


def read_completion(body: dict[str, Any]) -> Asked:
    """A body of `/completion`.

    Raises: as `read_chat`.
    """
    prompt = body["prompt"]
    if not isinstance(prompt, str):
        prompt = tuple(int(token) for token in prompt)
    schema = body.get("json_schema")
    return Asked(
        prompt=prompt,
        max_tokens=_limit(body.get("n_predict")),
        schema="" if schema is None else json.dumps(schema or {"type": "object"}),
        **_generation(body),
    )


def _why(ability: str) -> str:
    return LACKS["openvino"][ability]


def _limit(value: Any) -> int | None:
    return None if value is None or int(value) < 0 else int(value)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        if any(part.get("type") != "text" for part in content):
            raise Refused("It sees no pictures and hears no sounds.")
        content = "".join(part["text"] for part in content)
    return {"role": str(message["role"]), "content": content or ""}


def _generation(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("grammar"):
        raise Refused(_why("grammar"))
    if body.get("logprobs") or body.get("n_probs"):
        raise Refused(_why("logprobs"))
    if body.get("logit_bias"):
        raise Refused("It has no way to favour or ban single tokens.")
    if body.get("typical_p", 1.0) != 1.0:
        raise Refused("It has no typical sampling.")
    return {
        "stop": tuple(str(word) for word in body.get("stop") or ()),
        "options": options_of(body),
        "verbose": bool(body.get("verbose")),
    }


def options_of(body: dict[str, Any]) -> dict[str, Any]:
    """Sampling by OpenVINO GenAI's names; a temperature of 0 takes the likeliest token."""
    given = {name: body.get(name, default) for name, default in _DEFAULTS.items()}
    options: dict[str, Any] = {
        ours: float(body[theirs]) for theirs, ours in _RENAMED.items() if theirs in body
    }
    if float(given["temperature"]) <= 0:
        return options | {"do_sample": False}
    options |= {
        "do_sample": True,
        "temperature": float(given["temperature"]),
        "top_p": float(given["top_p"]),
        "min_p": float(given["min_p"]),
    }
    if int(given["top_k"]) > 0:  # 0: all of them
        options["top_k"] = int(given["top_k"])
    if "seed" in body:
        options["rng_seed"] = int(body["seed"])
    return options
