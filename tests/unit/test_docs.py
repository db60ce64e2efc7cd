"""The docs say what the code does."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
from scripts.module_map import module_map

from snugly import errors
from snugly.cli.app import VERBS, app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, list[str]]]:
    """Every `snugly ...` in a code block or inline, with the page that it stands in."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```|^((?: {4}.*\n)+)", text, re.MULTILINE | re.DOTALL)
        lines = [line for pair in blocks for block in pair for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]*snugly [^`\n]*)`", text)
        for line in lines:
            match = re.search(r"(?:^|[\s/|])snugly (.+)", line.split("  #")[0])
            if match:
                words = shlex.split(match[1].replace("...", "").split(" > ")[0], comments=True)
                found.append((f"{page.name}: {line.strip()}", words))
    return found


def options_of(verb: str) -> set[str]:
    """Every flag that a verb takes."""
    arguments = app[verb].assemble_argument_collection()
    return {name for argument in arguments for name in argument.names}


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda value: str(value)[:60])
def test_every_command_in_the_docs_exists(where: str, words: list[str]) -> None:
    if not words or words[0].startswith("-"):
        return
    assert words[0] in VERBS, where
    flags = {word.split("=")[0] for word in words[1:] if word.startswith("-") and len(word) > 1}
    assert flags <= options_of(words[0]) | {"--help"}, where


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_option_is_documented(verb: str) -> None:
    text = "".join(page.read_text() for page in PAGES)
    long = {name for name in options_of(verb) if name.startswith("--")}
    assert {name for name in long if name not in text} == set()


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_description_of_a_verb_is_its_docstrings(verb: str) -> None:
    target, description = VERBS[verb]
    module, _, function = target.partition(":")
    docstring = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
    assert docstring.partition("\n\nParameters\n")[0] == description
    assert not set("`*") & set(description.partition("\n\n")[0]), "`snugly --help` has no markup"


def test_the_map_of_modules_is_the_code() -> None:
    assert module_map() in (ROOT / "ARCHITECTURE.md").read_text()


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for line in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        name = re.split(r"[><=\[]", line)[0]
        assert name in page, name


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs/run.md").read_text()
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.SnuglyError)}
    assert codes == set(range(1, 10))
    assert all(f"| {code} |" in page for code in codes)
