"""Finds one file of one package on simple indexes (PEP 503 pages, PEP 691 JSON)."""

import html.parser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    import httpx2

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, \
text/html;q=0.1"


class Unreachable(Exception):
    """An index did not answer; the text names it without any password in its address."""


def pages(indexes: tuple[str, ...], links: tuple[str, ...], package: str) -> Iterator[str]:
    """Addresses that may list the files of `package`, best first."""
    yield from links
    for index in indexes:
        yield f"{index.rstrip('/')}/{package}/"


def locate(page: str, filename: str, client: "httpx2.Client") -> str:
    """The URL or the path of `filename` as listed on `page`; empty when it is not.

    Raises: Unreachable.
    """
    local = local_path(page)
    if local is None:
        return _on_page(page, filename, client)
    if (local / filename).is_file():
        return str(local / filename)
    try:
        listing = (local / "index.html").read_text(encoding="utf-8")
    except OSError:
        return ""
    return in_listing(listing, f"{local.as_uri()}/", filename)


def local_path(address: str) -> Path | None:
    """The path that an address means, when it is one on this machine."""
    if address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return None if "://" in address else Path(address).expanduser()


def shown(address: str) -> str:
    """An address without the user name and password that it may carry."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _on_page(page: str, filename: str, client: "httpx2.Client") -> str:
    import httpx2

    try:
        response = client.get(page, headers={"Accept": _ACCEPT})
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise Unreachable(f"{shown(page)}: {error or type(error).__name__}") from error
    if response.status_code == 404:
        return ""
    if response.status_code != 200:
        raise Unreachable(f"{shown(page)} answered {response.status_code}")
    return in_listing(response.text, str(response.url), filename)


def in_listing(text: str, base: str, filename: str) -> str:
    """The address of `filename` in the text of a page at `base`; empty when it is not there."""
    for url in _addresses(text):
        absolute = urljoin(base, url)
        if unquote(urlsplit(absolute).path).rpartition("/")[2] == filename:
            absolute = absolute.partition("#")[0]
            path = local_path(absolute)
            return absolute if path is None else str(path)
    return ""


def _addresses(text: str) -> list[str]:
    if text.lstrip().startswith("{"):
        try:
            return [str(file["url"]) for file in json.loads(text)["files"]]
        except (ValueError, KeyError, TypeError):
            return []
    collector = _Anchors()
    collector.feed(text)
    return collector.found


class _Anchors(html.parser.HTMLParser):
    """Addresses of all links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a link."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
