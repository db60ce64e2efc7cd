"""The server, put together and run until it is told to stop."""

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from snugly.engine.calibrate_quietly import Quietly
from snugly.engine.calibrated import calibrated
from snugly.engine.launch import engine_facts, measured_machine
from snugly.engine.pool import Pool
from snugly.engine.prompt_logprobs import with_scores
from snugly.engine.registry import DEFAULT, ENGINES
from snugly.engine.seat import NotNow
from snugly.engine.space import Limits
from snugly.engine.steering import Load, Steering, work
from snugly.errors import SnuglyError, UserError
from snugly.machine.types import Machine
from snugly.model.lookup import find
from snugly.model.store import Store
from snugly.model.types import ModelSpec
from snugly.plan.choose import choose
from snugly.plan.types import Need, Plan, Rejected
from snugly.server.allocator import give_back
from snugly.server.app import make_app
from snugly.server.ledger import open_ledger
from snugly.server.life import Life, Swapped, on_terminal
from snugly.server.pictures import with_sight
from snugly.server.protocol import GuardedProtocol
from snugly.server.security import Policy, check_bind
from snugly.server.service import Service
from snugly.server.shelf import Shelf, Volume
from snugly.settings import Settings

# Longer than any client keeps an idle connection (httpx 5 s, Go 90 s behind proxies, Node 5 s):
# whoever closes first while the other is just sending makes a failed request.
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 5
_ATTEMPTS = 3  # at loading what is to stay, while clients use the memory
# llama-server looks once a second whether a client is there (HTTP_POLLING_SECONDS in
# tools/server/server-context.cpp) and hears of it between two batches: 1.5 s at worst.
_BATCH_SECONDS = 0.5
_LEAST_BATCH = 128
# After so many new objects Python looks for cycles among them, in 0.2 ms (a refusal leaves some 80,
# an answer 20). The command line's 200,000 would keep the garbage of thousands of requests.
_NEW_OBJECTS = 5_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What `snugly serve` was asked for. `models` are loaded at once and stay."""

    models: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


def policy_of(config: Settings, token: str, secure: bool) -> Policy:
    """How this server is reached. Raises: UserError for an open server without a token."""
    policy = Policy(
        config.serve_host, config.serve_port, token, config.serve_hosts, config.serve_origins,
        config.serve_keyless, secure,
    )  # fmt: skip
    check_bind(policy)
    return policy


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address, so that a taken port is known before anything is loaded.

    Raises: UserError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: asyncio turns off Nagle's algorithm only for sockets that say so, and with
    # it every answer of two pieces would wait 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows this would allow to share a port in use
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} on {host} is taken.",
                "Another program listens there, perhaps another `snugly serve`.",
                "Stop it, or choose another with --port.",
            ) from None
        raise UserError(
            f"{host}:{port} cannot be listened on.", f"{error.strerror or error}."
        ) from error
    return bound


def prompt(plan: Plan) -> Plan:
    """The plan with batches that are read in half a second at worst, 128 tokens at least.

    Between two batches an engine hears that a client has left, and others get their next
    token. What is computed at once is a micro-batch, so longer batches gain nothing.
    """
    batch = plan.setup.ubatch
    if plan.speed is not None:
        most = int(plan.speed.prefill_tps.low * _BATCH_SECONDS) // 32 * 32
        batch = max(_LEAST_BATCH, min(batch, most))
    return replace(plan, setup=replace(plan.setup, batch=min(plan.setup.batch, batch)))


def pool_of(config: Settings, look: Callable[[], Machine] | None = None) -> Pool:
    """The pool of this machine, or of the one that `look` sees."""
    steering = Steering(Load(work)) if config.follow_load else None

    def planner(machine: Machine, spec: ModelSpec, need: Need) -> Plan | Rejected:
        if steering is not None:
            steering.machine = machine
        facts = engine_facts(machine)
        choice = choose(machine, spec, need, facts)
        if not isinstance(choice, Plan):
            return choice
        seen = with_sight(choice, spec.embedding_length)
        return prompt(calibrated(seen, spec, machine, config, need.task, facts.name))

    return Pool(
        with_scores(ENGINES[DEFAULT][1](config)),
        look or (lambda: measured_machine(config)),
        planner,
        limits_of(config),
        steering=steering,
    )


def limits_of(config: Settings) -> Limits:
    """How the pool is to behave."""
    return Limits(
        config.keep_alive_seconds, config.load_wait_seconds, config.serve_slots,
        config.memory_limit_bytes,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """uvicorn's server that returns when it was told to stop, so that models are stopped too.

    The original sends itself the signal again, which ends the process in the middle of that.
    """

    def __init__(self, config: uvicorn.Config, life: Life) -> None:
        super().__init__(config)
        self._life = life

    async def main_loop(self) -> None:
        """Take requests, and let the supervisor know."""
        # What is loaded by now stays: a full collection looks at 64,000 objects otherwise, which
        # takes 36 ms, or ten times that on a busy machine, and all streams wait for it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        async with self._life.lived():
            await super().main_loop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP for as long as the block lasts."""
        taken = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in taken}
        if sys.platform != "win32":
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        """Read the settings again; end when it means that our terminal was closed."""
        if self._life.on_terminal and not on_terminal():
            self.handle_exit(number, frame)
        else:
            self._life.hang_up()


async def serve(
    config: Settings, token: str, wish: Wish, bound: socket.socket, say: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises: HistoryError; what finding and loading the models at the start raises.
    """
    give_back()
    secure = wish.certificate is not None
    policy = policy_of(config, token, secure)
    shelf = Shelf(Store(config.store))
    async with open_ledger(config.history) as ledger, pool_of(config) as pool:
        service = Service(config, pool, shelf, ledger)
        first = [await _named(service, ref) for ref in wish.models]
        service.default_ref = first[0].name if first else ""
        front = Swapped(make_app(service, policy))

        def adopt(changes: dict[str, Any]) -> None:
            service.config = replace(service.config, **changes)
            service.admission.bound = service.config.serve_queue
            pool.limit(limits_of(service.config))
            front.app = make_app(service, policy_of(service.config, token, secure))

        server = _Server(http_config(front, wish), Life(config, secure, adopt))
        scheme = "https" if secure else "http"
        say(f"Listening on {scheme}://{_shown(config.serve_host)}:{config.serve_port}")
        # Requests are taken while the first models load, and wait for them; signals too.
        loading = asyncio.create_task(_load_first(service, first, say))
        alone = pool.steering.left_alone if pool.steering else nullcontext
        quiet = Quietly(config, lambda: measured_machine(config), pool.residents, alone)
        measuring = asyncio.create_task(quiet.run()) if config.calibrate_quietly else None
        loading.add_done_callback(lambda _: _end_if_failed(server, loading))
        try:
            await server.serve(sockets=[bound])
        finally:
            left = {task for task in (loading, measuring) if task is not None}
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        if not loading.cancelled():
            loading.result()


def _end_if_failed(server: uvicorn.Server, loading: "asyncio.Task[None]") -> None:
    """What was to stay and cannot be loaded is no server that a person asked for."""
    if not loading.cancelled() and loading.exception() is not None:
        server.should_exit = True


async def _named(service: Service, ref: str) -> Volume:
    """A model that the operator named: installed, or a file. Raises: as `find`."""
    installed = await asyncio.to_thread(find, Store(service.config.store), ref)
    try:
        return await service.volume(ref)
    except SnuglyError:
        return await service.volume(service.shelf.give(installed))


async def _load_first(
    service: Service, volumes: Sequence[Volume], say: Callable[[str], None]
) -> None:
    """Load what is to stay. Raises: as `Pool.load`."""
    for volume in volumes:
        for attempt in range(_ATTEMPTS, 0, -1):
            try:
                await service.pool.load(volume.installed, volume.spec, pin=True)
                break
            except NotNow as error:  # clients are served already, and took the memory
                if attempt == 1:
                    raise
                await asyncio.sleep(error.retry_after)
        say(f"{volume.name} is loaded and stays.")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def http_config(app: Any, wish: Wish) -> uvicorn.Config:
    """How uvicorn is to serve the app."""
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=wish.certificate,
        ssl_keyfile=wish.key,
    )


def run(
    config: Settings, token: str, wish: Wish, bound: socket.socket, say: Callable[[str], None]
) -> None:
    """`serve` on the quickest event loop that there is."""
    work = serve(config, token, wish, bound, say)
    try:
        import uvloop
    except ImportError:  # Windows, PyPy
        asyncio.run(work)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
