"""Rows about files on their way and on the disk: downloads, damage, full disks, names."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from snugly.errors import DownloadError, SnuglyError
from snugly.history import requests
from snugly.model.pull import pull
from snugly.model.store import Store
from snugly.settings import settings
from tests.faults.figure import Figure, at_once
from tests.process.hub_server import Hub, running
from tests.process.test_pull import BODY, FILE, QUICK, REPOSITORY, Filling
from tests.server.making import TOKEN, fake, served, stock


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub with one small model, and nothing else to be reached."""
    with running() as made, patch("snugly.model.sources.hub._ASK_WAITS_S", (0.01, 0.01)):
        made.repositories[REPOSITORY] = {"README.md": b"hello", FILE: BODY}
        yield made
    from huggingface_hub import close_session

    close_session()


def fetch(made: Hub, store: Store) -> Path:
    """Pull the model. Raises: DownloadError."""
    return Path(
        pull(REPOSITORY, store, replace(settings(), hf_endpoint=made.endpoint), patience=QUICK).path
    )


async def downloads(soak: bool) -> Figure:
    """Row 25: cuts, refusals, Range ignored or answered wrongly, wrong bytes and sizes."""
    count = 500 if soak else 30
    return await asyncio.to_thread(_downloads, count)


def _downloads(count: int) -> Figure:
    dice, whole, refused, bad = random.Random(25), 0, 0, 0
    with TemporaryDirectory() as name, hub() as made:
        store = Store(Path(name))
        for _ in range(count):
            made.cut_after = [dice.randrange(len(BODY)) for _ in range(dice.randrange(8))]
            made.fail_once = [503] * dice.randrange(3)
            made.ignore_range, made.wrong_range = dice.random() < 0.3, dice.random() < 0.2
            wrong = dice.random() < 0.3
            made.served = {FILE: bytes(len(BODY) - dice.randrange(2))} if wrong else {}
            try:
                path = fetch(made, store)
            except DownloadError:
                refused += 1
                bad += bool(store.installed())
                continue
            whole += 1
            bad += path.read_bytes() != BODY
            store.remove(store.installed()[0])
    return Figure(
        25, "download cut, Range ignored, wrong size or hash",
        "resumed or deleted, never visible as whole",
        f"{count} pulls with faults, {whole} whole in the end, {refused} refused, {bad} bad"
        " promotions", not bad and whole > 0 and refused > 0,
    )  # fmt: skip


async def corrupted(soak: bool) -> Figure:
    """Row 26: one byte of a stored model, anywhere."""
    return await asyncio.to_thread(_corrupted, 100 if soak else 5)


def _corrupted(count: int) -> Figure:
    dice, found, mended = random.Random(26), 0, 0
    with TemporaryDirectory() as name, hub() as made:
        store = Store(Path(name))
        path = fetch(made, store)
        for _ in range(count):
            data = bytearray(BODY)
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
            found += bool(store.verify(store.installed()[0]).problem)
            mended += fetch(made, store).read_bytes() == BODY
    return Figure(
        26, "stored model corrupted by one bit", "found, and fetched again by `pull`",
        f"{found} of {count} found, {mended} of {count} fetched again",
        found == mended == count,
    )  # fmt: skip


async def model_disk_full(soak: bool) -> Figure:
    """Row 27, the store: the disk fills after so many bytes, then has room."""
    return await asyncio.to_thread(_model_disk_full, 50 if soak else 3)


def _model_disk_full(count: int) -> Figure:
    dice, told, kept, bad = random.Random(27), 0, 0, 0
    real = os.fdopen

    def fdopen(handle: int, mode: str = "r", **more: object) -> object:
        file = real(handle, mode, **more)  # type: ignore[call-overload]
        return Filling(file) if "+" in mode else file

    for _ in range(count):
        with TemporaryDirectory() as name, hub() as made:
            store = Store(Path(name))
            Filling.room = dice.randrange(len(BODY))
            with patch("os.fdopen", fdopen):
                try:
                    fetch(made, store)
                except DownloadError as error:
                    told += "disk is full" in error.problem + error.because
                bad += bool(store.installed())
                Filling.room = 10**9
                made.body_bytes = 0
                bad += fetch(made, store).read_bytes() != BODY
                kept += made.body_bytes < len(BODY)
    return Figure(
        27, "disk full while a model is fetched", "said; goes on from there once there is room",
        f"{count} times, {told} said so, {kept} fetched only the rest, {bad} bad files",
        told == count and not bad,
    )  # fmt: skip


async def history_disk_full(soak: bool) -> Figure:
    """Row 27, the history of a running server: SQLite's page limit answers as a full disk does."""
    rounds, answered, kept, flagged = 20 if soak else 2, 0, 0, 0
    async with served("--pieces", "2") as it:
        db = it.service.ledger._db
        for _ in range(rounds):
            pages = db.rows("PRAGMA page_count")[0][0]
            db.rows(f"PRAGMA max_page_count = {pages}")
            full = 0
            while not it.service.ledger.failing and full < 400:
                answered += (await it.chat()).status_code == 200
                full += 1
            flagged += (await it.client.get("/ready")).json()["history"] == "failing"
            stored = await it.client.post("/v1/responses", json={"model": "tiny", "input": "hi"})
            answered += stored.status_code in (200, 507)
            db.rows("PRAGMA max_page_count = 1000000")
            before = len(requests.recent(db, 10**6))
            answered += (await it.chat()).status_code == 200
            kept += len(requests.recent(db, 10**6)) > before and not it.service.ledger.failing
        sound = db.rows("PRAGMA integrity_check")[0][0] == "ok"
    return Figure(
        27, "disk full under the history of a running server",
        "answers go on; rows are written again without a restart",
        f"{rounds} times, {flagged} said by /ready, {kept} recovered,"
        f" integrity {'ok' if sound else 'LOST'}",
        flagged == kept == rounds and sound,
    )  # fmt: skip


async def log_disk_full(soak: bool) -> Figure:
    """Row 27, the log: its file is /dev/full."""
    from tests.faults.whole import _ready, _serve, free_port

    if not Path("/dev/full").exists():
        return Figure(
            27, "disk full under the log", "answers go on", "not tried: no /dev/full", True
        )
    import httpx2

    rounds, good, port = 20 if soak else 3, 0, free_port()
    with TemporaryDirectory() as name:
        folder = Path(name)
        stock(folder / "store")
        (folder / "server.log").symlink_to("/dev/full")
        process = await _serve(folder, port)
        try:
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60
            ) as client:
                await _ready(client)
                body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
                for _ in range(rounds):
                    answer = await client.post("/v1/chat/completions", json=body)
                    good += answer.status_code == 200
        finally:
            process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 30)
    once = said.decode().count("cannot be written")
    return Figure(
        27, "disk full under the log", "answers go on; said once",
        f"{good} of {rounds} answered, said {once} time", good == rounds and once == 1,
    )  # fmt: skip


_PIECES = ("..", "../..", "/", "//", "\\", "~", "%2e%2e", "%2f", "\0", "\n", "a", "tiny", "secret",
           "secret.gguf", ".", "C:", "etc", "passwd", "sha256:", "sha256-", ":", "@", "-", "*", " ",
           "\u202e", "\ud800", "x" * 300, "file:", "https:", "link", "CON", "NUL")  # fmt: skip


async def hostile_names(soak: bool) -> Figure:
    """Row 28: names of all kinds, through the routes that take one and through the store."""
    count, inside, outside = 10_000 if soak else 300, 0, 0
    dice = random.Random(28)
    key = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    with TemporaryDirectory() as name:
        root = Path(name) / "store"
        stock(root)
        outer = Path(name) / "outer"
        stock(outer, "secret")
        secret = outer / "test" / "secret" / "secret.gguf"
        async with served(store=root) as it:

            async def one(number: int) -> None:
                nonlocal inside, outside
                pieces = [dice.choice(_PIECES) for _ in range(dice.randint(1, 6))]
                if number % 10 == 0:
                    pieces = ["../" * dice.randint(0, 6), str(secret)[dice.randint(0, 1) :]]
                text = dice.choice(("", "/")).join(pieces)
                outside += _leaves(Store(root), text)
                path, body = dice.choice((
                    ("/api/show", {"model": text}), ("/snugly/load", {"model": text}),
                    ("/v1/chat/completions", {"model": text, "messages": []}),
                    ("/api/delete", {"model": text}), ("/api/copy", {"source": text,
                    "destination": text}),
                ))  # fmt: skip
                method = "DELETE" if path == "/api/delete" else "POST"
                data = json.dumps(body)  # a lone surrogate goes as an escape
                answer = await it.client.request(
                    method, path, content=data, headers=key, timeout=60
                )
                inside += answer.status_code >= 500
                outside += "secret" in answer.text and answer.status_code == 200

            await at_once(16, (one(number) for number in range(count)))
            # "tiny" itself may be deleted: that is its name.
            files = [p for p in Path(name).rglob("*") if p.is_file() and root not in p.parents]
    outside += files != [secret]
    return Figure(
        28, "path traversal, links, odd digests as model names", "4xx",
        f"{count:,} names, {inside} answered 5xx, {outside} outside the store",
        not inside and not outside,
    )  # fmt: skip


def _leaves(store: Store, text: str) -> bool:
    """Whether the store would put files of that name anywhere but below its root."""
    publisher, _, model = text.partition("/")
    with contextlib.suppress(SnuglyError):
        folder = store.folder(publisher, model)
        return not folder.resolve().is_relative_to(store.root.resolve())
    return False


async def parent_killed(soak: bool) -> Figure:
    """Row 3: an engine that ignores SIGTERM; its parent ends by KILL or TERM."""
    return await asyncio.to_thread(_parent_killed, 100 if soak else 4)


def _parent_killed(count: int) -> Figure:
    import signal
    import time

    from tests.process.test_engine_process import PARENT

    waited = []
    for number in range(count):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *fake("--ignore-term")],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        parent.send_signal((signal.SIGKILL, signal.SIGTERM)[number % 2])
        parent.wait()
        parent.stdout.close()
        began = time.monotonic()
        while _there(pid) and time.monotonic() < began + 10:
            time.sleep(0.005)
        waited.append(time.monotonic() - began)
    orphans = sum(seconds > 2.0 for seconds in waited)
    return Figure(
        3, "parent killed", "engines die within 2 s",
        f"{count} runs, {orphans} orphans, slowest {max(waited):.2f} s", not orphans,
    )  # fmt: skip


def _there(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


ROWS = (
    parent_killed, downloads, corrupted, model_disk_full, history_disk_full, log_disk_full,
    hostile_names,
)  # fmt: skip
