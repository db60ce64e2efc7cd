"""What is fetched to have a llama-server, pinned by size and SHA-256: no index is trusted. Data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """llama.cpp's whole source inside a source distribution on package indexes."""

    package: str
    version: str
    filename: str
    n_bytes: int
    sha256: str
    inside: str  # the folder of llama.cpp in it
    unpacked_bytes: int


# MIT; by Andrei Betlen. It carries llama.cpp 0c1e570 (ggml 0.25.3) with server and tools.
# SHA-256 as the index gives it beside the file's address.
SOURCE = Source(
    package="llama-cpp-python",
    version="0.3.36",
    filename="llama_cpp_python-0.3.36.tar.gz",
    n_bytes=76_589_250,
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    inside="llama_cpp_python-0.3.36/vendor/llama.cpp",
    unpacked_bytes=176_000_000,
)
# From PyPI where the system has none; any later one of the same major version would do.
CMAKE, NINJA = "cmake==4.4.4", "ninja==1.13.2"


@dataclass(frozen=True, slots=True)
class Archive:
    """One official build of llama.cpp."""

    filename: str
    n_bytes: int
    sha256: str


RELEASE = "b11146"  # llama.cpp 0.5.0, 2026-09-23
# (system, architecture, backend) -> archives that are unpacked into one folder. The Linux
# CPU builds hold a library per generation of processors and take the best at run time.
# Digests are those of GitHub's release API; each was found the same in four or more
# independent public repositories.
ARCHIVES: dict[tuple[str, str, str], tuple[Archive, ...]] = {
    ("linux", "x86_64", ""): (
        Archive(
            "llama-b11146-bin-ubuntu-x64.tar.gz",
            16_998_357,
            "c150306eb16b5ab696f76a8bdf810c35fd98a24e82158742e6fa28f420ff8410",
        ),
    ),
    ("linux", "arm64", ""): (
        Archive(
            "llama-b11146-bin-ubuntu-arm64.tar.gz",
            13_598_346,
            "4aeda6fe68831547e49b7fa87607383ca5352b3d72ca5f70d52ed265f58c131f",
        ),
    ),
    ("linux", "x86_64", "vulkan"): (
        Archive(
            "llama-b11146-bin-ubuntu-vulkan-x64.tar.gz",
            30_598_492,
            "d3ce40fce7403cc93bcf5718fc46c6efb61ed9709f8e5d9f10c86bf0e30e8fb3",
        ),
    ),
    ("linux", "x86_64", "cuda"): (
        Archive(
            "llama-b11146-bin-ubuntu-cuda-12.8-x64.tar.gz",
            168_920_581,
            "c2ab9e19838513ff69d1af8d999ad717dd3c7ee4714ac04c7ed5ab9077c50e4e",
        ),
        Archive(
            "cudart-llama-b11146-bin-ubuntu-cuda-12.8-x64.tar.gz",
            594_373_356,
            "1466daea60aad1144819e151b2bae19d54556cf1da6c129c4f55a5ded2637c25",
        ),
    ),
    ("darwin", "arm64", "metal"): (
        Archive(
            "llama-b11146-bin-macos-arm64.tar.gz",
            11_189_714,
            "1ad3f9eff80edb9dbef4259ad564d1720612ef7eea48fa4afed0e54f5f3d5711",
        ),
    ),
    ("darwin", "x86_64", ""): (
        Archive(
            "llama-b11146-bin-macos-x64.tar.gz",
            11_237_237,
            "305f0e3a17d2c01eb205cd0a62128357f1ec3b55329cb084d94e5ec0115d7a3b",
        ),
    ),
}
