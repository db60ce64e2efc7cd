"""The one running model of a chat: started when needed, started again when it died."""

import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from snugly.cli.chat_answer import Stopped
from snugly.errors import SnuglyError
from snugly.model.refs import looks_like_path

if TYPE_CHECKING:  # `snugly chat --list` starts no engine and need not know of any
    from snugly.engine.launch import Launched, Prepared

Prepare = Callable[[str | None], "Prepared"]
Launch = Callable[["Prepared"], "AbstractAsyncContextManager[Launched]"]


class Seat:
    """Holds at most one engine. All calls must come from one task of the main thread."""

    def __init__(self, prepare: Prepare, launch: Launch, ref: str | None) -> None:
        self.ref = ref
        self.failed = False  # the last attempt to start the model did not succeed
        self._prepare = prepare
        self._launch = launch
        self._stack = AsyncExitStack()
        self._launched: Launched | None = None

    @property
    def present(self) -> "Launched | None":
        """The model that is running, if one is."""
        return self._launched

    async def take(self) -> "Launched":
        """The running model; found, fetched and started when none is.

        Call it inside `stoppable`.

        Raises: Stopped on Ctrl-C while finding; what preparing and launching raise.
        Nothing is left running then.
        """
        if self._launched is None:
            self.failed = True
            prepared = self._found()
            self._launched = await self._stack.enter_async_context(self._launch(prepared))
            # From here on it is this model, even if a better one is installed meanwhile.
            self.ref = lasting(self._launched.installed.ref)
            self.failed = False
        return self._launched

    def _found(self) -> "Prepared":
        """Find, fetch and plan. This blocks: nothing runs that would need the loop.

        Planned anew at every start: an engine may have died because the memory that
        was free for the first plan is no longer so.
        """
        before = signal.getsignal(signal.SIGINT)
        # asyncio's own handler would only take effect when the loop is next entered.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return self._prepare(self.ref)
        except KeyboardInterrupt:
            raise Stopped from None
        finally:
            signal.signal(signal.SIGINT, before)

    async def leave(self) -> None:
        """Stop the engine; one that is dead or dying is no error."""
        self._launched = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            await stack.aclose()
        except SnuglyError:
            pass  # it is gone, which is what was wanted

    async def change(self, ref: str) -> "Launched":
        """Go on with another model. When it cannot be had, the old one is started on demand.

        Raises: what `take` raises.
        """
        before = self.ref
        await self.leave()  # first: both at once may not fit
        self.ref = ref
        try:
            return await self.take()
        except BaseException:
            self.ref, self.failed = before, False
            raise


def lasting(ref: str) -> str:
    """A reference that means the same in any folder: the conversation keeps it."""
    return str(Path(ref).expanduser().absolute()) if looks_like_path(ref) else ref
