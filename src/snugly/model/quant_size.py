"""How many bytes a GGUF file has: its tensors, and the header before them. Pure.

Tensors are exact. The header (mostly the vocabulary) is exact when a file of the same
model is at hand, else estimated from the size of the vocabulary. For the eight headers
that the rule was held against it was within 5%, and within 11% for BERT's WordPiece; a
header is about 0.1% of a large model's file and 2% of the smallest ones'.
`python bench/quant_sizes.py` prints predicted beside published sizes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from snugly.model.quant_facts import facts_of
from snugly.model.quant_rules import quantized
from snugly.model.types import GgufHeader, ModelSpec, Tensor

# What publishers offer most, from small to large.
USUAL_TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT

# A header without vocabulary, template and tensor list: names of keys, numbers, licence,
# tags. 1,000 to 1,800 bytes in the five files of design/models.md and in Llama 3.1 8B.
_OTHER_METADATA = 1400
# Templates of those: 368, 410, 2,507, 2,509 bytes; Llama 3.1: 4,705. Used when unknown.
_UNKNOWN_TEMPLATE = 2500
# Up to here a vocabulary of unknown kind is SentencePiece's, which has no merge rules:
# Llama 2, Mistral, TinyLlama 32,000 to 32,768; Phi-3 32,064.
_LARGEST_SMALL_VOCABULARY = 32_768
# Tokenizers made from tiktoken's ranks name every way to merge two tokens, so that they
# have about twice as many rules as tokens. By size of vocabulary: Llama 3, Mistral's
# Tekken, GLM-4, gpt-oss, Gemma 4. Source: load logs of llama.cpp (n_merges, or
# "tokenizer.ggml.merges arr[str,269443]", as in ggml-org/llama.cpp issue 8655).
_MERGES = {128_256: 280_147, 131_072: 269_443, 151_552: 318_088, 201_088: 446_189,
           262_144: 514_906}  # fmt: skip
# No merge rules whatever the size: SentencePiece, and XLM-RoBERTa's. Source: llama.cpp
# conversion/*.py, _set_vocab_sentencepiece and _xlmroberta_set_vocab.
_SENTENCEPIECE = frozenset({
    "baichuan", "bert", "gemma", "gemma2", "gemma3", "gemma3n", "gemma-embedding", "internlm2",
    "minicpm", "nemotron", "orion", "t5",
})  # fmt: skip


def tensor_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes from the first tensor to the end of the file, with padding to 32 bytes each."""
    return sum(t.n_bytes + -t.n_bytes % _ALIGNMENT for t in tensors)


def file_bytes(tensors: Sequence[Tensor], header_bytes: int) -> int:
    """Bytes of the whole file, from what `quantized` returns and a header's bytes."""
    return header_bytes + -header_bytes % _ALIGNMENT + tensor_bytes(tensors)


def header_bytes_like(header: GgufHeader) -> int:
    """Bytes before the first tensor in any other quantization of this same file's model.

    Exact but for what a publisher adds: the importance matrix's four keys take about 250
    bytes more, a later fix of the template its difference.
    """
    return header.data_offset


def estimated_header_bytes(
    tensors: Sequence[Tensor],
    vocab_size: int,
    n_merges: int | None = None,
    template_bytes: int = _UNKNOWN_TEMPLATE,
) -> int:
    """Bytes before the first tensor, when no file of the model is at hand.

    `n_merges`: merge rules of a byte-pair tokenizer, 0 for SentencePiece, None if unknown:
    then as many as tokens (more for the known ones of tiktoken's kind), or none for a small
    vocabulary. Each string takes eight bytes and its text; each token four more for its kind
    and, without merges, four for a score.
    """
    if n_merges is None:
        n_merges = assumed_merges("", vocab_size)
    text = _token_bytes(vocab_size)
    tokens = vocab_size * (8 + text + 4 + (0 if n_merges else 4))
    # A rule is a token's two halves and a space: one byte more.
    merges = n_merges * (8 + text + 1)
    total = round(tokens + merges) + _OTHER_METADATA + template_bytes + list_bytes(tensors)
    return total + -total % _ALIGNMENT


def assumed_merges(architecture: str, vocab_size: int) -> int:
    """Merge rules of a model's tokenizer when no file of it is at hand; 0 for SentencePiece."""
    if architecture in _SENTENCEPIECE or vocab_size <= _LARGEST_SMALL_VOCABULARY:
        return 0
    return _MERGES.get(vocab_size, vocab_size)


def _token_bytes(vocab_size: int) -> float:
    """Mean bytes of a token's text: larger vocabularies hold longer words.

    Measured: 6.6 of 32,000 (Llama 2), 7.1 of 50,257 (GPT-2), 7.5 of 49,152 (SmolLM2),
    8.4 of 128,256 (Llama 3), 9.0 of 151,936 (Qwen2), 8.8 of 262,144 (Gemma 3). The line
    through them per doubling:
    """
    return 6.7 + 0.85 * math.log2(max(vocab_size, 1000) / 32_000)


def list_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of the list of tensors: name, number of extents, extents, type and offset each."""
    return sum(8 + len(t.name.encode()) + 4 + 8 * len(t.shape) + 4 + 8 for t in tensors)


def quantized_file_bytes(
    spec: ModelSpec,
    type_name: str,
    *,
    imatrix: bool = False,
    embeddings: str | None = None,
    fused_as_values: bool = True,
) -> int:
    """Bytes of this model's file in another quantization; see `quantized` for the arguments.

    Exact when the spec was read from a GGUF of the model, whose header is in its
    `file_bytes`; for a spec made from a config the header is estimated.

    Raises: UserError when the name is not known or rows fit no type.
    """
    found = quantized(
        spec.tensors,
        facts_of(spec),
        type_name,
        imatrix=imatrix,
        embeddings=embeddings,
        fused_as_values=fused_as_values,
    )
    header = spec.file_bytes - tensor_bytes(spec.tensors)
    if header <= 0:
        n_merges = spec.n_merges or assumed_merges(spec.architecture, spec.vocab_size)
        template = len(spec.chat_template.encode()) or _UNKNOWN_TEMPLATE
        header = estimated_header_bytes(found, spec.vocab_size, n_merges, template)
    return file_bytes(found, header)


def in_type(spec: ModelSpec, type_name: str) -> ModelSpec:
    """The same model in another quantization, by llama.cpp's rules.

    Raises: UserError when the name is not known or rows fit no type.
    """
    tensors = quantized(spec.tensors, facts_of(spec), type_name)
    return replace(
        spec,
        tensors=tensors,
        weight_bytes=sum(tensor.n_bytes for tensor in tensors),
        file_bytes=quantized_file_bytes(spec, type_name),
        file_type=type_name,
    )
