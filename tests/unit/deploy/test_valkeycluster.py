"""A cluster serves all slots as one, and a slot can be given to another node."""

from pathlib import Path

import redis

from deploy.local.places import HOST
from deploy.local.valkeycluster import ValkeyCluster


def test_a_cluster_serves_as_one_and_moves_a_slot(tmp_path: Path) -> None:
    with ValkeyCluster(tmp_path) as cluster:
        assert cluster.url.startswith("redis+cluster://")
        assert cluster.url.count(",") == 2
        with redis.RedisCluster(host=HOST, port=cluster.nodes[1].port) as client:
            for number in range(100):
                client.set(f"k{number}", number)
            assert client.get("k42") == b"42"
            owner = cluster.owner("k42")
            other = next(node for node in cluster.nodes if node is not owner)
            cluster.move("k42", other)
            assert client.get("k42") is None
        with redis.Redis(host=HOST, port=other.port) as node:
            assert node.set("k42", "new")
