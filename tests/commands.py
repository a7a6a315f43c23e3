"""Runs a service's maintenance commands as a person would: in a process of their own."""

import asyncio
import json
import os
import sys
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings


async def run_command(service: str, command: str, settings: BaseSettings) -> tuple[int, Any]:
    """The exit status of `python -m services.<service> <command>`, and what it said."""
    environment = {
        f"{service}_{name}".upper(): str(
            value.get_secret_value() if isinstance(value, SecretStr) else value
        )
        for name, value in settings
        if name in type(settings).model_fields and name in settings.model_fields_set
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{service}", command,
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, json.loads(said) if said.startswith(b"{") else None
