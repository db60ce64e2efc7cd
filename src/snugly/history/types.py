"""What is remembered: conversations, their messages, and what runs really used."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether a message is all that was said."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"  # cut by the person, by a dead engine or by a crash of ours


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One turn as kept. `role` is "user" or "assistant"; times are ISO 8601, UTC.

    `tokens` counts the answer's tokens; None where the engine did not say.
    """

    id: int
    role: str
    content: str
    state: State
    tokens: int | None
    started_at: str
    ended_at: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with all of its messages, oldest first."""

    id: int
    title: str
    model: str  # reference of the model that answered last
    system: str  # system prompt; empty for none
    created_at: str
    updated_at: str
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A line in a list of conversations. `turns` counts questions.

    `snippet` is the text around the newest hit when it comes from a search.
    """

    id: int
    title: str
    model: str
    created_at: str
    updated_at: str
    turns: int
    snippet: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run really used and how fast it was. `peak_bytes` is None where unknown.

    `others_cores` are those that other programs kept busy meanwhile; None: not known. The five
    before it are there where a speed was predicted: the machine's fingerprint, the
    processors ("cpu", "cuda", "cpu+cuda"), the model's name, and the rates that the plan
    expected at this run's lengths, without what earlier runs had taught.
    """

    taken_at: str  # ISO 8601, UTC
    model_ref: str
    model_path: str
    quant: str  # "Q4_K_M"; empty where unknown
    context: int  # tokens that the KV cache had room for
    threads: int
    predicted_bytes: int
    peak_bytes: int | None
    prompt_tokens: int
    completion_tokens: int
    prefill_tps: float
    decode_tps: float
    ttft_ms: float
    engine: str
    machine: str = ""
    place: str = ""
    model_name: str = ""
    predicted_decode_tps: float | None = None
    predicted_prefill_tps: float | None = None
    others_cores: float | None = None
