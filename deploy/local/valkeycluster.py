"""A Valkey cluster on loopback: primaries that share the slots, without replicas.

It is up in 2 s. What a fail-over does to a cell is played by `move`. Invariant: when `start`
returns, every node knows who has each slot.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from redis.crc import key_slot

from deploy.local.places import HOST, free_port
from deploy.local.valkey import Valkey
from deploy.local.waiting import eventually

_SLOTS: Final = 16384
_DEADLINE_SECONDS: Final = 20.0


def _clustered() -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",  # in its folder
        "cluster-port": str(free_port()),
        "cluster-node-timeout": "2000",
    }


class ValkeyCluster:
    """Primaries that share the slots, without replicas; each is a `Valkey`."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.nodes = [Valkey(folder / f"node-{n}", further=_clustered()) for n in range(nodes)]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Starts all and returns once they serve as one. Raises what `Valkey.start` raises."""
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def _join(self) -> None:
        share = -(-_SLOTS // len(self.nodes))
        with redis.Redis(host=HOST, port=self.nodes[0].port) as first:
            bus = first.config_get("cluster-port")["cluster-port"]
        for place, node in enumerate(self.nodes):
            with redis.Redis(host=HOST, port=node.port) as client:
                last = min(_SLOTS, (place + 1) * share) - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", place * share, last)
                if place:
                    client.execute_command("CLUSTER MEET", HOST, self.nodes[0].port, bus)
        eventually(self._serves, _DEADLINE_SECONDS, what="the cluster")

    def _serves(self) -> bool:
        for node in self.nodes:
            with redis.Redis(host=HOST, port=node.port, decode_responses=True) as client:
                known: dict[str, str] = client.execute_command("CLUSTER INFO")
                if known["cluster_state"] != "ok" or int(known["cluster_size"]) < len(self.nodes):
                    return False
        return True

    def owner(self, key: str) -> Valkey:
        """The node whose slot the key is in."""
        return self.nodes[key_slot(key.encode()) // -(-_SLOTS // len(self.nodes))]

    def move(self, key: str, target: Valkey) -> None:
        """Gives the key's slot to another node. What was in it is gone, as after the fail-over to
        a node that had nothing of it."""
        slot = key_slot(key.encode())
        with redis.Redis(host=HOST, port=target.port, decode_responses=True) as client:
            identity = client.execute_command("CLUSTER MYID")
        for node in self.nodes:
            with redis.Redis(host=HOST, port=node.port) as client:
                while not _gives_up(client, slot, identity):
                    pass  # somebody wrote into it meanwhile

    def stop(self) -> None:
        """Ends all nodes."""
        for node in self.nodes:
            node.stop()


def _gives_up(client: Any, slot: int, identity: str) -> bool:
    while keys := client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
        client.delete(*keys)
    try:
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", identity)
    except redis.ResponseError as why:
        if "still hold keys" not in str(why):
            raise
        return False
    return True
