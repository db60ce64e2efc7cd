"""`snugly explain`: the words around language models, on this machine's numbers."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from snugly.cli.render import console, print_json
from snugly.plan.glossary import TOPICS, Term, find, known, terms

if TYPE_CHECKING:
    from snugly.plan.glossary_ground import Ground


def explain(
    *words: str,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Explain a word: 7B, Q4_K_M, kv-cache, ..., on this machine's numbers.

    Alone it lists the words it knows.

    Parameters
    ----------
    words
        One term of several words, or several terms.
    as_json
        Print everything as JSON.
    """
    if not words:
        _list(as_json)
        return
    found = _meant(words)
    ground = _ground() if any(term.worked for term in found) else None
    answers = [(term, _worked(term, ground)) for term in found]
    if as_json:
        print_json([{"term": term.name, "topic": term.topic, "text": term.text,
                     "worked": lines, "see": term.see, "also": term.also}
                    for term, lines in answers])  # fmt: skip
        return
    for index, (term, lines) in enumerate(answers):
        if index:
            console().print()
        _print(term, lines)


def _meant(words: tuple[str, ...]) -> list[Term]:
    """One term where the words together are one, else each for itself."""
    phrase = " ".join(words)
    if len(words) == 1 or known(phrase):
        return [find(phrase)]
    return [find(word) for word in words]


def _ground() -> "Ground":
    from snugly.engine.launch import engine_facts, measured_machine
    from snugly.model.config import spec_of_config
    from snugly.model.config_source import own_copy
    from snugly.model.module_tree import tree_of_config
    from snugly.plan.glossary_ground import EXAMPLE, Ground
    from snugly.settings import settings

    machine = measured_machine(settings())
    config = own_copy(EXAMPLE) or {}
    return Ground(
        machine,
        engine_facts(machine),
        spec_of_config(config, EXAMPLE),
        tree_of_config(config, EXAMPLE),
    )


def _worked(term: Term, ground: "Ground | None") -> tuple[str, ...]:
    from snugly.plan.glossary_worked import worked

    return worked(term.worked, ground) if term.worked and ground is not None else ()


def _print(term: Term, lines: tuple[str, ...]) -> None:
    out = console()
    out.print(term.name, style="bold", markup=False)
    out.print(term.text, markup=False)
    for line in lines:
        out.print(f"  {line}", markup=False)
    if term.see:
        out.print(f"See also: {', '.join(term.see)}", style="dim", markup=False)


def _list(as_json: bool) -> None:
    if as_json:
        print_json([{"term": t.name, "topic": t.topic, "also": t.also} for t in terms()])
        return
    out = console()
    for topic in TOPICS:
        out.print(topic, style="bold", markup=False)
        out.print("  " + ", ".join(t.name for t in terms() if t.topic == topic), markup=False)
    out.print(
        "Also any size (7B, 30B-A3B) and any quantization of llama.cpp (Q4_K_M, IQ3_XXS).",
        style="dim",
        markup=False,
    )
