"""The policy file: what it takes, what it refuses, and when it is satisfied."""

import pytest

from services.audit.cosignature import WitnessSigner
from services.audit.policy import BadPolicy, Policy

KEYS = [WitnessSigner.generate(f"witness.example/{n}").verifier.vkey for n in range(3)]
A, B, C = KEYS
THREE = "".join(f"witness w{n} {vkey} http://127.0.0.1:{n}/\n" for n, vkey in enumerate(KEYS))


def test_two_of_three() -> None:
    policy = Policy.parse(f"log ignored\n{THREE}# a comment\n\ngroup g 2 w0 w1 w2\nquorum g # so")
    assert [witness.url for witness in policy.witnesses] == [
        f"http://127.0.0.1:{n}" for n in (0, 1, 2)
    ]
    satisfied = [set(), {A}, {A, C}, {A, B, C}, {"another", A}]
    assert [policy.satisfied(keys) for keys in satisfied] == [False, False, True, True, False]


def test_groups_of_groups() -> None:
    text = "group g any w0 w1\ngroup h all g w2\nquorum h"
    policy = Policy.parse(THREE + text)
    cases = {A: False, A + " " + B: False, A + " " + C: True, C: False}
    for keys, expected in cases.items():
        assert policy.satisfied(keys.split()) is expected
    assert Policy.parse(f"{THREE}quorum w1").satisfied([B])
    assert Policy.parse("quorum none").satisfied([])


@pytest.mark.parametrize(
    "text",
    [
        "", THREE, "quorum w0", f"{THREE}quorum w0\nquorum w1", "group g 1\nquorum none",
        f"{THREE}group g 4 w0 w1 w2\nquorum g", f"{THREE}group g 0 w0\nquorum g",
        f"{THREE}group g x w0\nquorum g", f"{THREE}group g 1 g\nquorum g", "nonsense\nquorum none",
        f"{THREE}group g 1 w0 w0\nquorum g", f"{THREE}witness w0 {A} http://x\nquorum none",
        f"{THREE}witness w9 {A} http://x\nquorum none", "witness w0 key http://x\nquorum none",
        f"witness w0 {A} ftp://x\nquorum none", f"witness none {A} http://x\nquorum none",
        f"{THREE}group all 1 w0\nquorum all",
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(BadPolicy):
        Policy.parse(text)
