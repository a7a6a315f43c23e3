"""A cell of a service on Redis or Valkey: its keys, its functions, its epoch.

Refuses every command while the store is not known to be whole. Invariant: a connection is used only
after the server behind it was recognised by its run id; a server that restarted or failed over is
marked as healing before the first command reaches it, so nothing is served from a rolled-back
store. While its own clock and the store's are known to disagree nothing is served either: of the
two, one would have things ended, cooled or begun at a wrong time (design decision 16).
"""

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from hiredis import pack_command
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from services.runtime.acks import Acks
from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import Unavailable
from services.runtime.node import ELSEWHERE, client
from services.runtime.tasks import ended

Argument = str | bytes | int

_PRELUDE: Final = Path(__file__).parent / "lua" / "cell.lua"
_MAX_OUTBOX: Final = 100_000  # 20 s of China's average rate; beyond it writes are refused
_PIPELINE: Final = 200  # commands of one round trip: about 5 ms of the store, others come between
_WAIT_SECONDS: Final = 5.0
_REPLY_SECONDS: Final = 5.0
_SKEW_MS: Final = 2000
_RECOGNISE: Final = """
local known = redis.call('HGET', KEYS[1], 'run_id')
if known and known ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'healing', 'store_epoch', 'distrusted')
end
"""


# What a server says that takes no writes for now: it is full, became a replica, cannot save, has
# too few replicas, or a script of somebody's runs for long.
_REFUSES: Final = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY")


def library(service: str, sources: Sequence[Path] = ()) -> str:
    """The text of a service's function library: the prelude, then its own sources."""
    parts = [f"#!lua name=axbridge_{service}\nlocal SERVICE = '{service}'\n", _PRELUDE.read_text()]
    return "\n".join([*parts, *(path.read_text() for path in sources)])


class Cell:
    """One cell. Used from one event loop; `open` before the first call, `close` after the last."""

    def __init__(
        self,
        url: str,
        service: str,
        cell: str,
        functions: str,
        *,
        max_outbox: int = _MAX_OUTBOX,
        clock: Clock | None = None,
    ) -> None:
        self.service = service
        self.name = cell
        self.source = f"/axbridge/{service}/{cell}"  # of the records that are its own
        self.acks = Acks()
        # This clock and the store's are more than 2 s apart, as of the last `refresh`.
        self.skewed = False
        self._now = (clock or SystemClock()).epoch_ms
        self._functions = functions
        self._max_outbox = max_outbox
        self._epoch = b""
        self._prefix = f"{service}:{{{cell}}}:"
        self._meta = self.key("meta")
        self._outbox = self.key("outbox")
        self.redis = client(url, self._meta, self._recognise)
        self._queue: list[tuple[tuple[Argument, ...], asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def key(self, *parts: str) -> str:
        """`<service>:{<cell>}:<part>:<part>…`, the braces making one cluster slot."""
        return self._prefix + ":".join(parts)

    async def open(self) -> None:
        """Starts to listen for acknowledgements. Does not wait for the store to be there."""
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Ends all connections."""
        if self._listening:
            await ended([self._listening])
        await self.redis.aclose()

    async def call(
        self, function: str, keys: Sequence[str] = (), args: Sequence[Argument] = ()
    ) -> list[Any]:
        """Runs a function of the library under the current store epoch.

        Concurrent calls travel in one pipeline. Returns the function's array.

        Raises:
            Unavailable: STORE_UNAVAILABLE, STORE_HEALING, OUTBOX_FULL or CLOCK_SKEWED; the function
                may have been applied only in the first case.
        """
        if self.skewed:
            raise unavailable("CLOCK_SKEWED")
        reply: list[Any] = []
        for _ in range(2):  # the second time with the store epoch just learnt
            reply = await self.call_as(self._epoch, function, keys, args)
            if reply[0] == b"OUTBOX_FULL":
                raise unavailable("OUTBOX_FULL")
            if reply[0] != b"STORE_HEALING":
                return reply
            if not await self.refresh():
                break
        raise unavailable("STORE_HEALING")

    async def call_as(
        self, epoch: bytes, function: str, keys: Sequence[str] = (), args: Sequence[Argument] = ()
    ) -> list[Any]:
        """`call` under a given store epoch, with refusals returned: for the healer."""
        return await self.raw(function, keys, (epoch, self._max_outbox, *args))

    async def call_under(
        self,
        epoch: bytes | None,
        function: str,
        keys: Sequence[str] = (),
        args: Sequence[Argument] = (),
    ) -> list[Any]:
        """`call`, or with an epoch `call_as` the healer. Raises Unavailable where it is refused."""
        if epoch is None:
            return await self.call(function, keys, args)
        reply = await self.call_as(epoch, function, keys, args)
        if reply[0] in (b"STORE_HEALING", b"OUTBOX_FULL"):
            raise unavailable(reply[0].decode())
        return reply

    async def raw(
        self, function: str, keys: Sequence[str] = (), args: Sequence[Argument] = ()
    ) -> list[Any]:
        """The function with meta and outbox before the keys, and nothing before the arguments."""
        name = f"{self.service}_{function}"
        command = ("FCALL", name, len(keys) + 2, self._meta, self._outbox, *keys, *args)
        reply = await self._send(command)
        if isinstance(reply, ELSEWHERE):  # not run; the next connection goes to the right node
            reply = await self._send(command)
        if isinstance(reply, ResponseError) and "Function not found" in str(reply):
            await self._load()
            reply = await self._send(command)
        if isinstance(reply, RedisError):
            if isinstance(reply, ResponseError) and not _refuses(reply):
                raise reply  # a defect of ours: the library's text, or a wrong type
            raise unavailable("STORE_UNAVAILABLE") from None
        return list(reply)

    async def published(self, sequence: int, timeout: float = _WAIT_SECONDS) -> None:
        """Returns once Kafka has acknowledged the outbox entry with this sequence.

        Raises:
            Unavailable: LOG_UNAVAILABLE; the entry will still be published.
        """
        await self.acks.wait(sequence, timeout)

    async def refresh(self) -> bool:
        """Learns the store epoch, and whether the clocks agree. True if the cell is ready."""
        asked_ms = self._now()
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hmget(self._meta, ["state", "store_epoch", "acked"])
                pipe.time()
                (state, epoch, acked), (seconds, micros) = await pipe.execute()
        except RedisError:
            raise unavailable("STORE_UNAVAILABLE") from None
        store_ms = seconds * 1000 + micros // 1000
        # The store said so at some moment between; what is within both is no disagreement.
        self.skewed = not asked_ms - _SKEW_MS <= store_ms <= self._now() + _SKEW_MS
        if state != b"ready":
            return False
        self._epoch = epoch
        self.acks.begin(int(epoch))
        self.acks.advance(int(acked))
        return True

    @property
    def store_epoch(self) -> int:
        """The store epoch as last learnt; 0 before the first."""
        return int(self._epoch or 0)

    async def run_id(self) -> str:
        """The run id of the server that holds the cell."""
        return str((await self.redis.info("server"))["run_id"])

    async def _load(self) -> None:
        try:
            await self.redis.function_load(self._functions, replace=True)
        except RedisError:
            raise unavailable("STORE_UNAVAILABLE") from None

    async def load(self) -> None:
        """Loads the function library, replacing an older one. Raises Unavailable."""
        await self._load()

    def _send(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((command, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        """Sends what has gathered while the last round trip was under way, as one pipeline."""
        while self._queue:
            batch, self._queue = self._queue[:_PIPELINE], self._queue[_PIPELINE:]
            replies: Sequence[Any]
            try:
                replies = await self.exchange([command for command, _ in batch])
            except (RedisError, OSError) as error:
                replies = [error if isinstance(error, RedisError) else RedisError()] * len(batch)
            except Exception as error:  # a defect: its callers hear of it, nobody waits for ever
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> Sequence[Any]:
        """One pipeline on the bare connection; through the client a command costs three times that.

        Raises what the connection raises; then any of the commands may have been run.
        """
        pool = self.redis.connection_pool
        connection: Any = await pool.get_connection()  # type: ignore[no-untyped-call]
        replies: list[Any] = []
        try:
            packed = b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]
            async with asyncio.timeout(_REPLY_SECONDS):
                await connection.send_packed_command(packed, check_health=False)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        replies.append(error)
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await connection.disconnect(nowait=True)  # the next one finds the primary
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
        return replies

    async def _listen(self) -> None:
        """Hears of acknowledgements by whichever process relays; asks again once a second, since
        a published message may be missed."""
        while True:
            try:
                async with self.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._meta)
                    while True:
                        message = await channel.get_message(timeout=1.0)
                        if message is None:
                            await self.refresh()
                        else:
                            self.acks.advance(int(message["data"]))
            except (RedisError, OSError, Unavailable):
                await asyncio.sleep(0.2)

    async def _recognise(self, connection: Any) -> None:
        """Runs on every new connection, before any command."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        run_id = next(line[7:] for line in info.splitlines() if line.startswith(b"run_id:"))
        # In one step: a heal for this very server could end between reading and marking.
        await connection.send_command("EVAL", _RECOGNISE, 1, self._meta, run_id)
        await connection.read_response()


def _refuses(error: ResponseError) -> bool:
    # The client takes the first word away where it has a class for it.
    known = isinstance(error, (ReadOnlyError, OutOfMemoryError, *ELSEWHERE))
    return known or str(error).startswith(_REFUSES)


def unavailable(reason: str) -> Unavailable:
    """STORE_HEALING, STORE_UNAVAILABLE, OUTBOX_FULL or CLOCK_SKEWED, with a hint when to retry."""
    return Unavailable(reason, retry_after=timedelta(seconds=0.5))
