"""The brokers of one test run: started when first asked for, shared by all workers, stopped last.

The process that owns the run (pytest itself, or xdist's controller) starts them; workers ask it
over a Unix socket. A run of unit tests alone asks for none and starts none. Should the owner be
killed, its leash kills them. A broker that cannot be started fails every test that asks for it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Lock, Thread
from typing import Literal

from deploy.local.kafka import Kafka
from deploy.local.valkey import Valkey
from deploy.local.valkeycluster import ValkeyCluster

Broker = Literal["kafka", "valkey", "cluster"]
_STOP = "stop"


class BrokerUnavailable(Exception):
    """The owner of the run could not start a broker; the message is its error."""


class SharedBrokers:
    """Owns the brokers of a run; `_lock` guards them, so that two askers start one broker."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._folder: Path | None = None
        self._addresses: dict[Broker, str] = {}
        self._stops: list[Callable[[], None]] = []
        self._listener: Listener | None = None
        self._answerer: Thread | None = None

    def address(self, broker: Broker) -> str:
        """The broker's address; starts it if nobody asked before."""
        with self._lock:
            if broker not in self._addresses:
                self._addresses[broker] = self._start(broker, self._data() / broker)
            return self._addresses[broker]

    def _start(self, broker: Broker, folder: Path) -> str:
        if broker == "cluster":  # of a container engine one node's address would not be ours
            cluster = ValkeyCluster(folder).start()
            address, stop = cluster.url, cluster.stop
        elif os.environ.get("AXBRIDGE_TESTCONTAINERS") == "1":
            from tests import containers

            address, stop = containers.start(broker)
        elif broker == "kafka":
            kafka = Kafka(folder).start()
            address, stop = kafka.bootstrap, kafka.stop
        else:
            valkey = Valkey(folder).start()
            address, stop = valkey.url, valkey.stop
        self._stops.append(stop)
        return address

    def _data(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="axbridge-tests-"))
        return self._folder

    def serve(self) -> str:
        """Begins to answer workers, and returns where they ask."""
        with self._lock:
            socket = str(self._data() / "ask")
            if self._listener is None:
                self._listener = Listener(socket, family="AF_UNIX")
                self._answerer = Thread(target=self._answer, args=(self._listener,), daemon=True)
                self._answerer.start()
            return socket

    def _answer(self, listener: Listener) -> None:
        while True:
            with listener.accept() as connection:
                broker = connection.recv()
                if broker == _STOP:
                    return
                try:
                    connection.send((True, self.address(broker)))
                except Exception as error:  # goes to the asker, which raises it in the test
                    connection.send((False, f"{type(error).__name__}: {error}"))

    def stop(self) -> None:
        """Stops what was started and deletes its data."""
        if self._listener is not None:
            with Client(self._listener.address, family="AF_UNIX") as connection:
                connection.send(_STOP)
            if self._answerer is not None:
                self._answerer.join()
            self._listener.close()
            self._listener = None
        with self._lock:
            while self._stops:
                self._stops.pop()()
            self._addresses.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


def ask(socket: str, broker: Broker) -> str:
    """Asks the owner of the run for a broker's address.

    Raises:
        BrokerUnavailable: it could not be started.
    """
    connection: Connection
    with Client(socket, family="AF_UNIX") as connection:
        connection.send(broker)
        started, text = connection.recv()
    if not started:
        raise BrokerUnavailable(text)
    return str(text)
