"""What a person sees of a long task, as the model floor tells it."""

from typing import Protocol


class Progress(Protocol):
    """What a person sees of a long task. Amounts are bytes."""

    def begin(self, label: str, total: int, done: int) -> None:
        """A task of `total` bytes starts, `done` of them were there already."""
        ...

    def advance(self, n_bytes: int) -> None:
        """So many bytes more; negative when a task starts over."""
        ...

    def end(self) -> None:
        """The task that began last is over, well or not."""
        ...

    def say(self, text: str) -> None:
        """A remark of one line."""
        ...


class Silent:
    """Progress that nobody watches."""

    def begin(self, label: str, total: int, done: int) -> None:
        """Nothing."""

    def advance(self, n_bytes: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
