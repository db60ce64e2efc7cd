"""Losses, measured: our figures beside llama-perplexity's, and fitted files beside others.

    python bench/quantize.py native --base F16.gguf --other Q4.gguf --bin FOLDER --text FILE
    python bench/quantize.py fit --model F16.gguf --bin FOLDER [--calibrate FILE --text FILE]
        [--our-matrix] [--types Q3_K_M,Q4_K_S,IQ4_XS] [--pure Q3_K,Q4_K] [--context 512 --chunks 0]
    python bench/quantize.py budgets --model F16.gguf [--calibrate FILE] [--count 20]
    python bench/quantize.py jitter --model F16.gguf --out NOISY.gguf

`native`: `snugly compare` and `llama-perplexity --kl-divergence` on the same chunks.
`fit`: for each type, llama-quantize with an importance matrix that llama-imatrix makes of the
calibration text (`--our-matrix`: ours, of the same text), and our file of at most the same bytes;
both losses on the other text, their ratio with the standard error of paired chunks, and what was
predicted of both.
`jitter`: the model with noise of 7% on every weight of a matrix, about what Q4_K leaves. A
reference that was decoded from Q4_K lies on that type's grid and loses nothing in it; this one
lies on none.
`budgets`: sizes of files for random budgets, as fractions of the budget.
"""

import argparse
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from snugly.model.gguf import read_header
from snugly.quantize.fit import Fitter, learn, write
from snugly.quantize.fit_sooner import sooner
from snugly.quantize.measure import bundled, measure, measure_all, read_texts
from snugly.quantize.measure_loss import Loss
from snugly.quantize.reader import read_gguf


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


def fit(given: argparse.Namespace) -> None:
    """Print what our files lose beside llama-quantize's of the same size."""
    folder = Path(given.folder or tempfile.mkdtemp(dir=Path(given.model).parent))
    learned = read_texts([given.calibrate]) if given.calibrate else bundled("calibration")
    held = read_texts([given.text]) if given.text else bundled("evaluation")
    source = read_gguf(given.model)
    start = time.monotonic()
    fitter = learn(given.model, source, learned, folder, places=given.context,
                   texts=given.texts, tiny=given.tiny, threads=given.threads)  # fmt: skip
    print(f"calibration {time.monotonic() - start:.1f} s")
    matrix = folder / "imatrix.gguf"
    if given.our_matrix:
        matrix = Path(fitter.sensitivity.path)
    elif not matrix.exists():
        text = folder / "calibration.txt"
        text.write_text(learned.text, "utf-8")
        _run([f"{given.bin}/llama-imatrix", "-m", given.model, "-f", str(text), "-o", str(matrix),
              "-c", str(given.context), "-t", str(given.threads), "--no-ppl"])  # fmt: skip
    files: list[tuple[str, Path]] = []
    for name in [*given.types.split(","), *(f"pure {kind}" for kind in given.pure.split(","))]:
        if name in ("", "pure "):
            continue
        theirs, ours = (folder / f"{name.replace(' ', '-')}-{who}.gguf" for who in ("ls", "us"))
        kind = name.removeprefix("pure ")
        options = ["--pure", "--output-tensor-type", kind, "--token-embedding-type", kind]
        if not theirs.exists():
            _run([f"{given.bin}/llama-quantize", "--allow-requantize", "--imatrix", str(matrix),
                  *(options if kind != name else []), given.model, str(theirs), kind,
                  str(given.threads)])  # fmt: skip
        if not ours.exists():
            start = time.monotonic()
            chosen = sooner(fitter, fitter.fit(theirs.stat().st_size))
            done = write(fitter, chosen, ours, threads=given.threads)
            print(
                f"{name}: {time.monotonic() - start:.1f} s for {done.n_bytes:,} bytes", flush=True
            )
        files += [(name, theirs), (name, ours)]
    paths = [str(path) for _, path in files]
    found = measure_all(given.model, paths, held, exact=True, context=given.context,
                        most=given.chunks, threads=given.threads)  # fmt: skip
    _print_fits(fitter, files, found)


def _print_fits(fitter: Fitter, files: list[tuple[str, Path]], found: list[Loss]) -> None:
    print(f"{'size of':14}{'bytes':>14}{'ours of it':>11}{'theirs KLD':>12}{'+-':>8}{'ours':>10}"
          f"{'+-':>8}{'ratio':>8}{'+-':>7}{'predicted':>11}{'ours':>10}")  # fmt: skip
    ratios, points = [], []
    for at in range(0, len(files), 2):
        name, theirs = files[at]
        sizes = [path.stat().st_size for _, path in files[at : at + 2]]
        one, two = found[at : at + 2]
        predicted = [_predicted(fitter, path) for _, path in files[at : at + 2]]
        ratio, error = paired(one, two)
        ratios.append(ratio)
        points += [(p, loss.kld.value) for p, loss in zip(predicted, (one, two), strict=True)]
        print(f"{name:14}{sizes[0]:14,}{sizes[1] / sizes[0]:11.5f}{one.kld.value:12.5f}"
              f"{one.kld.error:8.5f}{two.kld.value:10.5f}{two.kld.error:8.5f}{ratio:8.3f}"
              f"{error:7.3f}{predicted[0]:11.5f}{predicted[1]:10.5f}")  # fmt: skip
    known = [point for point in points if math.isfinite(point[0])]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"ratio on the geometric mean {mean:.3f}; rank correlation of predicted and measured "
          f"{rank_correlation(known):.3f} of {len(known)}")  # fmt: skip


def _predicted(fitter: Fitter, path: Path) -> float:
    try:
        return fitter.predicted([item.tensor for item in read_gguf(path).tensors])
    except KeyError:  # a type that was not tried
        return math.nan


def paired(one: Loss, two: Loss) -> tuple[float, float]:
    """Ratio of the second's mean to the first's, and its error by leaving chunks out."""
    a, b = np.array(one.chunk_klds), np.array(two.chunk_klds)
    ratio = float(b.mean() / a.mean())
    n = len(a)
    if n < 2:
        return ratio, math.nan
    without = (b.sum() - b) / (a.sum() - a)
    return ratio, float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))


def rank_correlation(points: list[tuple[float, float]]) -> float:
    """Spearman's, without ties."""
    ranks = [np.argsort(np.argsort([point[side] for point in points])) for side in (0, 1)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _fitter(given: argparse.Namespace) -> Fitter:
    learned = read_texts([given.calibrate]) if given.calibrate else bundled("calibration")
    return learn(given.model, read_gguf(given.model), learned,
                 Path(given.folder or tempfile.mkdtemp()), places=given.context,
                 texts=given.texts, tiny=given.tiny, threads=given.threads)  # fmt: skip


def budgets(given: argparse.Namespace) -> None:
    """Print how much of random budgets is used."""
    fitter = _fitter(given)
    lowest, highest = fitter.bounds()
    draw, used = np.random.default_rng(given.seed), []
    for budget in np.exp(draw.uniform(math.log(lowest), math.log(highest), given.count)):
        fit = sooner(fitter, fitter.fit(int(budget)))
        used.append(fit.n_bytes / int(budget))
    print(f"{given.count} budgets between {lowest:,} and {highest:,} bytes: "
          f"used {min(used):.5f} to {max(used):.5f} of them")  # fmt: skip


def jitter(given: argparse.Namespace) -> None:
    """Write a copy whose F16 matrices have Gaussian noise of 7% of each 32 weights' size."""
    shutil.copyfile(given.model, given.out)
    header, draw = read_header(given.out), np.random.default_rng(5)
    for tensor in header.tensors:
        if tensor.ggml_type != "F16":
            continue
        values = np.memmap(given.out, np.float16, "r+", header.data_offset + tensor.offset,
                           (tensor.n_elements // 32, 32))  # fmt: skip
        for start in range(0, len(values), 1 << 17):
            part = values[start : start + (1 << 17)].astype(np.float32)
            size = np.sqrt(np.mean(part**2, axis=1, keepdims=True))
            noise = draw.standard_normal(part.shape, dtype=np.float32)
            values[start : start + (1 << 17)] = part + 0.07 * size * noise
        values.flush()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


TASKS = {"native": native, "fit": fit, "budgets": budgets, "jitter": jitter}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = arguments.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("native")
    for name in ("base", "other", "bin", "text"):
        task.add_argument(f"--{name}", required=True)
    task.add_argument("--context", type=int, default=256)
    task.add_argument("--threads", type=int, default=2)
    for name in ("fit", "budgets"):
        task = tasks.add_parser(name)
        task.add_argument("--model", required=True)
        task.add_argument("--bin", required=name == "fit")
        for option in ("calibrate", "text", "folder", "pure"):
            task.add_argument(f"--{option}", default="")
        task.add_argument("--types", default="Q3_K_M,Q4_K_S,IQ4_XS")
        task.add_argument("--tiny", action="store_true")
        task.add_argument("--our-matrix", action="store_true")
        for option, default in (("context", 512), ("texts", 4), ("chunks", 0), ("threads", 2),
                                ("count", 20), ("seed", 0)):  # fmt: skip
            task.add_argument(f"--{option}", type=int, default=default)
    task = tasks.add_parser("jitter")
    for option in ("model", "out"):
        task.add_argument(f"--{option}", required=True)
    given = arguments.parse_args()
    TASKS[given.task](given)


if __name__ == "__main__":
    main()
