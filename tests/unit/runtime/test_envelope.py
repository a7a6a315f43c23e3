from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.envelope import Envelope, epoch_ms, header_int, parse, rfc3339
from services.runtime.errors import Malformed

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
COUNT = st.integers(0, 2**53)


@given(TEXT, TEXT, TEXT, st.integers(0, 4_000_000_000_000), COUNT, COUNT, COUNT)
def test_what_is_written_is_read(
    event_id: str, kind: str, source: str, time_ms: int, version: int, epoch: int, sequence: int
) -> None:
    envelope = Envelope(event_id, kind, source, time_ms, version, epoch, sequence)
    headers = envelope.headers()
    assert parse(headers) == envelope
    assert header_int(headers, "ce_axepoch") == epoch


@given(st.integers(0, 4_000_000_000_000))
def test_times_keep_their_milliseconds(time_ms: int) -> None:
    assert epoch_ms(datetime.fromisoformat(rfc3339(time_ms))) == time_ms


def test_a_time_reads_as_rfc_3339() -> None:
    moment = datetime(2026, 11, 25, 8, 0, 0, 7000, tzinfo=UTC)
    assert rfc3339(epoch_ms(moment)) == "2026-11-25T08:00:00.007Z"


@pytest.mark.parametrize("missing", ["ce_id", "ce_type", "ce_source", "ce_time"])
def test_a_record_without_its_headers_is_malformed(missing: str) -> None:
    headers = Envelope("id", "type", "source", 1).headers()
    with pytest.raises(Malformed, match="ENVELOPE_MALFORMED"):
        parse([header for header in headers if header[0] != missing])


@pytest.mark.parametrize("name", ["ce_time", "ce_axversion", "ce_axepoch"])
def test_a_header_that_is_not_what_it_should_be_is_malformed(name: str) -> None:
    headers = [
        (key, b"x" if key == name else value)
        for key, value in Envelope("id", "type", "source", 1).headers()
    ]
    with pytest.raises(Malformed):
        parse(headers)


def test_no_headers_at_all_are_malformed() -> None:
    with pytest.raises(Malformed):
        parse(None)
    assert header_int(None, "ce_axepoch") == 0
