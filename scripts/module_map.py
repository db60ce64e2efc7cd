"""Print the map of every module, as it stands in ARCHITECTURE.md.

    python scripts/module_map.py            prints it
    python scripts/module_map.py --write    puts it into ARCHITECTURE.md

What a module is for is the first line of its docstring; a test holds the page to it.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/snugly"
BEGIN, END = "<!-- map: scripts/module_map.py -->", "<!-- end of map -->"
FLOORS = (
    "cli",
    "doctor",
    "server",
    "quantize",
    "engine",
    "plan",
    "history",
    "machine",
    "model",
    "chat",
    "",
)


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0] if docstring else ""


def module_map() -> str:
    """One table per floor, from the top of the house down."""
    parts = []
    for floor in FLOORS:
        folder = PACKAGE / floor
        paths = sorted(folder.rglob("*.py") if floor else folder.glob("*.py"))
        title = f"{floor}: {first_line(folder / '__init__.py')}" if floor else "ground floor"
        parts += [f"### {title}", "", "| module | is |", "|---|---|"]
        for path in paths:
            name = path.relative_to(PACKAGE).as_posix()
            if path.name != "__init__.py" or path.parent.name == "sources":
                parts.append(f"| `{name}` | {first_line(path)} |")
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Print or write the map."""
    if "--write" not in sys.argv:
        print(module_map())
        return
    page = ROOT / "ARCHITECTURE.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{module_map()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
