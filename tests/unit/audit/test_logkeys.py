"""Keys of a log: their file, and which changes are possible."""

import pytest

from services.audit.checkpoint import BadKey, NoteSigner
from services.audit.logkeys import LogKeys

ORIGIN = "axbridge.example/log"


def one() -> LogKeys:
    return LogKeys([NoteSigner.generate(ORIGIN)])


def test_a_change_as_planned_and_its_file() -> None:
    old = one()
    both = old.with_new()
    assert both.vkeys[0] == old.vkeys[0]
    new = both.without_old()
    assert new.vkeys == both.vkeys[1:]
    assert [(end.verifier.vkey, end.compromised) for end in new.ended] == [(old.vkeys[0], False)]
    for keys in (old, both, new):
        text = keys.render()
        again = LogKeys.parse(text, ORIGIN)
        assert (again.render(), again.vkeys, again.ended) == (text, keys.vkeys, keys.ended)
    assert "PRIVATE" not in repr(both)


def test_a_revocation_ends_every_key_at_once() -> None:
    both = one().with_new()
    new = both.revoked()
    assert len(new.vkeys) == 1
    assert [(end.verifier.vkey, end.compromised) for end in new.ended] == [
        (vkey, True) for vkey in both.vkeys
    ]
    assert LogKeys.parse(new.render(), ORIGIN).ended == new.ended


def test_what_cannot_be() -> None:
    with pytest.raises(BadKey, match="finish"):
        one().with_new().with_new()
    with pytest.raises(BadKey, match="begin"):
        one().without_old()
    with pytest.raises(BadKey, match="not of 'other'"):
        LogKeys.parse(one().render(), "other")
    ended = one().with_new().without_old()
    for text in ("", "nonsense\n", f"rotated {ended.vkeys[0]}\n", "rotated x\n" + one().render()):
        with pytest.raises(BadKey):
            LogKeys.parse(text, ORIGIN)
