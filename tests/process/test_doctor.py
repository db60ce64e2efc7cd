"""The doctor's checks, each by really causing what it looks for."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.making import LLAMA_PAIRS, gguf_bytes, machine
from tests.server.making import TOKEN, served
from tests.unit.machine.trees import fake_host

from snugly.doctor import examine as examining
from snugly.doctor import read_box, read_models, read_place, read_serving
from snugly.doctor.box import GpuFacts, MemoryFacts, judge_cores, judge_gpus, judge_memory
from snugly.doctor.models import EngineFacts, judge_engine
from snugly.doctor.place import judge_disk
from snugly.doctor.serving import judge_port, judge_proxy
from snugly.doctor.types import Finding, Patient, Verdict
from snugly.history import conversations
from snugly.history.opening import opened
from snugly.machine.detect import detect
from snugly.machine.host import Host
from snugly.model import sidecar
from snugly.model.hashing import sha256_of
from snugly.model.types import Provenance
from snugly.server.tokens import own_token, token_path
from snugly.settings import settings

BAD, WARN, OK = Verdict.BAD, Verdict.WARN, Verdict.OK
ROOT = os.name == "posix" and os.getuid() == 0


def patient(deep: bool = False, **changes: Any) -> Patient:
    config = replace(settings(), **changes)
    return Patient(config, machine(), deep=deep)


def found(name: str, who: Patient | None = None) -> Finding:
    """The one finding of a check that is not well, or its first."""
    findings = examining.guarded(name, examining.CHECKS[name], who or patient())
    return max(findings, key=lambda finding: list(Verdict).index(finding.verdict))


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs Linux and root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    assert process.stdout is not None
    try:
        process.stdout.readline()  # it has begun
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


BEGUN = "print('begun', flush=True)"


# ---- settings


def test_all_is_well_on_a_fresh_machine() -> None:
    for name in ("store", "history", "private files", "models", "clock", "port"):
        assert found(name, patient(serve_port=free_port())).verdict is OK, name


def test_a_slip_in_the_settings_names_the_line_and_hides_nothing_else(own_folders: Path) -> None:
    (own_folders / "config.toml").write_text('stor = "/x"\n')
    config, facts = read_models.read_settings()
    assert facts.fault is not None
    assert "Did you mean store?" in facts.fault[1]
    assert config.store == own_folders / "store"  # the variables still hold
    names = {finding.name for finding in examining.examine(host=Host(system="linux"))}
    assert names >= {"settings", *examining.CHECKS}


# ---- places


def test_a_store_that_cannot_be_written() -> None:
    finding = found("store", patient(store=Path("/proc/nothing")))
    assert finding.verdict is BAD
    assert "SNUGLY_STORE" in finding.remedy


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=200k") as disk:
        finding = found("disk", patient(store=disk / "models"))
        assert finding.verdict is BAD
        assert "is full" in finding.what
        assert "models" in finding.what


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1g") as disk:
        assert found("disk", patient(store=disk)).verdict is WARN
        # For the history alone it is room enough.
        config = patient(history=disk / "history.db").config
        facts = [f for f in read_place.read_disks(config) if f.path == str(disk)]
        assert judge_disk(facts[0]).verdict is OK


def test_a_read_only_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        assert "read-only" in found("disk", patient(store=disk)).what
        assert found("store", patient(store=disk)).verdict is BAD


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1g,nr_inodes=1") as disk:
        assert "no more files" in found("disk", patient(store=disk)).what


def stored_history() -> Path:
    with opened() as db:
        conversations.start(db, model="tiny", system="", question="hello")
    return settings().history


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"not a database" * 100), "not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:8192]), "malformed"),
        (lambda path: _alien(path), "another program"),
        (lambda path: _execute(path, "PRAGMA user_version = 99"), "schema 99"),
    ],
)
def test_a_damaged_history(damage: Callable[[Path], None], word: str) -> None:
    path = stored_history()
    assert found("history").verdict is OK
    damage(path)
    finding = found("history")
    assert finding.verdict is BAD
    assert word in finding.why
    assert finding.remedy


def _execute(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


def _alien(path: Path) -> None:
    path.unlink()
    _execute(path, "CREATE TABLE x (y)")


def test_looking_makes_no_history() -> None:
    assert found("history").verdict is OK
    assert not settings().history.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_token_that_others_can_read() -> None:
    path = token_path(settings().history)
    own_token(path)
    assert found("private files").verdict is OK
    path.chmod(0o644)
    finding = found("private files")
    assert finding.verdict is BAD
    assert finding.remedy == f"`chmod 600 {path}`"


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_a_token_of_another_user() -> None:
    path = token_path(settings().history)
    own_token(path)
    os.chown(path, 65534, 65534)
    assert "another user" in found("private files").what


def test_a_clock_that_is_behind() -> None:
    path = stored_history()
    assert found("clock").verdict is OK
    _execute(path, "UPDATE conversation SET updated_at = '2999-01-01T00:00:00.000+00:00'")
    finding = found("clock")
    assert finding.verdict is BAD
    assert "last conversation" in finding.why


# ---- models and engine


def put(body: bytes, name: str = "tiny.gguf", sha256: str | None = None) -> Path:
    path = settings().store / "test" / "tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    digest = sha256_of(path) if sha256 is None else sha256
    known = Provenance("hub", "test/tiny", "c" * 40, digest, len(body), "mit")
    sidecar.write(sidecar.beside(path), sidecar.Sidecar(known))
    return path


def test_models_cut_changed_or_unreadable() -> None:
    whole = gguf_bytes(LLAMA_PAIRS)
    path = put(whole)
    assert found("models").verdict is OK
    path.write_bytes(whole[:-100])
    finding = found("models")
    assert finding.verdict is BAD
    assert "bytes, not" in finding.why
    path.write_bytes(b"GGML" + whole[4:])
    finding = found("models")
    assert finding.verdict is BAD
    assert "snugly pull" in finding.remedy


def test_a_changed_byte_is_found_by_reading_all_of_them() -> None:
    path = put(gguf_bytes(LLAMA_PAIRS))
    body = bytearray(path.read_bytes())
    body[-7] ^= 1
    path.write_bytes(body)
    assert found("models").verdict is OK
    finding = found("models", patient(deep=True))
    assert finding.verdict is BAD
    assert "SHA-256" in finding.why


def test_a_download_that_is_not_finished() -> None:
    path = put(gguf_bytes(LLAMA_PAIRS))
    path.with_name(".more.gguf.part").write_bytes(b"GGUF")
    finding = found("models")
    assert finding.verdict is WARN
    assert "resumes" in finding.remedy


def test_a_processor_without_the_instructions() -> None:

    from snugly.machine.types import probed

    box = machine()
    box = replace(box, cpu=replace(box.cpu, instructions=probed((), "test")))
    who = Patient(replace(settings(), engine="xllamacpp"), box)
    finding = found("engine", who)
    assert finding.verdict is BAD
    assert "avx2" in finding.why


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "libgomp"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "instruction"),
    ],
)
def test_an_engine_whose_library_is_broken(
    body: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = found("engine", patient(engine="xllamacpp"))
    assert finding.verdict is BAD
    assert word in finding.why


def test_an_engine_that_is_older_than_this_snugly_needs() -> None:
    needed = read_models._needed("xllamacpp", "2020.1.2")
    assert needed
    finding = judge_engine(EngineFacts("xllamacpp", True, "2020.1.2", needed=needed))
    assert finding.verdict is BAD
    assert f">={needed}" in finding.remedy
    assert read_models._needed("xllamacpp", "9999.1.2") == ""


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_llama_server_that_is_none_and_one_that_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = program(tmp_path / "none", "echo hello")
    finding = found("engine", patient(engine="native", llama_server=none))
    assert finding.verdict is BAD
    assert "no llama-server" in finding.why
    program(tmp_path / "llama-server", "echo --ctx-size --parallel --jinja")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    finding = found("engine", patient(engine="auto"))
    assert finding.verdict is WARN  # it is passed over, and the wheel runs models
    assert "too old" in finding.why


def test_an_engine_command_that_is_not_there() -> None:
    finding = found("engine", patient(engine_command=("/no/such/program",)))
    assert finding.verdict is BAD
    assert "engine_command" in finding.remedy


# ---- the box


def card(root: Path, vendor: str, driver: str, more: dict[str, str] | None = None) -> Host:
    """A machine with one GPU on the bus, and a driver bound to it."""
    place = "/sys/bus/pci/devices/0000:01:00.0"
    files = {f"{place}/class": "0x030000\n", f"{place}/vendor": f"{vendor}\n"}
    host = fake_host(root, files | (more or {}))
    if driver:
        bound = root / "sys/bus/pci/drivers" / driver
        bound.mkdir(parents=True)
        (root / place[1:] / "driver").symlink_to(bound)
    return host


def judged(host: Host) -> Finding:
    who = Patient(settings(), detect(Path("/m"), host), host)
    return judge_gpus(read_box.read_gpus(who, ""))[0]


@pytest.mark.parametrize(
    ("vendor", "driver", "more", "word"),
    [
        ("0x10de", "", {"/dev/nothing": ""}, "No driver runs"),
        ("0x10de", "nouveau", {}, "wrong driver"),
        ("0x10de", "nvidia", {"/dev/nvidia0": ""}, "does not answer"),
        ("0x10de", "nvidia", {"/.dockerenv": ""}, "was not given"),
        ("0x10de", "vfio-pci", {}, "virtual machines"),
        ("0x1002", "radeon", {}, "wrong driver"),
        ("0x1002", "", {}, "No driver runs"),
        ("0x8086", "", {}, "No driver runs"),
    ],
)
def test_gpus_that_are_there_and_cannot_compute(
    vendor: str, driver: str, more: dict[str, str], word: str, tmp_path: Path
) -> None:
    finding = judged(card(tmp_path, vendor, driver, more))
    assert finding.verdict is (WARN if driver == "vfio-pci" else BAD)
    assert word in finding.what
    assert finding.remedy


def test_no_gpu_and_the_picture_chip_of_a_server_are_well(tmp_path: Path) -> None:
    assert judged(fake_host(tmp_path / "a", {})).verdict is OK
    assert judged(card(tmp_path / "b", "0x1a03", "ast")).verdict is OK  # ASPEED: no compute


def test_a_driver_that_was_updated_while_it_ran(tmp_path: Path) -> None:

    host = card(tmp_path, "0x10de", "nvidia", {"/dev/nvidia0": ""})
    said = "Failed to initialize NVML: Driver/library version mismatch\n"
    host = replace(host, run=lambda tool, *_: said if tool == "nvidia-smi" else no(tool))
    finding = judged(host)
    assert "start the machine again" in finding.remedy


def no(tool: str) -> str:
    from snugly.machine.host import NoAnswer

    raise NoAnswer(f"{tool} is not installed")


@pytest.mark.skipif(not ROOT, reason="needs root, to become somebody else")
def test_device_files_of_a_group_that_we_are_not_in(tmp_path: Path) -> None:
    host = card(tmp_path, "0x1002", "amdgpu", {"/dev/kfd": "", "/dev/dri/renderD128": ""})
    for path in ("dev/kfd", "dev/dri/renderD128"):
        (tmp_path / path).chmod(0o660)
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith(str(Path(tmp_path.anchor) / "tmp") + "/"):
            folder.chmod(0o755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os.write(write, " ".join(read_box._closed(host, read_box.read_cards(host))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 1000).decode() == "/dev/kfd /dev/dri/renderD128"
    os.close(read)
    facts = GpuFacts(read_box.read_cards(host), {"amd": 1}, (), ("/dev/kfd",))
    assert "usermod" in judge_gpus(facts)[0].remedy


def test_busy_cores_and_who_keeps_them_so() -> None:
    spin = f"{BEGUN}\nwhile True: pass"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    commands = [(sys.executable, "-c", spin)] * cores
    with ExitStack() as stack:
        pids = {stack.enter_context(running(*command)).pid for command in commands}
        facts = read_box.read_cores(Patient(settings(), detect(Path("/m"))))
        # Others may be busier on the machine of this test: all are asked for, and more than once.
        deadline = time.monotonic() + 20
        named: set[int] = set()
        while not pids & named and time.monotonic() < deadline:
            named = {pid for _, pid, _ in read_box.busy_programs(count=1000)}
    assert judge_cores(facts).verdict is WARN
    assert str(facts.programs[0][1]) in judge_cores(facts).why
    assert pids & named


def test_a_limit_of_address_space() -> None:
    resource = pytest.importorskip("resource")
    code = "from snugly.doctor.read_box import address_limit; print(address_limit())"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    told = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True)
    assert int(told.stdout) == 8 << 30
    finding = judge_memory(MemoryFacts(9 << 30, 16 << 30, 16 << 30, None, 8 << 30))[0]
    assert finding.verdict is WARN
    assert "ulimit" in finding.remedy


def test_a_control_group_that_leaves_little(tmp_path: Path) -> None:
    host = fake_host(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/box\n",
            "/proc/self/mountinfo": "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/box/memory.max": f"{600 << 20}\n",
            "/sys/fs/cgroup/box/memory.current": f"{400 << 20}\n",
        },
    )
    who = Patient(settings(), detect(Path("/m"), host), host)
    findings = judge_memory(read_box.read_memory(who, 300 << 20))
    assert [f.verdict for f in findings] == [BAD, WARN]
    assert "Not even the smallest" in findings[0].what  # 200 MiB are left
    assert "control group" in findings[1].what


def test_programs_that_wait_for_memory(tmp_path: Path) -> None:
    text = "some avg10=35.02 avg60=12.00 avg300=3.10 total=1\nfull avg10=1.00 avg60=0 total=1\n"
    host = fake_host(tmp_path, {"/proc/pressure/memory": text})
    who = Patient(settings(), detect(Path("/m"), host), host)
    finding = judge_memory(read_box.read_memory(who, None))[-1]
    assert finding.verdict is WARN
    assert "35%" in finding.what


# ---- serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_another_program_holds() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        finding = found("port", patient(serve_port=held.getsockname()[1]))
    assert finding.verdict is BAD
    assert f"process {os.getpid()}" in finding.what


def test_an_address_that_this_machine_does_not_have() -> None:
    finding = found("port", patient(serve_host="192.0.2.7"))
    assert finding.verdict is BAD
    assert "cannot be listened on" in finding.what


async def test_our_own_server_on_the_port_is_well() -> None:
    import asyncio

    token_path(settings().history).parent.mkdir(parents=True, exist_ok=True)
    token_path(settings().history).write_text(TOKEN)
    async with served() as it:
        who = patient(serve_port=it.port)
        facts = await asyncio.to_thread(read_serving.read_port, who.config)
    assert judge_port(facts).verdict is OK
    assert "serves on" in judge_port(facts).what


def test_a_server_of_ours_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_serving, "_ANSWER_SECONDS", 0.2)
    port = free_port()
    code = f"""
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", {port})); s.listen()
{BEGUN}
time.sleep(60)
"""
    with running(sys.executable, "-c", code, "snugly", "serve") as process:
        finding = found("port", patient(serve_port=port))
    assert "does not answer" in finding.what
    assert f"kill {process.pid}" in finding.remedy


def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@pytest.mark.parametrize(
    "words", [("snugly.engine.worker", "{}"), ("--host", "/tmp/snugly-engine-{}-1-ab12/e.sock")]
)
def test_an_engine_that_was_left_behind(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_serving, "_GRACE_SECONDS", 0.1)
    sleeps = f"{BEGUN}\nimport time; time.sleep(60)"
    command = [sys.executable, "-c", sleeps, *(word.format(gone()) for word in words)]
    with running(*command) as process:
        finding = found("leftovers")
        assert finding.verdict is BAD
        assert str(process.pid) in finding.remedy
    mine = [sys.executable, "-c", sleeps, *(word.format(os.getpid()) for word in words)]
    with running(*mine) as process:
        assert str(process.pid) not in found("leftovers").remedy


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_a_service_whose_python_is_gone_or_that_systemd_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snugly.server.units import Launch, systemd_unit

    python = program(tmp_path / 'a "b" %h\\', "exit 0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "No service" in found("service").what
    unit = tmp_path / "systemd/user/snugly.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(systemd_unit(Launch((str(python), "-P"), {}, "/", "/x")))
    assert found("service").verdict is OK
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin/systemctl", "echo failed; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert "has failed" in found("service").what
    python.unlink()
    finding = found("service")
    assert "is gone" in finding.what
    assert str(python) in finding.why


def test_a_proxy_that_swallows_what_is_meant_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The verdict is what a client with these variables really does."""
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert judge_proxy(os.environ, "127.0.0.1").verdict is OK
    with _answering(b"proxy") as proxy, _answering(b"server") as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        url = f"http://127.0.0.1:{server}/"
        finding = judge_proxy(os.environ, "127.0.0.1")
        assert finding.verdict is WARN
        assert "HTTP_PROXY" in finding.why
        assert httpx2.get(url).content == b"proxy"
        monkeypatch.setenv("NO_PROXY", "intern.example,127.0.0.1,localhost")
        assert judge_proxy(os.environ, "127.0.0.1").verdict is OK
        assert httpx2.get(url).content == b"server"
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert httpx2.get(url).content == b"server"
        finding = judge_proxy(os.environ, "127.0.0.1")
        assert finding.what == "Clients would ask the proxy for localhost."


@contextmanager
def _answering(body: bytes) -> Iterator[int]:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


# ---- the whole


def test_a_check_that_breaks_or_hangs_hides_no_other() -> None:
    def breaks(_: Patient) -> list[Finding]:
        raise RuntimeError("odd")

    def hangs(_: Patient) -> list[Finding]:
        time.sleep(5)
        return []

    (finding,) = examining.guarded("x", breaks, patient())
    assert finding.verdict is WARN
    assert "odd" in finding.why
    (finding,) = examining.guarded("x", hangs, patient(), seconds=0.1)
    assert finding.verdict is WARN
    assert "did not answer" in finding.what


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_the_command_tells_all_and_ends_with_2() -> None:
    path = token_path(settings().history)
    own_token(path)
    path.chmod(0o644)
    command = [sys.executable, "-m", "snugly", "doctor"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert told["bad"] >= 1
    assert {"name", "verdict", "what", "why", "remedy"} == set(told["findings"][0])
    assert "private files" in done.stderr


def test_findings_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    from snugly.cli.doctor import _show
    from snugly.cli.render import console

    console.cache_clear()
    _show(Finding("port", BAD, "It is taken.", "By python.", "End it."))
    _show(Finding("clock", OK, "It is noon.", "Because."))
    console.cache_clear()
    assert capsys.readouterr().out.splitlines() == [
        "bad  port: It is taken.", "     By python.", "     End it.", "ok   clock: It is noon.",
    ]  # fmt: skip
