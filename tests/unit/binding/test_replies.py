"""Answers are answers, refusals are raised."""

import pytest
from google.protobuf.message import DecodeError

from services.binding import replies
from services.binding.ports import Lost
from services.runtime.errors import DataLoss, FailedPrecondition, Malformed


def test_an_answer_is_a_hash_and_an_id() -> None:
    assert replies.answer(b"h" * 16 + b"b1") == (b"h" * 16, "b1")


def test_a_write_gives_its_sequence_or_is_lost() -> None:
    assert replies.applied([b"OK", b"7"]) == 7
    for refusal in (b"STALE", b"EARLY"):
        with pytest.raises(Lost):
            replies.applied([refusal])


@pytest.mark.parametrize("why", [DecodeError, Malformed("ROUTE_MALFORMED"), ValueError])
def test_what_does_not_decode_is_a_failure_of_the_record(why: type[Exception]) -> None:
    with pytest.raises(DataLoss, match="RECORD_UNREADABLE"), replies.decoding():
        raise why


def test_a_missing_consent_names_its_side() -> None:
    with pytest.raises(FailedPrecondition) as missing:
        replies.refuse([b"CONSENT_MISSING", b"A"])
    assert missing.value.metadata == {"party": "A"}
    replies.refuse([b"NUMBER_FULL"])


def test_a_blacklist_says_whose_it_is_and_whom_it_holds() -> None:
    with pytest.raises(FailedPrecondition) as listed:
        replies.refuse([b"PARTY_BLACKLISTED", b"pool", b"A_TO_B"])
    assert listed.value.reason == "PARTY_BLACKLISTED"
    assert listed.value.metadata == {"scope": "pool", "target": "A_TO_B"}
