"""Run the notebooks of docs/ and keep what their cells show: `python scripts/notebook.py FILE...`.

Needs nbclient and ipykernel, and the extra `snugly[transformers]`. Takes some minutes. Bars that
have gone are dropped, so that the file holds what a reader sees.
"""

import os
import sys

import nbformat
from nbclient import NotebookClient


def main() -> None:
    """Run each and write it back."""
    os.environ.setdefault("SNUGLY_HF_ENDPOINT", "http://127.0.0.1:9")  # nothing is asked for
    for path in sys.argv[1:]:
        notebook = nbformat.read(path, 4)
        NotebookClient(notebook, timeout=3600, record_timing=False).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [o for o in cell.outputs if o.output_type != "display_data"]
        notebook.metadata.pop("widgets", None)
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
