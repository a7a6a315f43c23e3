"""The edge chooses the use case; the rest is tests/component/test_audit_service.py."""

from typing import Any

import pytest
from axbridge.audit.v1 import audit_service_pb2 as service

from services.audit.handlers import Consistency, Inclusion
from services.audit.servicer import AuditServicer
from services.runtime.errors import InvalidArgument

CONTEXT: Any = None


class Answers:
    """Use cases that tell what they were asked."""

    def prove_event(self, event_id: str, size: int) -> Inclusion:
        return Inclusion(len(event_id), size, b"hash", [b"a"], b"note")

    def prove_leaf(self, leaf: int, size: int) -> Inclusion:
        return Inclusion(leaf, size, b"hash", [], b"")

    def prove_growth(self, first: int, second: int) -> Consistency:
        return Consistency(first, second, [b"a", b"b"])


def test_proofs_by_id_by_index_and_of_growth() -> None:
    answers: Any = Answers()
    servicer = AuditServicer(answers, answers)
    ask = service.GetInclusionProofRequest
    by_id = servicer.GetInclusionProof(ask(event_id="four", tree_size=9), CONTEXT)
    assert (by_id.leaf_index, by_id.tree_size, by_id.checkpoint) == (4, 9, "note")
    by_index = servicer.GetInclusionProof(ask(leaf_index=0), CONTEXT)  # 0 is given, not absent
    assert (by_index.leaf_index, list(by_index.hashes)) == (0, [])
    with pytest.raises(InvalidArgument):
        servicer.GetInclusionProof(ask(), CONTEXT)
    request = service.GetConsistencyProofRequest(first_size=3, second_size=8)
    growth = servicer.GetConsistencyProof(request, CONTEXT)
    assert (growth.first_size, growth.second_size, len(growth.hashes)) == (3, 8, 2)
