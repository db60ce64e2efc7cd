"""What a fit takes: time, memory, and what haste costs.

    python bench/quantize_time.py whole --model F16.gguf [--budget 1.1GB]
    python bench/quantize_time.py sooner --model F16.gguf [--sizes 0.7,0.8,0.92,1.02,1.12]
    python bench/quantize_time.py writing

`whole`: `snugly quantize --budget` from nothing to a measured file: time of each step, processor
time, and the peak memory of the largest of its processes.
`sooner`: for sizes in GB, what choosing types that are written sooner costs and saves.
`writing`: weights per second of each type on one core, in processor time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from snugly.quantize import fit_sooner, kernels
from snugly.quantize.fit import learn
from snugly.quantize.measure import bundled
from snugly.quantize.reader import read_gguf


def whole(given: argparse.Namespace) -> None:
    """Print time and memory of one fit, with nothing kept from before."""
    with tempfile.TemporaryDirectory(dir=given.folder or None) as folder:
        out = Path(folder) / "out.gguf"
        start = time.monotonic()
        said = subprocess.run(
            [sys.executable, "-m", "snugly", "quantize", given.model, "--budget", given.budget,
             "--out", str(out), "--json", "--threads", str(given.threads)],
            env={**os.environ, "SNUGLY_CACHE": folder}, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        took = time.monotonic() - start
        done = json.loads(said.stdout)
        size = sum(item.tensor.n_elements for item in read_gguf(given.model).tensors)
        largest = max(item.tensor.n_elements for item in read_gguf(given.model).tensors)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{size / 1e6:.0f} M weights to {done['file_bytes']:,} bytes: {took:.1f} s by the clock, "
        f"{used.ru_utime + used.ru_stime:.1f} s of processors; steps {done['seconds']}"
    )
    print(
        f"largest process {used.ru_maxrss / 1e6:.2f} GB; allowed 1.5 GB and the largest tensor, "
        f"{largest * 2 / 1e9:.2f} GB in F16"
    )
    print(f"KLD {done['loss']['kld']['value']:.5f} +- {done['loss']['kld']['error']:.5f}, "
          f"predicted {done['predicted_kld']:.5f}")  # fmt: skip


def sooner(given: argparse.Namespace) -> None:
    """Print loss and time of choices, by what time is worth."""
    folder = Path(given.folder or tempfile.mkdtemp())
    fitter = learn(given.model, read_gguf(given.model), bundled("calibration"), folder,
                   threads=given.threads)  # fmt: skip
    for size in given.sizes.split(","):
        best = fitter.fit(int(float(size) * 1e9))
        taken = fit_sooner.sooner(fitter, best)
        tries = [(f"worth {worth:.2f}", fit_sooner._priced(fitter, best, worth) or best)
                 for worth in (0.0, fit_sooner._WORTH, 0.1, 0.2)]  # fmt: skip
        for name, found in (*tries, ("taken", taken)):
            print(
                f"{size} GB, {name}: predicted KLD {found.predicted_kld:.5f} "
                f"({found.predicted_kld / best.predicted_kld:.4f}), "
                f"{fit_sooner.seconds_of(found):.0f} s on a core"
            )


def writing(_: argparse.Namespace) -> None:
    """Print how fast each type is written."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((64, 1536), dtype=np.float32)
    matrix = draw.random(1536, dtype=np.float32) + np.float32(0.1)
    for kind in fit_sooner.WRITING:
        kernels.quantize_rows(rows[:1], kind, matrix)  # makes its tables
        count, start = 0, time.process_time()
        while time.process_time() - start < 0.3:
            kernels.quantize_rows(rows, kind, matrix)
            count += rows.size
        print(f"{kind:8}{count / (time.process_time() - start) / 1e6:8.1f} M weights/s")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = arguments.add_subparsers(dest="task", required=True)
    tasks.add_parser("writing")
    for name in ("whole", "sooner"):
        task = tasks.add_parser(name)
        task.add_argument("--model", required=True)
        task.add_argument("--folder", default="")
        task.add_argument("--threads", type=int, default=2)
        task.add_argument("--budget", default="1.1GB")
        task.add_argument("--sizes", default="0.7,0.8,0.92,1.02,1.12")
    given = arguments.parse_args()
    {"whole": whole, "sooner": sooner, "writing": writing}[given.task](given)


if __name__ == "__main__":
    main()
