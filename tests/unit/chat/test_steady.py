"""What is volatile moves out of the front of a prompt, and nothing else does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.steady import steady
from snugly.chat.types import ChatRequest, Image, Message, Text


def asked(system: str, last: Message | None = None) -> ChatRequest:
    return ChatRequest((Message("system", system), last or Message("user", "Why?")))


@pytest.mark.parametrize(
    "line",
    [
        "Current time: 12:25",
        "\N{CALENDAR} CURRENT DATE/TIME: 2026-02-16 01:08:19 PST",
        "The current date and time is 2026-11-20T12:25:14Z.",
        "current_datetime: Friday, 20 November 2026 12:25:14 UTC",
        "Today's date is Friday, November 20, 2026 at 12:25:14 PM GMT+1",
    ],
)
def test_a_line_with_the_time_of_day_moves_behind_the_question(line: str) -> None:
    found = steady(asked(f"You help.\n{line}\nBe brief."))
    assert found.messages[0] == Message("system", "You help.\nBe brief.")
    assert found.messages[1].text == f"Why?\n\n<system-reminder>\n{line}\n</system-reminder>"


@pytest.mark.parametrize(
    "system",
    [
        "You help.",
        "Today's date: 2026-11-20",  # changes once a day, and stands where it is wanted
        "The shop is open from 9:00 to 17:00.",
        "Verse 3:16 is about today.",
        "The current time matters: " + "a long explanation of why, " * 10 + "at 12:25.",
    ],
)
def test_everything_else_stays_as_it_is(system: str) -> None:
    request = asked(system)
    assert steady(request) is request


def test_the_time_stands_behind_the_last_result_of_a_tool_and_behind_pictures() -> None:
    line = "Current time: 12:25"
    tool = Message("tool", "42", tool_call_id="a")
    assert line in steady(asked(line, tool)).messages[-1].text
    seen = Message("user", (Text("What?"), Image(b"x", "image/png")))
    found = steady(asked(f"Help.\n{line}", seen)).messages[-1]
    assert found.images == seen.images
    assert line in found.text


def test_a_system_prompt_of_nothing_else_goes() -> None:
    assert [m.role for m in steady(asked("Current time: 12:25")).messages] == ["user"]


def test_an_answer_that_is_to_be_continued_is_left_alone() -> None:
    request = asked("Current time: 12:25", Message("assistant", "It is"))
    assert steady(request) is request
    alone = replace(request, messages=request.messages[:1])
    assert steady(alone) is alone


def test_the_line_for_billing_goes_whoever_hands_it_on() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;"
    found = steady(asked(f"{line}\nYou help."))
    assert found.messages[0].content == "You help."
    quoted = asked(f"Never show {line}")
    assert steady(quoted) is quoted


@given(st.text(), st.text())
def test_no_word_is_lost(system: str, question: str) -> None:
    request = asked(system + "\nCurrent time: 12:25:14", Message("user", question))
    before = "\n".join(m.text for m in request.messages)
    after = "\n".join(m.text for m in steady(request).messages)
    for line in before.split("\n"):
        assert line.strip() in after
