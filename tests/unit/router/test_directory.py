"""The directory of platforms: whole and unambiguous, or none."""

import json

import pytest

from services.router.directory import Platform, parse
from tests.unit.router.platforms import OTHER, OWN, TEXT


def test_a_block_has_its_holder() -> None:
    directory = parse(TEXT)
    assert directory.own == Platform("own", "Own", "taxi", "tel:12300", "own.example")
    assert directory.holder("700123456780001") == directory.own
    other = directory.holder("700888888889999")
    assert other is not None
    assert (other.id, other.endpoint) == ("other", "192.0.2.1:5070")
    assert directory.holder("700000000000001") is None


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"own": "own", "platforms": 7}', "[" * 100_000,
    json.dumps({"own": "own", "platforms": [OTHER]}),
    json.dumps({"own": "own", "platforms": [OWN, OWN]}),
    json.dumps({"own": "own", "platforms": [OWN, {**OTHER, "blocks": OWN["blocks"]}]}),
    json.dumps({"own": "own", "platforms": [{**OWN, "blocks": ["7001234567"]}]}),
    json.dumps({"own": "own", "platforms": [{**OWN, "blocks": ["80012345678"]}]}),
    json.dumps({"own": "own", "platforms": [{**OWN, "endpoint": "sip:own.example"}]}),
    json.dumps({"own": "own", "platforms": [{**OWN, "more": 1}]}),
])  # fmt: skip
def test_what_is_no_directory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
