"""Which HTTP status each error has, and how each dialect puts it. Clients retry by status.

400 bad request, prompt too long, a schema the engine cannot use     not retried
401 no or wrong token      403 forbidden, or not done here on purpose
404 unknown model or stored response
409 the same thing is being done already      413 body too large
422 the model cannot do this (embeddings, filling in), or its file is damaged
429 one client asks too much      500 the engine crashed, hung or cannot read the model
502 a download failed      503 queue full, with Retry-After
507 the model does not fit the memory, with the numbers
"""

from typing import Any

from snugly.errors import (
    BadModelFile,
    DoesNotFit,
    DownloadError,
    PromptTooLong,
    SnuglyError,
    UnknownModel,
    UserError,
)


class BadRequest(UserError):
    """A request that cannot be read. `field` is the path of what is wrong ("messages[0].role")."""

    def __init__(self, problem: str, field: str = "", because: str = "", remedy: str = "") -> None:
        super().__init__(problem, because, remedy)
        self.field = field


class HttpFault(SnuglyError):
    """An error that only a server has, with its status.

    `retry_after` is in whole seconds, for 429 and 503.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        because: str = "",
        remedy: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(problem, because, remedy)
        self.status = status
        self.retry_after = retry_after


_STATUS: tuple[tuple[type[SnuglyError], int], ...] = (
    (UserError, 400),
    (PromptTooLong, 400),
    (UnknownModel, 404),
    (BadModelFile, 422),
    (DownloadError, 502),
    (DoesNotFit, 507),
)


def status_of(error: SnuglyError) -> int:
    """The HTTP status of `error`; 500 for what is nobody's fault but ours or the engine's."""
    if isinstance(error, HttpFault):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


# Both official SDKs retry 408, 409, 429 and 5xx unless this header says otherwise
# (openai and anthropic _base_client.py, _should_retry). A crashed engine is started again,
# so trying once more may help; a model that does not fit will not fit a second later.
_HOPELESS = frozenset({507})


def headers_of(error: SnuglyError) -> dict[str, str]:
    """Headers that tell a client whether and when to try again."""
    headers = {}
    if isinstance(error, HttpFault) and error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status_of(error) in _HOPELESS:
        headers["x-should-retry"] = "false"
    return headers


_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
_OPENAI_CODES = {401: "invalid_api_key", 404: "model_not_found", 507: "insufficient_memory"}


def openai_error(error: SnuglyError) -> dict[str, Any]:
    """OpenAI's error object: {"error": {message, type, param, code}}."""
    status = status_of(error)
    code = _OPENAI_CODES.get(status)
    if isinstance(error, PromptTooLong):
        code = "context_length_exceeded"
    if isinstance(error, HttpFault) and status == 404:
        code = None
    field = error.field if isinstance(error, BadRequest) else ""
    return {
        "error": {
            "message": str(error),
            "type": _OPENAI_TYPES.get(status, "server_error"),
            "param": field or None,
            "code": code,
        }
    }


# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_error(error: SnuglyError) -> dict[str, Any]:
    """Anthropic's: {"type": "error", "error": {type, message}}."""
    kind = _ANTHROPIC_TYPES.get(status_of(error), "api_error")
    message = str(error)
    if isinstance(error, PromptTooLong):
        # The words of the real service, which programs look for.
        message = f"prompt is too long: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def ollama_error(error: SnuglyError) -> dict[str, Any]:
    """Ollama's: {"error": text}. Its clients print the text and look at the status."""
    return {"error": str(error)}
