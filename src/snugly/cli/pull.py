"""`snugly pull`: fetch a model, verified and resumable."""

from typing import Annotated

from cyclopts import Parameter

from snugly.cli.render import note, print_json


def pull(
    ref: str,
    /,
    *,
    revision: str = "",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Fetch a model: verified, resumable.

    Parameters
    ----------
    ref
        A name (smollm2, qwen2.5-coder:1.5b), a repository of the Hugging Face hub
        (publisher/model, publisher/model:Q4_K_M), its address, or a file (./model.gguf).
    revision
        A branch, tag or commit of the repository; the newest when left out.
    as_json
        Print where the model is and where it came from as JSON.
    """
    from snugly.cli.progress import shown
    from snugly.model.pull import pull as fetch
    from snugly.model.store import Store
    from snugly.settings import settings
    from snugly.units import format_bytes

    store = Store(settings().store)
    try:
        installed = fetch(ref, store, settings(), shown(), revision=revision)
    except KeyboardInterrupt:
        for partial in store.unfinished():
            note(f"{partial.ref}: {partial.problem}")
        note(f"`snugly pull {ref}` resumes.")
        raise
    if as_json:
        print_json(installed)
        return
    print(installed.ref)
    known = installed.provenance
    note(f"{format_bytes(known.n_bytes)} from {known.origin}, SHA-256 {known.sha256[:16]}...")
    note(f"`snugly run -m {ref} ...` uses it.")
