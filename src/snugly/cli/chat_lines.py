"""What a typed line means: a question, or a command with its argument. Pure."""

import difflib
from dataclasses import dataclass

from snugly.errors import UserError

# name -> (argument, what it does); /help prints it in this order.
COMMANDS = {
    "help": ("", "Show this."),
    "model": ("[REF]", "Show the model, or go on with another one."),
    "system": ("[TEXT]", 'Show or set the system prompt; /system "" takes it away.'),
    "save": ("[FILE]", "Write the conversation as Markdown (.md) or JSON (.json)."),
    "load": ("[ID|FILE]", "Go on with a conversation or a saved JSON file; or list them."),
    "undo": ("", "Drop the last question and its answer."),
    "stats": ("", "Show speed, context and memory of the last answer."),
    "clear": ("", "Begin a new conversation; this one stays in the history."),
    "exit": ("", "Leave. Ctrl-D does the same."),
}


@dataclass(frozen=True, slots=True)
class Question:
    """Something for the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """Something for us. `argument` is empty or stripped text, which may have several lines."""

    name: str
    argument: str


def read_line(line: str) -> Question | Command | None:
    """What `line` (one line or several) asks for; None when it is blank.

    A slash begins a command, two slashes a question that begins with one.

    Raises: UserError for an unknown command, with the nearest known one.
    """
    text = line.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Question(text[1:])
    if not text.startswith("/"):
        return Question(text)
    typed, *rest = text.split(None, 1)
    name = typed[1:].lower()
    if name not in COMMANDS:
        raise _unknown(typed, name)
    argument = rest[0] if rest else ""
    if argument and not COMMANDS[name][0]:
        raise UserError(
            f"/{name} takes no argument.",
            f"It got {argument!r}.",
            "Begin the line with // to send it to the model as it is.",
        )
    return Command(name, argument)


def _unknown(typed: str, name: str) -> UserError:
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    begins = [known for known in COMMANDS if name and known.startswith(name)]
    guess = (begins or near or [""])[0]
    return UserError(
        f"{typed} is no command." + (f" Did you mean /{guess}?" if guess else ""),
        "",
        "/help lists the commands. Begin the line with // to send it to the model as it is.",
    )


def help_text() -> str:
    """The commands and the keys, in at most 80 columns."""
    heads = {name: f"/{name} {argument}".strip() for name, (argument, _) in COMMANDS.items()}
    keys = (
        ("Enter", "Send."),
        ("Alt-Enter, Ctrl-J", "New line; so does a backslash at the end of a line."),
        ("Ctrl-C", "Stop the answer; at the prompt, clear the line."),
        ("Ctrl-D, Esc", "Leave, when the line is empty."),
        ("//...", "Send a line that begins with a slash."),
    )
    rows = [(heads[name], meaning) for name, (_, meaning) in COMMANDS.items()]
    width = max(len(head) for head, _ in (*rows, *keys)) + 2
    lines = [f"{head:<{width}}{meaning}" for head, meaning in (*rows, *keys)]
    return "\n".join([*lines[: len(rows)], "", *lines[len(rows) :]])
