"""Every error that a person is meant to see, and the exit code each one ends a command with.

    SnuglyError
    ├── UserError          2  bad flags or bad input
    ├── UnknownModel       3  a reference names nothing that can be had
    ├── DoesNotFit         4  the plan refuses, with numbers
    ├── BadModelFile       5  a model file that cannot be read, naming file and field
    ├── EngineError        6  the engine would not start, crashed, hung or refused
    ├── DownloadError      7  network, hash, disk space while fetching
    ├── PromptTooLong      8  the prompt does not fit the context, with both counts
    └── HistoryError       9  the history file is damaged, full, busy or of a newer Snugly

Exit code 1 is a bug in Snugly, 130 an interruption by the person (Ctrl-C).
The CLI and the HTTP edge render errors; nobody else prints.
"""


class SnuglyError(Exception):
    """What happened, why, and what to do about it.

    `problem` and `because` and `remedy` are whole sentences in plain words.
    """

    exit_code = 1

    def __init__(self, problem: str, because: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.because = because
        self.remedy = remedy
        super().__init__(" ".join(part for part in (problem, because, remedy) if part))


class UserError(SnuglyError):
    """Bad flags or bad input."""

    exit_code = 2


class UnknownModel(SnuglyError):
    """A reference that names nothing that can be had."""

    exit_code = 3


class DoesNotFit(SnuglyError):
    """The model needs more memory than is free; said before anything is loaded."""

    exit_code = 4


class BadModelFile(SnuglyError):
    """A model file that cannot be trusted: names the file and the field."""

    exit_code = 5


class EngineError(SnuglyError):
    """The engine would not start, crashed, hung or refused; says why in words."""

    exit_code = 6


class DownloadError(SnuglyError):
    """A model could not be fetched: network, verification or disk space."""

    exit_code = 7


class PromptTooLong(SnuglyError):
    """The prompt does not fit the context; names both counts."""

    exit_code = 8


class HistoryError(SnuglyError):
    """The history file cannot be used: damaged, full, busy, not ours or of a newer Snugly."""

    exit_code = 9
