"""Sends queued events to each tenant's endpoint: signed batches, in order, until they are taken.

An endpoint that is away, or says 5xx or 429, rests as a whole; a batch that it refuses is sent
again event by event, so that one bad event holds up its own binding only. Invariant: an event is
delivered only with a 2xx answer to a request that held it; so a platform may see it twice.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from services.router.pushevents import Renderer
from services.router.pushqueue import PushQueue, Queued
from services.runtime.clock import Clock
from services.runtime.metrics import Metrics, Name
from services.runtime.telemetry import logger

_THREADS: Final = 16  # tenants served at once
_LOOK_SECONDS: Final = 0.1
_COUNT_SECONDS: Final = 5.0  # every event that waits is counted: not at each look
_POST_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_LONGEST_REST_MS: Final = 3_600_000
_LOG: Final = logger(__name__)

Post = Callable[[str, bytes, Mapping[str, str]], int]


class Endpoint(BaseModel):
    """Where a tenant wants its events, and the secret that signs them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^/\s]+(/\S*)?$", max_length=2048)
    secret: SecretStr = Field(min_length=32)


class _Tenants(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenants: dict[str, Endpoint]


class Endpoints:
    """The endpoints in a JSON file, read anew when it changes. A file that is not valid is refused
    at the start, and later leaves what was there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0
        self._found: dict[str, Endpoint] = {}
        self._broken = False
        self._read()

    def of(self, tenant: str) -> Endpoint | None:
        """The tenant's endpoint, if it has one."""
        try:
            if self._path.stat().st_mtime_ns != self._seen:
                self._read()
        except (ValidationError, OSError) as error:  # its text would show what stands in the file
            if not self._broken:
                _LOG.error("endpoints not read", type=type(error).__name__)
            self._broken = True
        return self._found.get(tenant)

    def _read(self) -> None:
        self._seen = self._path.stat().st_mtime_ns
        self._found = _Tenants.model_validate_json(self._path.read_bytes()).tenants
        self._broken = False


class Sender:
    """Delivers until stopped; see `run`."""

    def __init__(
        self,
        queue: PushQueue,
        endpoints: Endpoints,
        render: Renderer,
        clock: Clock,
        metrics: Metrics,
        post: Post | None = None,
    ) -> None:
        self._queue, self._endpoints, self._render = queue, endpoints, render
        self._clock, self._post = clock, post or post_once
        self._delivered = metrics.counter(Name.PUSH_DELIVERED)
        self._failures = metrics.counter(Name.PUSH_FAILURES)
        self._waiting = metrics.gauge(Name.PUSH_WAITING)
        self._parked = metrics.gauge(Name.PUSH_PARKED)
        self._busy: set[str] = set()  # each tenant has one request under way
        self._pauses: dict[str, tuple[int, float]] = {}  # failures in a row, and until when

    def run(self, stop: threading.Event) -> None:
        """Sends whatever is due until `stop`; requests under way are awaited."""
        with ThreadPoolExecutor(_THREADS) as pool:
            counted = float("-inf")
            while not stop.wait(_LOOK_SECONDS):
                if self._clock.monotonic() - counted >= _COUNT_SECONDS:
                    counted = self._clock.monotonic()
                    waiting, parked = self._queue.counts()
                    self._waiting.set(waiting)
                    self._parked.set(parked)
                for tenant in self._queue.tenants():
                    if tenant not in self._busy:
                        self._busy.add(tenant)
                        pool.submit(self._served, tenant, stop)

    def _served(self, tenant: str, stop: threading.Event) -> None:
        try:
            while not stop.is_set() and self.send(tenant):
                pass
        except Exception as error:
            _LOG.error("push failed", tenant=tenant, type=type(error).__name__)
        finally:
            self._busy.discard(tenant)

    def send(self, tenant: str) -> bool:
        """Sends one batch; whether it may go on with the next at once."""
        failures, until = self._pauses.get(tenant, (0, 0.0))
        endpoint = self._endpoints.of(tenant)
        if endpoint is None or self._clock.monotonic() < until:
            return False
        events = self._queue.due(tenant)
        if not events:
            return False
        body = self._body(events)
        moment = self._clock.epoch_ms() // 1000
        headers = {
            "Content-Type": "application/json",
            "Axbridge-Signature": f"t={moment},v1={signature(endpoint, moment, body)}",
        }
        try:
            status = self._post(endpoint.url, body, headers)
        except (OSError, http.client.HTTPException):
            status = 0
        if 200 <= status < 300:
            self._queue.delivered(events)
            self._delivered.inc(len(events))
            self._pauses.pop(tenant, None)
            return True
        self._failures.inc()
        refused = 300 <= status < 500 and status != 429
        tries = max(each.tries for each in events)
        rest_ms = min(_LONGEST_REST_MS, 1000 * 2 ** min(tries, 20))
        if parked := self._queue.failed(events, rest_ms, refused=refused):
            _LOG.error("events parked, undelivered for a day", tenant=tenant, events=parked)
        if refused:
            return True
        pause = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(failures, 20))
        self._pauses[tenant] = failures + 1, self._clock.monotonic() + pause
        return False

    def _body(self, events: Sequence[Queued]) -> bytes:
        shown = [self._render(each.item, each.sequence, each.about) for each in events]
        return json.dumps({"events": shown}, ensure_ascii=False, separators=(",", ":")).encode()


def signature(endpoint: Endpoint, moment: int, body: bytes) -> str:
    """HMAC-SHA-256 in hex over `<unix seconds>.<body>` under the endpoint's secret."""
    key = endpoint.secret.get_secret_value().encode()
    return hmac.new(key, b"%d." % moment + body, hashlib.sha256).hexdigest()


def post_once(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of one POST; redirects are not followed, the answer's body is not kept. Raises
    OSError or HTTPException."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(parts.netloc, timeout=_POST_SECONDS)) as connection:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, dict(headers))
        return connection.getresponse().status
