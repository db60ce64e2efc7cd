"""How many tokens a piece of an answer counts for."""

import pytest

from snugly.chat.types import Delta
from snugly.server.shares import _tokens


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        (" the", 1, 1),
        (" Москва", 1, 1),
        (" правительство", 1, 1),
        (" Überraschung", 1, 1),
        ("東京", 1, 3),
        ("👍", 4, 4),  # held back until its four bytes, a token each, were a character
        ("a" * 60, 12, 60),  # held back: it could have become a call
    ],
)
def test_a_word_in_any_script_is_about_a_token(text: str, least: int, most: int) -> None:
    assert least <= _tokens(Delta(text=text)) <= most
