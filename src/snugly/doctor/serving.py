"""Judging what serving needs: the port, engines left behind, proxy variables. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from snugly.doctor.types import Finding, bad, ok, warn
from snugly.units import format_bytes


@dataclass(frozen=True, slots=True)
class PortFacts:
    """Whether the server's address can be had. `error` is why not, empty when it can.

    `holder` is the program that listens there (empty: not to be found out), `ours` the
    version of a Snugly that answers there, `looks_ours` whether it was started as one.
    """

    host: str
    port: int
    taken: bool = False
    error: str = ""
    holder: str = ""
    pid: int = 0
    ours: str = ""
    looks_ours: bool = False


def judge_port(facts: PortFacts) -> Finding:
    """Whether `snugly serve` could listen, or does."""
    where = f"{facts.host}:{facts.port}"
    if facts.ours:
        return ok("port", f"Snugly {facts.ours} serves on {where}.")
    if not facts.taken and not facts.error:
        return ok("port", f"{where} is free for `snugly serve`.")
    if not facts.taken:
        return bad(
            "port", f"{where} cannot be listened on.", f"{facts.error}.",
            "Correct `serve_host` and `serve_port` in the settings.",
        )  # fmt: skip
    if facts.looks_ours:
        return bad(
            "port", f"A Snugly server holds {where} and does not answer.",
            f"It is process {facts.pid}.", f"End it: `kill {facts.pid}`, then start it again.",
        )  # fmt: skip
    by = f"{facts.holder} (process {facts.pid})" if facts.holder else "another user's program"
    return bad(
        "port", f"{where} is taken by {by}.", "Only one program can listen on a port.",
        "End it, or set SNUGLY_SERVE_PORT to another port.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leftover:
    """An engine whose Snugly is gone."""

    pid: int
    rss_bytes: int


def judge_leftovers(found: Sequence[Leftover], engines: int) -> Finding:
    """Whether engines outlived whoever started them."""
    if not found:
        return ok("leftovers", f"No engine was left behind; {engines} run for somebody.")
    pids = " ".join(str(one.pid) for one in found)
    count = f"{len(found)} engines were" if len(found) > 1 else "An engine was"
    return bad(
        "leftovers", f"{count} left behind by a Snugly that is gone.",
        f"Their memory: {format_bytes(sum(one.rss_bytes for one in found))}.", f"`kill {pids}`",
    )  # fmt: skip


_PROXIES = ("http_proxy", "all_proxy")  # requests to this machine are plain HTTP


def judge_proxy(environment: Mapping[str, str], host: str) -> Finding:
    """Whether clients would send what is meant for this machine to a proxy.

    Python's, Node's and curl's clients obey these variables for loopback too; only Go's do not.
    A range such as 127.0.0.0/8 spares addresses (httpx, requests, curl 7.86), never names.
    """
    lower = {name.lower(): value for name, value in environment.items() if value}
    named = [name for name in _PROXIES if lower.get(name)]
    if not named:
        return ok("proxy", "No proxy stands between clients and this machine.")
    spared = {entry.strip().lower() for entry in lower.get("no_proxy", "").split(",")}
    wanted = list(dict.fromkeys((host, "127.0.0.1", "localhost")))
    missing = [] if "*" in spared else [n for n in wanted if not _spared(n, spared)]
    if not missing:
        return ok("proxy", "A proxy is set, and this machine is spared from it.")
    spared.discard("")
    variables = " and ".join(sorted(n for n in environment if n.lower() in named))
    kept = ",".join(sorted(spared) + missing)
    return warn(
        "proxy", f"Clients would ask the proxy for {' and '.join(missing)}.",
        f"{variables} is set, and NO_PROXY does not name this machine.",
        f"`export NO_PROXY={kept} no_proxy={kept}`",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The installed service. `program` is what it starts, `state` what its manager calls it.

    `path` is empty where none is installed; `state` empty where nobody can be asked.
    """

    path: str = ""
    program: str = ""
    program_there: bool = True
    state: str = ""


def judge_service(facts: ServiceFacts) -> Finding:
    """Whether the server that is started by the system can be."""
    if not facts.path:
        return ok("service", "No service is installed; `snugly serve --install` makes one.")
    if not facts.program_there:
        return bad(
            "service", "The service starts a Python that is gone.",
            f"{facts.path} names {facts.program or 'none'}: its environment was moved or removed.",
            "`snugly serve --install` writes it for this one.",
        )  # fmt: skip
    if facts.state == "failed":
        return bad(
            "service", "The service has failed, and is not started again.",
            "systemd gave up after five attempts within five minutes.",
            "`snugly logs` and `journalctl --user -u snugly` say why; then `systemctl --user "
            "restart snugly`.",
        )  # fmt: skip
    state = f" ({facts.state})" if facts.state else ""
    return ok("service", f"A service is installed{state}.")


def _spared(host: str, entries: Iterable[str]) -> bool:
    for entry in entries:
        if entry == host:
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False
