"""Losses, measured: our figures beside llama-perplexity's, and fitted files beside others.

    python bench/quantize.py native --base F16.gguf --other Q4.gguf --bin FOLDER --text FILE

`native`: `snugly compare` and `llama-perplexity --kl-divergence` on the same chunks.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from snugly.quantize.measure import measure, read_texts


def native(given: argparse.Namespace) -> None:
    """Print the same figures from both programs."""
    text = read_texts([given.text])
    ours = measure(given.base, given.other, text, context=given.context, threads=given.threads)
    with tempfile.TemporaryDirectory() as folder:
        file, kept = Path(folder) / "text", Path(folder) / "logits"
        file.write_text(text.text, "utf-8")
        common = [f"{given.bin}/llama-perplexity", "-c", str(given.context), "-b", "128", "-ub",
                  "128", "-t", str(given.threads)]  # fmt: skip
        _run([*common, "-m", given.base, "-f", str(file), "--save-all-logits", str(kept)])
        size = kept.stat().st_size
        said = _run([*common, "-m", given.other, "--kl-divergence", "--kl-divergence-base",
                     str(kept)])  # fmt: skip
    print(f"{'':22}{'ours':>12}{'error':>10}{'native':>12}{'error':>10}")
    for title, figure, pattern, scale in (
        ("mean KLD", ours.kld, "Mean    KLD", 1),
        ("99% KLD", ours.kld_p99, "99.0%   KLD", 1),
        ("99.9% KLD", ours.kld_p999, "99.9%   KLD", 1),
        ("same top %", ours.same_top, "Same top p", 100),
        ("probability change %", ours.p_change, "Mean    Δp", 100),
        ("RMS of it %", ours.p_change_rms, "RMS Δp", 100),
        ("perplexity ratio", ours.perplexity_ratio, r"Mean PPL\(Q\)/PPL\(base\)", 1),
    ):
        found = re.search(pattern + r"\s*:\s*(-?[\d.]+)(?: ±\s*([\d.]+))?", said)
        if found is None:
            sys.exit(f"llama-perplexity does not say {pattern}:\n{said[-2000:]}")
        print(f"{title:22}{figure.value * scale:12.5f}{figure.error * scale:10.5f}"
              f"{float(found[1]):12.5f}{found[2] or '':>10}")  # fmt: skip
    print(f"{ours.chunks} chunks; llama-perplexity kept {size / 1e6:.0f} MB of logits, we none")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = arguments.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("native")
    for name in ("base", "other", "bin", "text"):
        task.add_argument(f"--{name}", required=True)
    task.add_argument("--context", type=int, default=256)
    task.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    {"native": native}[given.task](given)


if __name__ == "__main__":
    main()
