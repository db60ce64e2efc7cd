"""Makes a llama-server for this very machine: fetch the source, compile it, put it in place.

Everything lies in the folder `engines` of the cache. What was interrupted goes on where it
stopped: the download by itself, the compilation because ninja knows what is done. The
finished engine appears at once or not at all, and `current` names the one in use.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snugly.engine import build_native_kernels as kernels
from snugly.engine import build_native_tools as tools
from snugly.engine.build_native_files import fetch_archive, fetch_source, unpack
from snugly.engine.build_native_pins import ARCHIVES, RELEASE, SOURCE
from snugly.engine.build_native_run import Steps, run
from snugly.engine.native_found import SERVER, Native, built_folder, look_at
from snugly.errors import EngineError
from snugly.machine.types import Machine
from snugly.model import sidecar
from snugly.model.download import only_one, require_space
from snugly.model.progress import Progress
from snugly.settings import Settings
from snugly.units import MiB

# The server, and what the workshops use of the same build.
TARGETS = ("llama-server", "llama-bench", "llama-quantize", "llama-imatrix", "llama-perplexity")
# One file per program, whatever is put beside it later. No page, no downloads, no TLS: it
# serves one private socket.
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=ON",
)  # fmt: skip
_OBJECT_BYTES = 400 * MiB  # what a CPU build leaves of objects and programs (du: 0.3 GiB)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is built: it decides the name, so that the same recipe is built once."""

    flags: tuple[str, ...]
    backend: str
    cpu: str
    instructions: tuple[str, ...]
    compiler: str
    kernels: str  # digest of our own products in it; empty: llama.cpp as it is

    @property
    def name(self) -> str:
        """Folder of the finished engine."""
        told = json.dumps([SOURCE.sha256, self.kernels, *self.flags, self.cpu, self.compiler])
        digest = hashlib.sha256(told.encode()).hexdigest()[:10]
        return f"llama.cpp-{SOURCE.version}-{self.backend or 'cpu'}-{digest}"


def recipe(machine: Machine, stock: bool = False) -> tuple[Recipe, str]:
    """What would be built on `machine`, and for what, in words. `stock`: without our products.

    Raises: EngineError without a compiler.
    """
    tools.require_compiler()
    kit = tools.toolkit(machine, sys.platform, shutil.which, os.environ)
    cpu = machine.cpu
    made = Recipe(
        flags=FLAGS + kit.flags,
        backend=kit.backend,
        cpu=cpu.model.or_else("") or cpu.architecture.or_else(""),
        instructions=cpu.instructions.or_else(()),
        compiler=_compiler_version(),
        kernels="" if stock else kernels.digest(),
    )
    return made, kit.words


def _compiler_version() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            return (said.stdout.splitlines() or [name])[0]
    return ""


def build(
    settings: Settings,
    machine: Machine,
    progress: Progress,
    steps: Steps,
    again: bool = False,
    stock: bool = False,
) -> Native:
    """Compile a llama-server for `machine`; one that is there already is taken.

    `stock`: llama.cpp as it is, without our own products.

    Raises: EngineError when it cannot be compiled, with the compiler's words; DownloadError.
    """
    wanted, words = recipe(machine, stock)
    root = built_folder(settings.cache)
    final = root / wanted.name
    with only_one(root, final, progress):
        if again or not (final / "bin" / SERVER).is_file():
            progress.say(f"Compiling llama.cpp for {words} and this processor: some minutes.")
            _compile(root, final, wanted, settings, machine, progress, steps)
        return _finish(root, final, settings)


def _compile(
    root: Path,
    final: Path,
    wanted: Recipe,
    settings: Settings,
    machine: Machine,
    progress: Progress,
    steps: Steps,
) -> None:
    work = root / "work"
    source = work / f"source-{SOURCE.version}{'' if wanted.kernels else '-stock'}"
    if not source.is_dir():
        require_space(root, SOURCE.n_bytes + SOURCE.unpacked_bytes + _OBJECT_BYTES, "llama.cpp")
        archive = fetch_source(SOURCE, work, settings, progress)
        unpack(archive, SOURCE.inside, source, SOURCE.n_bytes, progress)
        archive.unlink()
    if wanted.kernels:
        kernels.add(source)
    cmake, ninja = tools.cmake_and_ninja(root / "tools", settings.pypi_index, progress.say)
    objects = work / wanted.name
    objects.mkdir(parents=True, exist_ok=True)
    log = objects / "build.log"
    made = [cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *wanted.flags]
    run([*made, "-S", str(source), "-B", str(objects)], log, "w", steps)
    n_jobs = tools.jobs(
        machine.cpu.usable_cores.or_else(1.0), machine.memory.available_bytes.or_else(0)
    )
    run([ninja, "-C", str(objects), "-j", str(n_jobs), *TARGETS], log, "a", steps)
    told = {
        "flags": wanted.flags, "backend": wanted.backend, "cpu": wanted.cpu,
        "instructions": wanted.instructions, "compiler": wanted.compiler,
        "source": f"{SOURCE.package}=={SOURCE.version}", "sha256": SOURCE.sha256,
        "kernels": wanted.kernels,
    }  # fmt: skip
    with _appearing(final) as folder:
        (folder / "bin").mkdir()
        for target in TARGETS:
            shutil.copy2(objects / "bin" / target, folder / "bin" / target)
        sidecar.write_text(folder / "build.json", json.dumps(told, indent=2))
    shutil.rmtree(work, ignore_errors=True)


def prebuilt(settings: Settings, machine: Machine, backend: str, progress: Progress) -> Native:
    """Fetch an official build of llama.cpp instead of compiling one.

    Raises: EngineError where there is none for this machine; DownloadError.
    """
    architecture = machine.cpu.architecture.or_else("")
    if (sys.platform, architecture) == ("darwin", "arm64"):
        backend = "metal"  # there is no other
    archives = ARCHIVES.get((sys.platform, architecture, backend))
    if archives is None:
        raise EngineError(
            f"There is no official build for {sys.platform} on {architecture or 'this processor'}"
            + (f" with {backend}." if backend else "."),
            f"Pinned are {', '.join(sorted({' '.join(filter(None, k)) for k in ARCHIVES}))}.",
            "Compile one: `snugly engine build`.",
        )
    root = built_folder(settings.cache)
    final = root / f"llama.cpp-{RELEASE}-{backend or 'cpu'}"
    with only_one(root, final, progress):
        if not (final / "bin" / SERVER).is_file():
            with _appearing(final) as folder:
                for archive in archives:
                    got = fetch_archive(archive, root / "work", settings, progress)
                    unpack(got, "*", folder / "bin", archive.n_bytes, progress)
                    got.unlink()
                told: dict[str, Any] = {"source": RELEASE, "backend": backend}
                sidecar.write_text(folder / "build.json", json.dumps(told, indent=2))
        return _finish(root, final, settings)


def _finish(root: Path, final: Path, settings: Settings) -> Native:
    """Try what was built, and only then name it as the one in use."""
    native = look_at(str(final / "bin" / SERVER), "built", settings.cache)
    if native.unusable:
        raise EngineError("What was built cannot be used.", f"{native.unusable}.")
    sidecar.write_text(root / "current", final.name + "\n")
    return native


@contextlib.contextmanager
def _appearing(final: Path) -> Iterator[Path]:
    """A folder that gets its name when it is whole; what had the name before goes."""
    folder = final.with_name(f".{final.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(final, old)
    os.replace(folder, final)
    shutil.rmtree(old, ignore_errors=True)
