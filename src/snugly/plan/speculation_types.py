"""The nouns of guessing ahead; `plan.speculation` decides."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drafter:
    """A smaller model that guesses `n_tokens` ahead. `n_bytes` with its cache."""

    path: str
    name: str
    n_bytes: int
    n_tokens: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Tokens that are guessed ahead, from the text so far or by a drafter; default: none.

    A guess is made where the last `n_match` tokens stood before, and is `n_min` to `n_max`
    tokens long (llama.cpp's ngram-mod).
    """

    n_match: int = 0
    n_min: int = 0
    n_max: int = 0
    drafter: Drafter | None = None

    @property
    def most(self) -> int:
        """The longest guess, in tokens."""
        return max(self.n_max, self.drafter.n_tokens if self.drafter else 0)


NO_SPECULATION = Speculation()
