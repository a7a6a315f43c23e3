"""What a broker finds on disk before its first start. Starting it is a contract test."""

from pathlib import Path

import pytest

from deploy.local.jars import KafkaInstall
from deploy.local.kafka import Kafka


@pytest.fixture
def install(tmp_path: Path) -> KafkaInstall:
    install = KafkaInstall(tmp_path / "install")
    checkpoint = install.template / "__cluster_metadata-0" / "0.checkpoint"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"features")
    return install


def _properties(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_formatting_writes_settings_template_and_identity(
    tmp_path: Path, install: KafkaInstall
) -> None:
    kafka = Kafka(tmp_path / "kafka", port=21_234, install=install)
    kafka._format()
    settings = _properties(kafka.folder / "server.properties")
    assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:21234"
    assert settings["auto.create.topics.enable"] == "false"
    assert str(kafka.controller_port) in settings["controller.quorum.voters"]
    data = Path(settings["log.dirs"])
    assert (data / "__cluster_metadata-0" / "0.checkpoint").read_bytes() == b"features"
    assert _properties(data / "meta.properties")["node.id"] == "1"


def test_formatting_again_keeps_identity_and_data(tmp_path: Path, install: KafkaInstall) -> None:
    kafka = Kafka(tmp_path / "kafka", install=install)
    kafka._format()
    data = kafka.folder / "data"
    before = (data / "meta.properties").read_text()
    (data / "__cluster_metadata-0" / "0.checkpoint").write_bytes(b"grown")
    Kafka(tmp_path / "kafka", install=install)._format()
    assert (data / "meta.properties").read_text() == before
    assert (data / "__cluster_metadata-0" / "0.checkpoint").read_bytes() == b"grown"


def test_a_start_that_was_cut_off_is_formatted_anew(tmp_path: Path, install: KafkaInstall) -> None:
    kafka = Kafka(tmp_path / "kafka", install=install)
    cluster = kafka._format()
    data = kafka.folder / "data"
    (data / "meta.properties").unlink()
    (data / "half").touch()
    assert kafka._format() != cluster
    assert not (data / "half").exists()


def test_two_brokers_have_identities_of_their_own(tmp_path: Path, install: KafkaInstall) -> None:
    identities = []
    for name in ("one", "two"):
        kafka = Kafka(tmp_path / name, install=install)
        kafka._format()
        identities.append(_properties(kafka.folder / "data" / "meta.properties"))
    one, two = identities
    assert one["cluster.id"] != two["cluster.id"]
    assert one["directory.id"] != two["directory.id"]
