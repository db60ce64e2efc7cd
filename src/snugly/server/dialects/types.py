"""What the dialects share: what an answer is told to be called, and how one is streamed."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from snugly.chat.types import Delta
from snugly.errors import SnuglyError


@dataclass(frozen=True, slots=True)
class Reply:
    """What a writer must know beside the answer. Made by the server, which has the clock.

    `id` is random and bare ("a1b2c3"); each dialect puts its own prefix before it. `model`
    is the name that the client used. `created` is in seconds since 1970. `load_ms` and
    `wait_ms` are what loading the model and waiting in the queue took.
    """

    id: str
    model: str
    created: float
    load_ms: float = 0.0
    wait_ms: float = 0.0


class Writer(Protocol):
    """An answer on its way to a client: call `start`, `feed` for each piece, then `end`.

    Each gives the bytes to send now, as whole events. After an error `fail` takes the place
    of `end`. `ping` is what keeps a silent connection alive; empty where a dialect has no
    such thing.
    """

    media_type: str

    def start(self) -> list[bytes]:
        """What is sent before the first piece."""
        ...

    def feed(self, delta: Delta) -> list[bytes]:
        """Events for one piece."""
        ...

    def end(self) -> list[bytes]:
        """What closes a finished answer."""
        ...

    def fail(self, error: SnuglyError) -> list[bytes]:
        """What tells the client that the answer broke off."""
        ...

    def ping(self) -> bytes:
        """A sign of life."""
        ...


Body = dict[str, Any]  # a JSON object on its way out


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory: how much it takes, of that on GPUs, and until when (None: for ever).

    `expires` is in seconds since 1970.
    """

    context: int
    bytes: int
    gpu_bytes: int
    expires: float | None
    slots: int = 1


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What clients are told of one model. Made by the server from the store and the header.

    `name` is what clients call it ("publisher/model/file" or shorter). `modified` is in
    seconds since 1970. `digest` is the SHA-256 of the file in hexadecimal. `capabilities`
    are of "completion", "tools", "insert", "vision", "embedding", "thinking".
    `metadata` is the GGUF header's, without long arrays.
    """

    name: str
    publisher: str
    bytes: int
    modified: float
    digest: str
    architecture: str
    n_params: int
    quantization: str  # "Q4_K_M"
    context_train: int
    embedding_length: int
    capabilities: tuple[str, ...]
    chat_template: str = ""
    licence: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    special_tokens: dict[str, str] = field(default_factory=dict)
    loaded: Loaded | None = None

    @property
    def size_text(self) -> str:
        """Parameters as people say them: "8.0B", "135M"."""
        if self.n_params >= 10**9:
            return f"{self.n_params / 1e9:.1f}B"
        return f"{self.n_params / 1e6:.0f}M"
