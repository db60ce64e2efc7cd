"""What a typed line means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.cli.chat_lines import COMMANDS, Command, Question, help_text, read_line
from snugly.errors import UserError


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", None),
        (" \n\t", None),
        ("hello", Question("hello")),
        ("  two\nlines \n", Question("two\nlines")),
        ("/help", Command("help", "")),
        ("/HELP ", Command("help", "")),
        ("/model qwen2.5-coder:1.5b", Command("model", "qwen2.5-coder:1.5b")),
        ("/system  Be brief.\nBe kind.", Command("system", "Be brief.\nBe kind.")),
        ("/save my file.md", Command("save", "my file.md")),
        ("//etc/passwd?", Question("/etc/passwd?")),
        ("//", Question("/")),
        ("///", Question("//")),
        ("what is /help?", Question("what is /help?")),
    ],
)
def test_lines(line: str, meant: Question | Command | None) -> None:
    assert read_line(line) == meant


@pytest.mark.parametrize(
    ("typed", "guess"),
    [("/hlep", "/help"), ("/stat", "/stats"), ("/quit", "/exit"), ("/cls", "/clear"),
     ("/sav x.md", "/save"), ("/u", "/undo")],
)  # fmt: skip
def test_an_unknown_command_suggests_the_near_one(typed: str, guess: str) -> None:
    with pytest.raises(UserError, match=f"Did you mean {guess}"):
        read_line(typed)


@pytest.mark.parametrize("typed", ["/", "/ help", "/xylophone", "/usr/bin/env is what?"])
def test_a_command_unlike_any_says_how_to_send_a_slash(typed: str) -> None:
    with pytest.raises(UserError) as caught:
        read_line(typed)
    assert "Did you mean" not in caught.value.problem
    assert "//" in caught.value.remedy


def test_an_argument_that_means_nothing_is_not_swallowed() -> None:
    with pytest.raises(UserError, match="/undo takes no argument"):
        read_line("/undo 3")


@given(st.text())
def test_any_text_is_a_question_a_command_or_a_user_error(text: str) -> None:
    try:
        meant = read_line(text)
    except UserError:
        assert text.strip().startswith("/")
    else:
        assert (meant is None) == (not text.strip())


@given(st.text(min_size=1).filter(lambda text: text.strip() == text))
def test_two_slashes_send_any_text_that_begins_with_one(text: str) -> None:
    assert read_line("//" + text) == Question("/" + text)


def test_help_names_every_command_and_fits_eighty_columns() -> None:
    text = help_text()
    assert all(f"/{name}" in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
