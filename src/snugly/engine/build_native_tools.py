"""What compiling needs: a compiler, cmake and ninja, and which GPU toolkits can be used."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snugly.engine.build_native_pins import CMAKE, NINJA
from snugly.errors import EngineError
from snugly.machine.types import Machine
from snugly.units import MiB

Which = Callable[[str], str | None]
# Resident bytes of g++ 12 on llama.cpp's largest files (`/usr/bin/time -v`: 0.46 GiB).
JOB_BYTES = 600 * MiB


@dataclass(frozen=True, slots=True)
class Toolkit:
    """How llama.cpp is compiled for GPUs. `backend` is as in EngineFacts; empty: CPU alone."""

    backend: str
    flags: tuple[str, ...]
    words: str  # for a person


CPU_ONLY = Toolkit("", (), "the CPU")


def toolkit(machine: Machine, system: str, which: Which, environment: Mapping[str, str]) -> Toolkit:
    """The best way to compile for the GPUs of `machine` with what is installed.

    Source of the flags: llama.cpp docs/build.md.
    """
    vendors = {gpu.vendor for gpu in machine.gpus}
    if system == "darwin":
        apple = machine.cpu.architecture.or_else("") == "arm64"
        return Toolkit("metal", (), "Apple's GPU (Metal)") if apple else CPU_ONLY
    if "nvidia" in vendors and (nvcc := _nvcc(which, environment)):
        flags = ("-DGGML_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}")
        return Toolkit("cuda", flags, f"NVIDIA GPUs (CUDA, {nvcc})")
    if "amd" in vendors and which("hipcc"):
        return Toolkit("rocm", ("-DGGML_HIP=ON",), "AMD GPUs (ROCm)")
    if vendors & {"nvidia", "amd", "intel"} and which("glslc"):
        return Toolkit("vulkan", ("-DGGML_VULKAN=ON",), "GPUs through Vulkan")
    return CPU_ONLY


def _nvcc(which: Which, environment: Mapping[str, str]) -> str | None:
    homes = (environment.get("CUDA_HOME", ""), environment.get("CUDA_PATH", ""), "/usr/local/cuda")
    places = (which(os.path.join(home, "bin", "nvcc")) for home in homes if home)
    return which("nvcc") or next((place for place in places if place), None)


def jobs(cores: float, available_bytes: int) -> int:
    """How many files to compile at once: a core and JOB_BYTES each, one at the least."""
    return max(1, min(int(cores), available_bytes // JOB_BYTES))


def require_compiler(which: Which = shutil.which) -> None:
    """Refuse before anything is fetched where nothing can compile.

    Raises: EngineError with how to get one.
    """
    if any(which(os.environ.get("CXX") or name) for name in ("c++", "g++", "clang++")):
        return
    raise EngineError(
        "There is no C++ compiler on this machine.",
        "Neither c++, g++ nor clang++ is on PATH.",
        how_to_get_one(sys.platform, which)
        + " An official build without compiling: `snugly engine build --prebuilt`.",
    )


def how_to_get_one(system: str, which: Which) -> str:
    """The command that installs a compiler here."""
    if system == "darwin":
        return "`xcode-select --install` brings one."
    ways = {
        "apt-get": "sudo apt-get install g++",
        "dnf": "sudo dnf install gcc-c++",
        "pacman": "sudo pacman -S gcc",
        "zypper": "sudo zypper install gcc-c++",
        "apk": "sudo apk add g++ linux-headers",
    }
    for manager, command in ways.items():
        if which(manager):
            return f"`{command}` brings one."
    return "Install g++ or clang++."


def cmake_and_ninja(
    folder: Path, index: str, say: Callable[[str], None], which: Which = shutil.which
) -> tuple[str, str]:
    """Paths of cmake and ninja: the system's, else wheels from PyPI put into `folder`.

    Raises: EngineError when pip cannot bring them.
    """
    names = {"cmake": CMAKE, "ninja": NINJA}
    found = {name: which(name) or _there(folder, name) for name in names}
    lacking = [names[name] for name, path in found.items() if path is None]
    if lacking:
        say(f"Fetching {' and '.join(lacking)} from PyPI: this machine has none.")
        _pip(folder, lacking, index)
        found = {name: found[name] or _there(folder, name) for name in names}
    for name, path in found.items():
        if path is None:
            raise EngineError(f"The wheel of {name} holds no {name}.", "", f"Install {name}.")
    return str(found["cmake"]), str(found["ninja"])


def _there(folder: Path, name: str) -> str | None:
    """A program of a wheel in `folder`; what lies in bin may be a launcher that needs Python."""
    for path in (folder / name / "data" / "bin" / name, folder / "bin" / name):
        if os.access(path, os.X_OK):
            return str(path)
    return None


def _pip(folder: Path, wheels: Sequence[str], index: str) -> None:
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    words += ["--upgrade", "--target", str(folder), *wheels]
    words += ["--index-url", index] if index else []
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(
            f"{' and '.join(wheels)} could not be fetched.",
            f"pip: {last}",
            "Install cmake and ninja with the system's package manager.",
        )
