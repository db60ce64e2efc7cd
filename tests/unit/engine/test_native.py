"""Which llama-server is found, what it is asked to do, and what is refused."""

import os
import stat
import sys
from pathlib import Path

import pytest
from tests.making import machine, plan

from snugly.engine import native_found
from snugly.engine.address import Address
from snugly.engine.choice import choose, with_value
from snugly.engine.native import NativeLlama, arguments, facts, repacks
from snugly.engine.native_found import Native, backend_of, find
from snugly.engine.registry import chosen
from snugly.errors import EngineError, UserError
from snugly.plan.types import Placement, Setup
from snugly.settings import config_file, settings

NEW = "--ctx-size --parallel --kv-unified --cache-type-k --flash-attn --jinja UNIX socket"
OLD = "--ctx-size --parallel --flash-attn"
SOCKET = Address("/run/e.sock", 0, "")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not offered on Windows")


def server(folder: Path, says: str, version: str = "5", name: str = "llama-server") -> Path:
    """A program that says of itself what a llama-server would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!/bin/sh\necho asked >> {folder}/asked\n"
        f'if [ "$1" = --version ]; then echo "version: {version}"; else echo "{says}"; fi\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH in front of nothing but the shell's own programs."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", os.pathsep.join((str(folder), "/usr/bin", "/bin")))
    return folder


def test_the_persons_word_comes_first_then_path_then_what_we_built(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = server(settings().cache / "engines/made/bin", NEW)
    (settings().cache / "engines/current").write_text("made\n")
    assert found() == (str(ours), "built")
    on_path = server(elsewhere, NEW)
    assert found() == (str(on_path), "PATH")
    mine = server(tmp_path / "mine", NEW, name="my-server")
    monkeypatch.setenv("SNUGLY_LLAMA_SERVER", str(mine))
    settings.cache_clear()
    assert found() == (str(mine), "settings")


def found() -> tuple[str, str] | None:
    native = find(settings())
    return (native.path, native.origin) if native else None


def test_an_old_one_on_path_is_passed_over(elsewhere: Path) -> None:
    server(elsewhere, OLD)
    assert found() is None
    assert chosen(settings()) == "xllamacpp"


def test_an_old_one_that_was_named_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNUGLY_LLAMA_SERVER", str(server(tmp_path, OLD)))
    settings.cache_clear()
    native = find(settings())
    assert native is not None
    assert "--kv-unified" in NativeLlama(1, 1, native).unusable("", ())


@pytest.mark.parametrize("says", ["usage: something else", ""])
def test_what_is_named_and_is_no_llama_server_is_an_error(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNUGLY_LLAMA_SERVER", str(server(tmp_path, says)))
    settings.cache_clear()
    with pytest.raises(EngineError, match="is no llama-server"):
        find(settings())


def test_a_server_is_asked_once_until_its_file_changes(elsewhere: Path) -> None:
    server(elsewhere, NEW, "5")
    for _ in range(3):
        native = find(settings())
        assert native is not None
        assert native.version == "5"
    asked = (elsewhere / "asked").read_text().count("asked")
    assert asked == 2  # its help and its version
    server(elsewhere, NEW + " --more", "66")
    native = find(settings())
    assert native is not None
    assert native.version == "66"


def test_a_damaged_memory_of_answers_is_no_harm(elsewhere: Path) -> None:
    server(elsewhere, NEW)
    kept = native_found.built_folder(settings().cache) / "probes.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{")
    assert find(settings()) is not None


def test_current_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    server(tmp_path / "evil/bin", NEW)
    folder = native_found.built_folder(settings().cache)
    folder.mkdir(parents=True)
    (folder / "current").write_text(os.path.relpath(tmp_path / "evil", folder))
    assert native_found.current(settings().cache) is None


def test_compiled_for_another_processor_it_is_not_started() -> None:
    native = Native("/x", "built", "1", frozenset(native_found._NEEDED), True, "", 1,
                    frozenset(("avx2", "avx512f")))  # fmt: skip
    engine = NativeLlama(1, 1, native)
    assert "avx512f" in engine.unusable("x86_64", ("avx2", "fma"))
    assert engine.unusable("x86_64", ("avx2", "avx512f", "fma")) == ""


def test_the_command_line_keeps_to_the_plan() -> None:
    words = arguments(
        plan("/m.gguf", setup=Setup(4096, 2, "Q8_0", None, 1024, 256, False, False)), SOCKET
    )
    told = dict(zip(words, [*words[1:], ""], strict=True))
    assert told["--model"] == "/m.gguf"
    assert (told["--ctx-size"], told["--parallel"]) == ("4096", "2")
    assert (told["--cache-type-k"], told["--cache-type-v"]) == ("q8_0", "q8_0")
    assert (told["--batch-size"], told["--ubatch-size"]) == ("1024", "256")
    assert told["--flash-attn"] == "off"
    assert told["--host"] == "/run/e.sock"
    assert told["--cache-ram"] == "0"
    assert "--no-repack" in words
    assert "--api-key" not in words


def test_layers_go_where_the_plan_has_them() -> None:
    placed = plan(placement=Placement((20, 12), 5, False), gpu_layers=32, experts_until=5)
    words = arguments(placed, SOCKET)
    told = dict(zip(words, [*words[1:], ""], strict=True))
    assert (told["--n-gpu-layers"], told["--tensor-split"]) == ("32", "20,12")
    assert told["--n-cpu-moe"] == "5"
    assert "--no-kv-offload" in words


def test_options_that_a_server_does_not_have_are_left_out() -> None:
    words = arguments(plan(), SOCKET, options=frozenset({"--model", "--host", "--no-warmup"}))
    assert words == ["--model", "/m.gguf", "--no-warmup", "--host", "/run/e.sock"]


def test_the_key_of_a_port_is_no_argument() -> None:
    words = arguments(plan(), Address("", 4711, "secret"))
    assert "secret" not in " ".join(words)
    assert words[words.index("--port") + 1] == "4711"


@pytest.mark.parametrize(
    ("architecture", "instructions", "types"),
    [
        ("x86_64", ("avx2", "fma"), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
        ("x86_64", ("avx2", "avx512f"), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}),
        ("x86_64", (), set()),
        ("arm64", ("neon",), set()),
        ("arm64", ("neon", "dotprod"),
         {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0"}),
    ],
)  # fmt: skip
def test_what_is_laid_out_anew_follows_from_the_processor(
    architecture: str, instructions: tuple[str, ...], types: set[str]
) -> None:
    assert repacks(architecture, instructions) == types


def test_the_planner_knows_what_it_computes_on() -> None:
    gpu = Native("/x", "PATH", "1", frozenset(), True, "cuda", 1)
    assert facts(machine(), gpu).offloads_to == "cuda"
    assert facts(machine(), None).offloads_to == ""
    assert backend_of("Available devices:\n  CUDA0: NVIDIA RTX (24 GiB)") == "cuda"
    assert backend_of("Available devices:\n  Vulkan0: AMD") == "vulkan"
    assert backend_of("Available devices:\n") == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'engine = "native"\n'),
        ("# mine\nserve_port = 1\n", 'engine = "native"\n# mine\nserve_port = 1\n'),
        ('engine = "auto" # x\nserve_port = 1\n', 'engine = "native"\nserve_port = 1\n'),
        ('# engine = "auto"\n', 'engine = "native"\n# engine = "auto"\n'),
        ('[table]\nengine = "auto"\n', 'engine = "native"\n[table]\nengine = "auto"\n'),
    ],
)
def test_a_choice_changes_one_line_of_the_settings(before: str, after: str) -> None:
    assert with_value(before, "engine", "native") == after


def test_a_choice_leaves_a_settings_file_the_link_and_the_secret_that_it_is(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "dotfiles.toml"
    shared.write_text("# mine\n")
    shared.chmod(0o600)
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().unlink(missing_ok=True)
    config_file().symlink_to(shared)
    choose("native", tmp_path)
    assert config_file().is_symlink()
    assert shared.read_text() == 'engine = "native"\n# mine\n'
    assert stat.S_IMODE(shared.stat().st_mode) == 0o600


def test_a_path_is_chosen_with_its_engine(tmp_path: Path) -> None:
    path = server(tmp_path / 'odd "name"', NEW)
    config_file().write_text("serve_port = 99\n")
    choose(str(path), settings().cache)
    settings.cache_clear()
    now = settings()
    assert (now.engine, now.llama_server, now.serve_port) == ("native", path, 99)


def test_what_is_neither_engine_nor_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no engine called 'ollama'"):
        choose("ollama", settings().cache)
    with pytest.raises(EngineError):
        choose(str(server(tmp_path, "hello")), settings().cache)
