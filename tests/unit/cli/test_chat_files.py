"""/save and /load: Markdown to read, JSON that comes back as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.cli.chat_files import FORMAT, as_json, as_markdown, default_name, read, write
from snugly.errors import UserError
from snugly.history.types import Conversation, State, StoredMessage

TIME = "2026-01-02T03:04:05.000+00:00"


def conversation(*contents: str) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(
        StoredMessage(n, roles[n % 2], text, State.COMPLETE, n, TIME, TIME)
        for n, text in enumerate(contents)
    )
    return Conversation(7, "A title", "smollm2", "Be brief.", TIME, TIME, messages)


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    original = conversation("Is 🦙 a llama?", "Yes.\n\n- it is")
    write(file, original, replace=False)
    again = read(file)
    assert [(m.role, m.content, m.state, m.tokens) for m in again.messages] == [
        ("user", "Is 🦙 a llama?", State.COMPLETE, 0),
        ("assistant", "Yes.\n\n- it is", State.COMPLETE, 1),
    ]
    assert (again.title, again.model, again.system) == ("A title", "smollm2", "Be brief.")


def test_markdown_is_what_a_person_would_write() -> None:
    cut = StoredMessage(2, "assistant", "Mem", State.INTERRUPTED, None, TIME, TIME)
    asked = conversation("What is a cache?").messages[0]
    text = as_markdown(Conversation(1, "Caches", "smollm2", "", TIME, TIME, (asked, cut)))
    assert text == (
        "# Caches\n\n- Model: smollm2\n- Begun: 2026-01-02T03:04:05.000+00:00\n\n"
        "## Question\n\nWhat is a cache?\n\n## Answer (interrupted)\n\nMem\n"
    )


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("precious")
    with pytest.raises(UserError, match="there already"):
        write(file, conversation("q"), replace=False)
    assert file.read_text() == "precious"
    write(file, conversation("q"), replace=True)
    assert file.read_text().startswith("# A title")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.md"]


@pytest.mark.parametrize("name", ["talk.txt", "talk", "talk.md.bak"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"\.md.*\.json"):
        write(tmp_path / name, conversation("q"), replace=False)


def test_a_place_that_is_not_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be written"):
        write(tmp_path / "nowhere" / "x.md", conversation("q"), replace=False)


def broken(**changes: Any) -> str:
    document = json.loads(as_json(conversation("q", "a")))
    document.update(changes)
    return json.dumps(document)


MESSAGE = {
    "role": "user", "content": "x", "state": "complete", "tokens": None,
    "started_at": TIME, "ended_at": TIME,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", FORMAT),
        ("{}", FORMAT),
        (broken(format="other"), FORMAT),
        (broken(messages=None), "no list of messages"),
        (broken(messages=["x"]), "Message 1 is not an object"),
        (broken(messages=[MESSAGE, {**MESSAGE, "role": "root"}]), "Message 2 has the role 'root'"),
        (broken(messages=[{**MESSAGE, "content": 3}]), "Message 1 has no text for 'content'"),
        (broken(messages=[{**MESSAGE, "state": "lost"}]), "state 'lost'"),
        (broken(messages=[{**MESSAGE, "state": []}]), "state"),
        (broken(messages=[{**MESSAGE, "role": {}}]), "role"),
        (broken(messages=[{**MESSAGE, "tokens": True}]), "True for tokens"),
        (broken(messages=[{**MESSAGE, "tokens": 2**70}]), "tokens"),
        (broken(title=None), "no text for 'title'"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path, text: str, because: str) -> None:
    file = tmp_path / "talk.json"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(file) in caught.value.problem
    assert because in caught.value.because


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a conversation"):
        read(file)
    with pytest.raises(UserError, match="could not be read"):
        read(tmp_path / "none.json")


def test_names_from_titles() -> None:
    assert default_name("What is a KV cache?") == "what-is-a-kv-cache.md"
    assert default_name("../../etc/passwd") == "etc-passwd.md"
    assert default_name("???") == "conversation.md"


@given(st.text())
def test_any_title_gives_a_plain_file_name(title: str) -> None:
    name = default_name(title)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(name) <= 53
