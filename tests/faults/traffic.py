"""Mixed work for a server: what clients do, each with a seed, counted by kind and status."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

WORDS = (
    "river stone window garden engine letter number winter paper music yellow market bridge"
    " teacher island coffee silver planet doctor forest"
).split()
WRONG: tuple[dict[str, Any], ...] = (
    {"model": "nobody"}, {"max_tokens": "x"}, {"messages": "x"}, {"temperature": "hot"},
)  # fmt: skip
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass
class Traffic:
    """Clients of one server, until they are told to stop. `models` come and go."""

    client: httpx2.AsyncClient
    models: tuple[str, ...]
    token: str
    seen: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)

    async def run(self, seed: int, end: Callable[[], bool]) -> None:
        """One client."""
        dice = random.Random(seed)
        kinds = (
            self.stream, self.stream, self.stream, self.cancel, self.cancel, self.leave, self.embed,
            self.tools, self.count, self.wrong, self.come_and_go,
        )  # fmt: skip
        while not end():
            kind: Callable[[random.Random], Awaitable[int]] = dice.choice(kinds)
            try:
                status = await kind(dice)
            except httpx2.TransportError as error:
                status = -1
                self.strange.append(f"{kind.__name__}: {error!r}")
            self.seen[f"{kind.__name__} {status}"] += 1
            if status >= 500 and status != 503:
                self.strange.append(f"{kind.__name__}: {status}")
            await asyncio.sleep(dice.random() * 0.1)

    def prompt(self, dice: random.Random, least: int = 4, most: int = 120) -> str:
        """Words that no cache has."""
        return " ".join(dice.choice(WORDS) for _ in range(dice.randint(least, most)))

    def body(self, dice: random.Random, **more: Any) -> dict[str, Any]:
        """A chat."""
        return {
            "model": dice.choice(self.models), "max_tokens": dice.randint(4, 32),
            "messages": [{"role": "user", "content": self.prompt(dice)}], **more,
        }  # fmt: skip

    async def _chat(self, body: dict[str, Any], pieces: int | None = None) -> int:
        """A streamed chat, left after so many pieces."""
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            text = ""
            async for chunk in answer.aiter_text():
                text += chunk
                if pieces is not None and text.count("data: ") > pieces:
                    return answer.status_code
            if answer.status_code == 200 and "[DONE]" not in text:
                self.strange.append(f"an answer without its end: {text[-200:]}")
            return answer.status_code

    async def stream(self, dice: random.Random) -> int:
        """A whole answer."""
        return await self._chat(self.body(dice, stream=True))

    async def cancel(self, dice: random.Random) -> int:
        """One that is left in the middle."""
        body = self.body(dice, stream=True, max_tokens=200)
        return await self._chat(body, pieces=dice.randint(1, 6))

    async def leave(self, dice: random.Random) -> int:
        """One that is left before its first token, perhaps while its model loads."""
        with contextlib.suppress(TimeoutError, httpx2.ReadTimeout):
            async with asyncio.timeout(dice.random() * 0.5):
                await self._chat(self.body(dice, stream=True))
        return 0

    async def embed(self, dice: random.Random) -> int:
        """Vectors."""
        texts = [self.prompt(dice, 2, 12) for _ in range(dice.randint(1, 4))]
        body = {"model": self.models[0], "input": texts}
        return (await self.client.post("/v1/embeddings", json=body)).status_code

    async def tools(self, dice: random.Random) -> int:
        """A chat that may call a tool."""
        body = self.body(dice, tools=[TOOL], stream=dice.random() < 0.5)
        if body["stream"]:
            return await self._chat(body)
        return (await self.client.post("/v1/chat/completions", json=body)).status_code

    async def count(self, dice: random.Random) -> int:
        """Tokens of a text, as Anthropic's clients ask."""
        body = self.body(dice)
        return (await self.client.post("/v1/messages/count_tokens", json=body)).status_code

    async def wrong(self, dice: random.Random) -> int:
        """What is refused."""
        body = self.body(dice, **dice.choice(WRONG))
        return (await self.client.post("/v1/chat/completions", json=body)).status_code

    async def come_and_go(self, dice: random.Random) -> int:
        """A model is loaded or stopped by hand, never the first one."""
        name = dice.choice(self.models[1:])
        path = dice.choice(["/snugly/load", "/snugly/stop"])
        key = {"authorization": f"Bearer {self.token}"}
        return (await self.client.post(path, json={"model": name}, headers=key)).status_code
