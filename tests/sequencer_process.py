"""The sequencer over a test's own topics: `python -m tests.sequencer_process KIND=TOPIC …`, where
KIND is the topic of the catalogue whose events TOPIC holds."""

import sys
from dataclasses import replace

from services.audit import sequencer
from services.runtime.topics import CATALOGUE, Topic


def topics_of(arguments: list[str]) -> list[Topic]:
    kinds = {topic.name: topic for topic in CATALOGUE}
    pairs = [argument.split("=") for argument in arguments]
    return [replace(kinds[kind], name=name) for kind, name in pairs]


if __name__ == "__main__":
    sequencer.main(topics_of(sys.argv[1:]))
