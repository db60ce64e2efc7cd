"""Whose a request is, and what is done to it before a model sees it."""

from types import SimpleNamespace
from typing import Any

from snugly.chat.requests import CompletionRequest
from snugly.chat.types import ChatRequest, Message
from snugly.server.security import holder_of
from snugly.server.writing import placed

CLOCK = ChatRequest((Message("system", "Help.\nCurrent time: 12:25"), Message("user", "Hi")))


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]}


def call(steady: bool = True, **headers: str) -> Any:
    config = SimpleNamespace(steady_prompts=steady)
    return SimpleNamespace(service=SimpleNamespace(config=config), scope=scope(**headers))


def test_who_holds_the_same_key_is_the_same_however_it_is_sent() -> None:
    key = holder_of(scope(authorization="Bearer secret"))
    assert key == holder_of(scope(x_api_key="secret"))
    assert key != holder_of(scope(authorization="Bearer other"))
    assert key != holder_of(scope())
    assert "secret" not in key


def test_programs_of_ours_and_programs_without_a_key_are_two_holders() -> None:
    assert holder_of(scope()) != ChatRequest(()).holder


def test_every_request_for_text_has_its_holder() -> None:
    for request in (CLOCK, CompletionRequest(("Once",))):
        found = placed(call(x_api_key="a"), request)
        assert found.holder == holder_of(scope(x_api_key="a"))


def test_the_time_moves_to_the_end_unless_the_settings_say_no() -> None:
    assert "12:25" in placed(call(), CLOCK).messages[-1].text
    assert placed(call(steady=False), CLOCK).messages == CLOCK.messages
