"""One Kafka message as a record, or as the error that it stands for.

Refuses to hide an error that the client does not recover from. Invariant: an error that says that
Kafka has other records than those wanted is a LogMoved.
"""

from confluent_kafka import KafkaError, KafkaException, Message

from services.runtime.record import Record


class LogMoved(KafkaException):
    """Kafka has other records than were read, or not those wanted: look again where to read on."""


def to_record(message: Message) -> Record | None:
    """The record; None for an error that the client itself retries.

    Raises:
        KafkaException: the error is final; LogMoved: the offset wanted is not there.
    """
    error = message.error()
    if error is not None:
        if error.code() in _MOVED:
            raise LogMoved(error)
        if error.fatal() or error.code() in FINAL:
            raise KafkaException(error)
        return None
    _, timestamp = message.timestamp()
    headers = message.headers()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise KafkaException(KafkaError(KafkaError._BAD_MSG))
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=_bytes(message.key()),
        value=None if message.value() is None else _bytes(message.value()),
        headers=list(headers.items()) if isinstance(headers, dict) else headers or [],
        timestamp_ms=timestamp,
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


FINAL = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
_MOVED = {
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
}
