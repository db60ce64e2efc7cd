"""What is asked of a model beside chat, and what comes back."""

from dataclasses import dataclass, field

from snugly.chat.types import ChatRequest, Generation

Prompt = str | tuple[int, ...]  # words, or the ids of tokens


@dataclass(frozen=True, slots=True)
class CompletionRequest(Generation):
    """Prompts to go on with as they stand, without a chat template.

    `echo` puts the prompt before the answer, with log probabilities of its tokens where
    `logprobs` asks for them. `max_tokens` 0 reads the prompt and writes nothing.
    `special` says whether <|words|> like these in a text prompt are special tokens.
    Answer number `i * n + j` is the j-th to the i-th prompt.
    """

    prompts: tuple[Prompt, ...]
    echo: bool = field(default=False, kw_only=True)
    special: bool = field(default=True, kw_only=True)
    wants_tokens: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file, or a piece of one, that stands beside the text being written."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class InfillRequest(Generation):
    """Text to write between `prefix` and `suffix` (fill-in-the-middle).

    `extra` is context from other files, the least important first. `predict_ms` ends the
    answer at the next line once so many milliseconds went by; `prompt_ms` does so for the
    reading. `indent` is the fewest blanks that a line begins with. `samplers` is the order
    of samplers by llama.cpp's names.
    """

    prefix: str
    suffix: str
    extra: tuple[ExtraFile, ...] = field(default=(), kw_only=True)
    predict_ms: int | None = field(default=None, kw_only=True)
    prompt_ms: int | None = field(default=None, kw_only=True)
    indent: int | None = field(default=None, kw_only=True)
    samplers: tuple[str, ...] = field(default=(), kw_only=True)


GenerateRequest = ChatRequest | CompletionRequest | InfillRequest


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to turn into vectors.

    `dimensions` cuts each vector to its first numbers and makes it length 1 again.
    `truncate` allows to cut texts that are too long. `base64` asks for the little-endian
    float32 bytes of each vector instead of decimals.
    """

    model: str
    inputs: tuple[Prompt, ...]
    dimensions: int | None = None
    truncate: bool = False
    base64: bool = False
    keep_alive: float | None = None
    context: int | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each input, in order."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to put in order of how well they answer `query`."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document by its place in the request, and its relevance."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every document of a request, in any order."""

    items: tuple[Ranked, ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """A text to take apart. `add_special` puts the model's own first tokens before it."""

    model: str
    text: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    """Tokens to put together again."""

    model: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A model to load now, or with `keep_alive` 0 to unload; nothing is to be written."""

    model: str
    keep_alive: float | None = None
    context: int | None = None
