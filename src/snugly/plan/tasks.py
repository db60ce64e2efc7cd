"""What people use models for, and what each use asks of a plan. Data, and one look-up."""

from dataclasses import dataclass

from snugly.errors import UserError


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of use.

    `context` is what is taken without asking, `min_tps` the pace of decoding below which it
    is no pleasure, `prompt_tokens` a usual prompt, `patience_s` how long its first word may
    take, in seconds.
    """

    name: str
    words: str
    context: int
    min_tps: float
    prompt_tokens: int
    patience_s: float

    @property
    def writes(self) -> bool:
        """Whether text comes out; of vectors and scores only the reading takes time."""
        return self.min_tps > 0


# Pace: silent reading is about 240 words a minute (Brysbaert 2019), some 5 tokens/s. A
# reasoning model writes thousands of tokens before its answer; a completion of 16 tokens
# that takes longer than a second is typed by hand. Contexts: what Continue, aider and
# Open WebUI send in ordinary use (design notes, clients). Patience is our judgement: a chat
# that thinks longer than 20 s looks broken; a completion that takes 5 s is not looked at; a
# thousand passages should be indexed in an hour, and ten of them put in order in 20 s.
TASKS = (
    Task("chat", "everyday questions and talk", 8192, 5.0, 512, 20.0),
    Task("code", "writing and changing code with an assistant", 16384, 8.0, 4096, 60.0),
    Task("complete", "autocompletion while typing", 4096, 20.0, 1024, 5.0),
    Task("summarize", "making long texts short", 32768, 5.0, 16384, 300.0),
    Task("reason", "hard problems, thought through in writing", 16384, 10.0, 512, 20.0),
    Task("translate", "translating from one language into another", 8192, 5.0, 1024, 30.0),
    Task("embed", "vectors for search", 2048, 0.0, 512, 3.6),
    Task("rerank", "putting search results in order", 2048, 0.0, 512, 2.0),
)
TASK_NAMES = tuple(task.name for task in TASKS)


def task_named(name: str) -> Task:
    """The task of that name.

    Raises: UserError with what there is.
    """
    for task in TASKS:
        if task.name == name:
            return task
    import difflib  # here: most names are known

    near = difflib.get_close_matches(name, TASK_NAMES, n=1)
    raise UserError(
        f"There is no task called {name!r}.",
        f"Did you mean {near[0]}?" if near else "",
        f"The tasks are {', '.join(TASK_NAMES)}.",
    )
