"""Conversations as chat templates can take them."""

from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.turns import settled
from snugly.chat.types import Image, Message, Text, ToolCall

WORDS = st.text("abc \n", min_size=1, max_size=5)
CALLS = st.just(()) | st.just((ToolCall("i", "f", "{}"),))
TURNS = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "tool"]), WORDS)
    | st.builds(Message, st.just("assistant"), WORDS, tool_calls=CALLS),
    max_size=8,
)


def test_rules_between_turns_join_the_turn_of_the_user() -> None:
    turns = settled(
        [
            Message("system", "One."),
            Message("system", "Two."),
            Message("user", "Hi"),
            Message("system", "Be kind."),
            Message("user", "Well?"),
        ]
    )
    assert [m.role for m in turns] == ["system", "user"]
    assert turns[0].content == "One.\n\nTwo."
    assert turns[1].content == ("Hi\n\n<system-reminder>\nBe kind.\n</system-reminder>\n\nWell?")


def test_what_is_well_formed_stays_as_it_is() -> None:
    turns = (
        Message("system", "S"),
        Message("user", "U"),
        Message("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),)),
        Message("tool", "a", tool_call_id="1"),
        Message("tool", "b", tool_call_id="2"),
        Message("assistant", "A"),
    )
    assert settled(turns) == turns


def test_pictures_keep_their_places() -> None:
    image = Image(b"x", "image/png")
    turns = settled([Message("user", "a"), Message("user", (image, Text("b")))])
    assert turns == (Message("user", (Text("a"), image, Text("b"))),)


@given(TURNS)
def test_no_words_are_lost_and_settling_twice_changes_nothing(turns: list[Message]) -> None:
    found = settled(turns)
    joined = "".join(m.text for m in found)
    assert all(m.text.strip() in joined for m in turns)
    assert all(m.role != "system" for m in found[1:])
    assert settled(found) == found
    assert sum(len(m.tool_calls) for m in found) == sum(len(m.tool_calls) for m in turns)
