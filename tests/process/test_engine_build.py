"""Building and fetching a llama-server, with a small source instead of llama.cpp's.

Compiler, cmake and ninja are real; what they make prints what a llama-server would.
"""

import hashlib
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.making import machine
from tests.process import hub_server

from snugly.engine import build_native
from snugly.engine.build_native_kernels import PLACES
from snugly.engine.build_native_pins import SOURCE, Archive
from snugly.engine.native_found import current, find
from snugly.errors import DownloadError, EngineError
from snugly.model.progress import Silent
from snugly.settings import Settings, settings
from snugly.units import GiB

HELP = "--ctx-size --parallel --kv-unified --cache-type-k --flash-attn --jinja --list-devices .sock"
CMAKE = """
cmake_minimum_required(VERSION 3.14)
project(tiny CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name llama-server llama-bench llama-quantize llama-imatrix llama-perplexity)
  add_executable(${name} main.cpp)
endforeach()
"""
MAIN = f"""
#include <cstdio>
#include <cstring>
int main(int n, char **words) {{
    if (n > 1 && !strcmp(words[1], "--version")) puts("version: 7 (tiny)");
    else if (n > 1 && !strcmp(words[1], "--list-devices")) puts("Available devices:");
    else puts("{HELP}");
}}
"""
BOX = machine(ram=16 * GiB, cores=2)
needs_tools = pytest.mark.skipif(
    not (shutil.which("c++") and shutil.which("cmake") and shutil.which("ninja")),
    reason="no compiler, cmake or ninja here",
)


def tar(files: dict[str, str | bytes], links: dict[str, str] | None = None) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return raw.getvalue()


def source_of(main: str) -> bytes:
    inside = SOURCE.inside
    cpu = f"{inside}/ggml/src/ggml-cpu"
    files = dict.fromkeys(place.file for place in PLACES)
    places = {file: "".join(p.line for p in PLACES if p.file == file) for file in files}
    # The first row's place begins as the place of the include does.
    rows = [p.line for p in PLACES if p.file == "arch/x86/quants.c" and p.after]
    places["arch/x86/quants.c"] = "".join(rows)
    with_places = {f"{cpu}/{file}": text for file, text in places.items()}
    return tar({**with_places, f"{inside}/CMakeLists.txt": CMAKE, f"{inside}/main.cpp": main,
                f"{inside}/models/large.gguf": "not needed", "elsewhere/x": "x"})  # fmt: skip


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """A package index with the small source on it, pinned as the real one is."""
    with hub_server.running() as hub:
        offer(hub, monkeypatch, source_of(MAIN))
        monkeypatch.setenv("SNUGLY_PYPI_INDEX", f"{hub.endpoint}/simple")
        monkeypatch.setenv("PATH", no_llama_server())
        settings.cache_clear()
        yield hub


def no_llama_server() -> str:
    import os

    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(f for f in folders if not (Path(f) / "llama-server").exists())


def offer(hub: hub_server.Hub, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    hub.wheels[SOURCE.package] = (SOURCE.filename, data)
    pinned = replace(SOURCE, n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(build_native, "SOURCE", pinned)


def built(again: bool = False, steps: list[int] | None = None) -> str:
    seen = [] if steps is None else steps
    made = build_native.build(
        settings(), BOX, Silent(), lambda done, total, what: seen.append(done), again
    )
    return made.path


@needs_tools
def test_it_is_fetched_compiled_tried_and_taken(index: hub_server.Hub) -> None:
    steps: list[int] = []
    path = Path(built(steps=steps))
    assert current(settings().cache) == path
    found = find(settings())
    assert found is not None
    assert (found.path, found.origin, found.version) == (str(path), "built", "7 (tiny)")
    assert found.built_for == frozenset(("avx2", "fma", "bmi2", "f16c"))
    assert found.sockets
    assert not found.unusable
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(build_native.TARGETS)
    assert max(steps) >= len(build_native.TARGETS)
    assert not (settings().cache / "engines/work").exists()
    fetched = index.body_bytes
    again: list[int] = []
    assert built(steps=again) == str(path)
    assert (again, index.body_bytes) == ([], fetched)  # what is there is taken


@needs_tools
def test_without_our_products_the_source_stays_as_it_is_and_the_name_is_another(
    index: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(source: Path) -> None:
        raise AssertionError(source)

    ours = build_native.recipe(BOX)[0]
    monkeypatch.setattr("snugly.engine.build_native_kernels.add", add)
    made = build_native.build(settings(), BOX, Silent(), lambda *_: None, stock=True)
    assert ours.name not in made.path
    told = json.loads((Path(made.path).parents[1] / "build.json").read_text())
    assert told["kernels"] == ""


@needs_tools
def test_what_does_not_compile_is_told_with_the_compilers_words_and_goes_on_when_mended(
    index: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(index, monkeypatch, source_of(MAIN + "this is no C++"))
    with pytest.raises(EngineError) as caught:
        built()
    assert "error" in caught.value.because
    assert "build.log" in caught.value.remedy
    assert current(settings().cache) is None
    source = settings().cache / f"engines/work/source-{SOURCE.version}/main.cpp"
    source.write_text(MAIN)
    fetched = index.body_bytes
    assert built()
    assert index.body_bytes == fetched  # the source was kept


@needs_tools
def test_a_build_that_is_no_llama_server_is_not_taken(
    index: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(index, monkeypatch, source_of("int main() { return 3; }"))
    with pytest.raises(EngineError, match="cannot be run"):
        built()
    assert current(settings().cache) is None


def test_another_file_than_the_pinned_one_is_refused(
    index: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_native, "SOURCE", replace(SOURCE, n_bytes=index_bytes(index)))
    with pytest.raises(DownloadError, match="is not llama_cpp_python"):
        built()


def index_bytes(hub: hub_server.Hub) -> int:
    return len(hub.wheels[SOURCE.package][1])


def test_without_a_compiler_nothing_is_fetched(
    index: hub_server.Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineError) as caught:
        built()
    assert "compiler" in caught.value.problem
    assert "--prebuilt" in caught.value.remedy
    assert index.body_bytes == 0


SCRIPT = f"""#!/bin/sh
case "$1" in
  --version) echo "version: 11146 (official)" ;;
  --list-devices) echo "Available devices:"; echo "  Vulkan0: Some GPU" ;;
  *) echo "{HELP}" ;;
esac
"""


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """A place of releases with one small archive, pinned as the real ones are."""
    data = tar(
        {"llama-b11146/llama-server": SCRIPT, "llama-b11146/libllama.so.0": "code",
         "llama-b11146/../../escaped": "no", "/absolute": "no"},
        {"llama-b11146/libllama.so": "libllama.so.0", "llama-b11146/passwd": "/etc/passwd"},
    )  # fmt: skip
    with hub_server.running() as hub:
        hub.wheels["archive"] = ("small.tar.gz", data)
        pinned = Archive("small.tar.gz", len(data), hashlib.sha256(data).hexdigest())
        key = (sys.platform, "x86_64", "")
        monkeypatch.setattr(build_native, "ARCHIVES", {key: (pinned,)})
        monkeypatch.setenv("SNUGLY_LLAMA_RELEASES", f"{hub.storage}/wheels")
        monkeypatch.setenv("PATH", no_llama_server())
        settings.cache_clear()
        yield hub


def here() -> Settings:
    return settings()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has builds with Metal only")
def test_an_official_build_is_fetched_unpacked_and_tried(releases: hub_server.Hub) -> None:
    made = build_native.prebuilt(here(), BOX, "", Silent())
    folder = Path(made.path).parent
    assert (made.version, made.backend) == ("11146 (official)", "vulkan")
    assert sorted(p.name for p in folder.iterdir()) == [
        "libllama.so", "libllama.so.0", "llama-server",
    ]  # fmt: skip
    assert (folder / "libllama.so").read_text() == "code"
    assert current(here().cache) == Path(made.path)
    fetched = releases.body_bytes
    build_native.prebuilt(here(), BOX, "", Silent())
    assert releases.body_bytes == fetched


def test_where_there_is_no_official_build_it_says_what_there_is(releases: hub_server.Hub) -> None:
    with pytest.raises(EngineError) as caught:
        build_native.prebuilt(here(), BOX, "cuda", Silent())
    assert "with cuda" in caught.value.problem
    assert "snugly engine build" in caught.value.remedy


SLOW = "import os, sys, time; print('[1/2] slow', flush=True); time.sleep(60)"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_the_build_ends_the_compilers_too(tmp_path: Path, number: signal.Signals) -> None:
    """A tool that starts another, as ninja starts compilers."""
    child = f"{sys.executable} -c {shlex.quote(SLOW)} & echo child $!; wait"
    script = (
        "from pathlib import Path; from snugly.engine.build_native_run import run;"
        f"run(['sh', '-c', {child!r}], Path({str(tmp_path / 'log')!r}), 'w',"
        " lambda *at: print(*at, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    ) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == "1 2 slow\n"
        build.send_signal(number)
        assert build.wait(20)
    deadline = time.monotonic() + 10
    child_id = int((tmp_path / "log").read_text().split("child ")[1].split()[0])
    while psutil.pid_exists(child_id) and time.monotonic() < deadline:
        if psutil.Process(child_id).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        assert not psutil.pid_exists(child_id)
