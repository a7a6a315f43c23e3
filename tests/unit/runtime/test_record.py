from services.runtime.envelope import Envelope
from services.runtime.record import Record


def test_a_record_shows_its_position_and_nothing_of_its_payload() -> None:
    headers = Envelope("id-1", "type", "source", 5).headers()
    record = Record("topic", 3, 42, b"secret-key", b"secret-value", headers, 7)
    assert repr(record) == "<Record topic[3]@42>"
    assert record.envelope.event_id == "id-1"
