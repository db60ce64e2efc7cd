"""A llama-server as a supervised process: it does not say when it is ready, it is asked."""

import asyncio

from snugly.engine.process import EngineProcess

_LOOK_EVERY_S = 0.01
_ASK = b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"


class NativeProcess(EngineProcess):
    """`native_worker`, which becomes the server."""

    async def _listening(self) -> bool:
        """Ask until the model is loaded (503 until then); False when it ended instead."""
        while self.running:
            if await self._healthy():
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def _healthy(self) -> bool:
        try:
            reader, writer = await self.address.connect()
        except OSError:
            return False
        try:
            writer.write(_ASK)
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
