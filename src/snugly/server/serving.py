"""The server, put together and run until it is told to stop."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snugly.engine.calibrated import calibrated
from snugly.engine.launch import engine_facts, measured_machine
from snugly.engine.pool import Pool
from snugly.engine.prompt_logprobs import with_scores
from snugly.engine.registry import DEFAULT, ENGINES
from snugly.engine.seat import NotNow
from snugly.engine.space import Limits
from snugly.engine.steering import Load, Steering, work
from snugly.errors import SnuglyError, UserError
from snugly.machine.load import Clock
from snugly.machine.types import Machine
from snugly.model.lookup import find
from snugly.model.store import Store
from snugly.model.types import ModelSpec
from snugly.plan.choose import choose
from snugly.plan.types import Need, Plan, Rejected
from snugly.server.allocator import give_back
from snugly.server.ledger import open_ledger
from snugly.server.life import Life, Swapped
from snugly.server.pictures import with_sight
from snugly.server.security import Policy, check_bind
from snugly.server.service import Service
from snugly.server.shelf import Shelf, Volume
from snugly.settings import Settings

if TYPE_CHECKING:
    from snugly.server.http import HttpServer

_ATTEMPTS = 3  # at loading what is to stay, while clients use the memory
# llama-server looks once a second whether a client is there (HTTP_POLLING_SECONDS in
# tools/server/server-context.cpp) and hears of it between two batches: 1.5 s at worst.
_BATCH_SECONDS = 0.5
_LEAST_BATCH = 128


@dataclass(frozen=True, slots=True)
class Wish:
    """What `snugly serve` was asked for. `models` are loaded at once and stay.

    `begun`: a clock read at the start (see `pool_of`).
    """

    models: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    begun: Clock | None = None


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


def pool_of(
    config: Settings, look: Callable[[], Machine] | None = None, begun: Clock | None = None
) -> Pool:
    """The pool of this machine, or of the one that `look` sees.

    `begun` is a clock read earlier: the first look takes the load since then, and waits less.
    """
    clocks = iter((begun,))
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
        look or (lambda: measured_machine(config, next(clocks, None))),
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
    async with open_ledger(config.history) as ledger, pool_of(config, begun=wish.begun) as pool:
        service = Service(config, pool, shelf, ledger)
        first = [await _named(service, ref) for ref in wish.models]
        service.default_ref = first[0].name if first else ""
        # Requests are taken while the first models load, and wait for them; signals too.
        loading = asyncio.create_task(_load_first(service, first, say))
        tasks = {loading}
        try:
            # In a thread, so that the first model goes on loading meanwhile.
            await asyncio.to_thread(_import_the_rest)
            from snugly.server.http import HttpServer, http_config

            front = _Front(service, policy)
            served = http_config(front, wish.certificate, wish.key)
            server = HttpServer(served, Life(config, secure, front.adopt))
            scheme = "https" if secure else "http"
            say(f"Listening on {scheme}://{_shown(config.serve_host)}:{config.serve_port}")
            loading.add_done_callback(lambda _: _end_if_failed(server, loading))
            if config.calibrate_quietly:
                tasks.add(asyncio.create_task(_quietly(config, pool)))
            await server.serve(sockets=[bound])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not loading.cancelled():
            loading.result()


def _import_the_rest() -> None:
    """What answers requests and measures, none of which is needed to load a model."""
    for name in ("snugly.server.http", "snugly.server.app", "snugly.engine.calibrate_quietly"):
        import_module(name)


class _Front(Swapped):
    """The app of a server, which is another one when settings have changed."""

    def __init__(self, service: Service, policy: Policy) -> None:
        from snugly.server.app import make_app

        super().__init__(make_app(service, policy))
        self._service, self._policy = service, policy

    def adopt(self, changes: dict[str, Any]) -> None:
        """Go by these settings from now on."""
        from snugly.server.app import make_app

        service = self._service
        service.config = replace(service.config, **changes)
        service.admission.bound = service.config.serve_queue
        service.pool.limit(limits_of(service.config))
        policy = policy_of(service.config, self._policy.token, self._policy.secure)
        self.app = make_app(service, policy)


async def _quietly(config: Settings, pool: Pool) -> None:
    from snugly.engine.calibrate_quietly import Quietly

    alone = pool.steering.left_alone if pool.steering else nullcontext
    await Quietly(config, lambda: measured_machine(config), pool.residents, alone).run()


def _end_if_failed(server: "HttpServer", loading: "asyncio.Task[None]") -> None:
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
