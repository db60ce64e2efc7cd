"""What is asked of every engine, and what one declares that it cannot.

The same tests run for all of them (tests/engine/test_conformance.py): an engine passes, or
says here that it does not and why. What it cannot, it refuses with the same words.
"""

# ability -> what it means, for people and as the suite's order
ABILITIES = {
    "chat": "answers a conversation, piece by piece",
    "complete": "goes on with a prompt as it stands",
    "stop": "stops before a stop string, wherever it was cut into tokens",
    "limit": "stops at max_tokens and says so",
    "schema": "obeys a JSON schema",
    "grammar": "obeys a GBNF grammar",
    "count": "counts the tokens of a request as it bills them",
    "tokenize": "tells the tokens of a text, and the text of tokens",
    "too_long": "refuses a prompt that does not fit, with both counts",
    "prefix": "does not read a prefix twice",
    "cached": "tells how many tokens of a prompt it remembered",
    "kept": "goes on after a restart from what it has read",
    "seed": "says the same with the same seed",
    "cancel": "is free again after an answer was cancelled",
    "at_once": "writes several answers at once",
    "logprobs": "tells log probabilities",
    "tools": "calls tools, and tells the calls apart from text",
    "embed": "makes vectors of texts",
    "rerank": "orders documents by relevance",
    "crash": "says why it died in the middle of an answer",
    "silence": "is stopped when it hangs",
    "orphan": "ends with its parent, however that ends",
    "memory": "tells how much memory it takes",
}

# engine -> ability -> why not
LACKS: dict[str, dict[str, str]] = {
    "xllamacpp": {},
    "native": {},
    "openvino": {
        "grammar": "It knows no GBNF grammars, only JSON schemas.",
        "cached": "The library does not tell what it remembered.",
        "kept": "The library cannot save what it remembers.",
        "logprobs": "It tells the log probability of the chosen token only.",
        "tools": "Calls are not told apart from its text.",
        "embed": "Only text is built in.",
        "rerank": "Only text is built in.",
    },
}


def lacks(name: str) -> tuple[tuple[str, str], ...]:
    """(ability, why not) of an engine, in the order of ABILITIES."""
    declared = LACKS.get(name, {})
    return tuple((ability, declared[ability]) for ability in ABILITIES if ability in declared)
