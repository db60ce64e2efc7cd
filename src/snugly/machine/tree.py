"""Indented text and XML as one kind of tree, so that each vendor needs one reader."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snugly.machine.facts import said

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DEPTH = 60  # no tool nests deeper; deeper is a hostile file


@dataclass(slots=True)
class Node:
    """One line or element: its key in lower_snake_case, its text, and what is under it."""

    key: str
    text: str = ""
    children: list["Node"] = field(default_factory=list)

    def all(self, key: str) -> list["Node"]:
        """The children of that key, in order."""
        return [child for child in self.children if child.key == key]

    def at(self, *path: str) -> "Node | None":
        """The first node down `path`, or None."""
        node: Node | None = self
        for key in path:
            node = next((c for c in node.children if c.key == key), None) if node else None
        return node

    def told(self, *path: str) -> str | None:
        """The text down `path`; None where there is none or where it says "N/A"."""
        node = self.at(*path)
        return said(node.text) if node else None

    def first(self, *paths: tuple[str, ...]) -> str | None:
        """The first of several paths that tells something."""
        return next((text for path in paths if (text := self.told(*path))), None)

    def walk(self) -> Iterator["Node"]:
        """This node and every one below, depth first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


def snake(words: str) -> str:
    """A tool's label as a key: "FB Memory Usage" is fb_memory_usage."""
    return re.sub(r"[^a-z0-9]+", "_", words.strip().lower()).strip("_")


def read_indented(text: str, separator: str) -> Node:
    """Nested lines by their indentation, each `key<separator>value` or `key` alone.

    Never raises: what has no sense becomes a node that nobody asks for.
    """
    root = Node("")
    stack: list[tuple[int, Node]] = [(-1, root)]
    for line in text.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        head, found, tail = line.strip().partition(separator)
        if not found:
            head, tail = line.strip().rstrip(":"), ""
        node = Node(snake(head), tail.strip())
        if not found and re.match(r"gpu \S", line.strip().lower()):
            node = Node("gpu", line.strip().split(None, 1)[1])
        while len(stack) > 1 and (stack[-1][0] >= indent or len(stack) > MAX_DEPTH):
            stack.pop()
        stack[-1][1].children.append(node)
        stack.append((indent, node))
    return root


def read_xml(text: str) -> tuple[Node, bool]:
    """XML as a tree, and whether it was whole: a log cut short gives what stood before the cut.

    Entities are not for logs: a document that declares one is not read.
    """
    if "<!ENTITY" in text:
        return Node(""), False
    import xml.etree.ElementTree as ET  # here: most boxes are known without XML

    root: Element | None = None
    whole = True
    source = io.BytesIO(text.strip().encode("utf-8", "replace"))
    try:
        for _, element in ET.iterparse(source, events=("start",)):
            root = element if root is None else root
    except ET.ParseError:
        whole = False
    return (Node(""), False) if root is None else (_from_element(root, 0), whole)


def _from_element(element: "Element", depth: int) -> Node:
    node = Node(snake(element.tag), (element.text or "").strip())
    if "id" in element.attrib:
        node.text = node.text or element.attrib["id"]
    if depth < MAX_DEPTH:
        node.children = [_from_element(child, depth + 1) for child in element]
    return node
