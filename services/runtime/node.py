"""Connections to the server that holds a cell: the one of a URL, or a node of a cluster.

All keys of a cell lie in one slot, so it needs one node at a time and no client that knows all of
them. A URL `redis+cluster://host:port,host:port…` names nodes that are asked which one it is.
Refuses to follow a redirection within a command: whoever gets one asks again. Invariant: once a
node said that the slot is elsewhere, no connection to it sends another command.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

_CONNECT_SECONDS: Final = 2
# The slot is elsewhere, on its way, or nowhere: the command was not run. (Of a cell, keys are never
# moved one by one while it is in use: a slot that moved has lost or kept all of it.)
ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError)  # MovedError is an AskError


class Nodes:
    """Where the slot of a key is."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self.clustered = parts.scheme.endswith("+cluster")
        scheme = parts.scheme.removesuffix("+cluster")
        login, at, hosts = parts.netloc.rpartition("@")
        first, *_ = self._seeds = hosts.split(",") if self.clustered else [hosts]
        self.url = parts._replace(scheme=scheme, netloc=login + at + first).geturl()
        self._slot = key_slot(key.encode())
        self._known: tuple[str, int] | None = None
        self.generation = 0

    def forget(self) -> None:
        """What was known of the place is wrong: connections are made anew, to where it is then."""
        self._known = None
        self.generation += 1

    async def place(self) -> tuple[str, int]:
        """Host and port of the node. Raises RedisError: nobody who was asked knows."""
        if self._known is None:
            for seed in self._seeds:
                try:
                    self._known = await self._asked(seed)
                except (RedisError, OSError):
                    continue
                break
            else:
                raise RedisConnectionError("no node of the cluster tells where the slot is")
        return self._known

    async def _asked(self, seed: str) -> tuple[str, int]:
        host, _, port = seed.rpartition(":")
        client = aioredis.Redis.from_url(
            self.url, retry=Retry(NoBackoff(), 0), socket_timeout=_CONNECT_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
        )  # fmt: skip
        client.connection_pool.connection_kwargs.update(host=host.strip("[]"), port=int(port))
        try:
            asked: Any = client
            raw = await asked.execute_command("CLUSTER SLOTS")
        finally:
            await client.aclose()
        ranges = raw if isinstance(raw, list) else [[*at, [*n["primary"]]] for at, n in raw.items()]
        return _owner(ranges, self._slot)


def _owner(ranges: list[Any], slot: int) -> tuple[str, int]:
    for first, last, primary, *_ in ranges:
        if int(first) <= slot <= int(last):
            host, port = primary[0], int(primary[1])
            return host.decode() if isinstance(host, bytes) else str(host), port
    raise RedisConnectionError("no node has the slot")


class _Placed(aioredis.Connection):
    """Goes to where the slot is. Says that a socket is closed where uvloop would raise
    RuntimeError for one."""

    nodes: Nodes
    _made = 0

    async def _connect(self) -> None:
        if self.nodes.clustered:
            self._made = self.nodes.generation
            self.host, self.port = await self.nodes.place()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError):
            self.nodes.forget()
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._made != self.nodes.generation and self.nodes.clustered:
            await self.disconnect(nowait=True)  # sending connects it
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError:
            raise RedisConnectionError("closed") from None

    async def read_response(self, *args: Any, **settings: Any) -> Any:
        try:
            return await super().read_response(*args, **settings)
        except ELSEWHERE:
            self.nodes.forget()
            raise


def client(url: str, key: str, recognise: Callable[[Any], Awaitable[None]]) -> aioredis.Redis:
    """A client of the server that holds the key; `recognise` runs on each new connection first."""
    nodes = Nodes(url, key)
    secure = urlsplit(nodes.url).scheme == "rediss"
    kinds = (_Placed, aioredis.SSLConnection) if secure else (_Placed,)
    return aioredis.Redis.from_url(
        nodes.url,
        connection_class=type("Connection", kinds, {"nodes": nodes}),
        redis_connect_func=recognise,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=5,
        socket_connect_timeout=_CONNECT_SECONDS,
        # Where the client asks for these, it hands out connections that the server has closed:
        # after a restart of the store each of them would fail one command.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
