"""Two platforms, as a directory has them. Pure."""

import json
from typing import Any

from services.router.directory import Directory, Platform

OWN: dict[str, Any] = {
    "id": "own", "name": "Own", "sector": "taxi", "complaints": "tel:12300",
    "endpoint": "own.example", "blocks": ["70012345678"],
}  # fmt: skip
OTHER = {**OWN, "id": "other", "endpoint": "192.0.2.1:5070", "blocks": ["70088888888"]}
TEXT = json.dumps({"own": "own", "platforms": [OWN, OTHER]})


class MemoryPlatforms:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def own(self) -> Platform:
        return self._directory.own

    def holder(self, number: str) -> Platform | None:
        return self._directory.holder(number)
