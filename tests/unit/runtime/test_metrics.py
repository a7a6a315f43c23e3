"""The set of metrics is closed, and so are the values of their labels."""

import pytest
from prometheus_client import generate_latest

from services.runtime.metrics import Metrics, Name


def test_the_service_stands_in_front_of_the_name() -> None:
    metrics = Metrics("sample")
    metrics.counter(Name.RPC_FAILURES, method="t.Echo/Unary", code="NOT_FOUND").inc()
    metrics.histogram(Name.RPC_SECONDS, method="t.Echo/Unary").observe(0.003)
    metrics.gauge(Name.READY).set(1)
    text = generate_latest(metrics.registry).decode()
    assert 'sample_rpc_failures_total{code="NOT_FOUND",method="t.Echo/Unary"} 1.0' in text
    assert 'sample_rpc_seconds_bucket{le="0.005",method="t.Echo/Unary"} 1.0' in text
    assert "sample_ready 1.0" in text


def test_asking_twice_gives_the_same_metric() -> None:
    metrics = Metrics("sample")
    assert metrics.gauge(Name.READY) is metrics.gauge(Name.READY)


def test_two_processes_in_one_test_do_not_clash() -> None:
    Metrics("sample").gauge(Name.READY).set(1)
    Metrics("sample").gauge(Name.READY).set(1)


@pytest.mark.parametrize(
    "labels",
    [
        {"method": "t.Echo/Unary"},
        {"method": "t.Echo/Unary", "code": "SO_SO"},
        {"method": "13812345678", "code": "OK"},
        {"method": "has space", "code": "OK"},
        {"method": "", "code": "OK"},
        {"method": "t.Echo/Unary", "code": "OK", "more": "x"},
    ],
)
def test_labels_outside_their_set_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"label|set"):
        Metrics("sample").counter(Name.RPC_FAILURES, **labels)


def test_a_label_cannot_grow_for_ever() -> None:
    metrics = Metrics("sample")
    for number in range(1024):
        metrics.histogram(Name.RPC_SECONDS, method=f"m{number}")
    metrics.histogram(Name.RPC_SECONDS, method="m0")
    with pytest.raises(ValueError, match="too many"):
        metrics.histogram(Name.RPC_SECONDS, method="one-more")


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="is a gauge"):
        Metrics("sample").counter(Name.READY)


def test_every_row_is_named_once_and_explained() -> None:
    names = [name.value.name for name in Name]
    assert len(set(names)) == len(names)
    for name in Name:
        assert name.value.help.endswith(".")
        assert (name.value.kind == "counter") == name.value.name.endswith("_total")
