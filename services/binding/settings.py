"""What binding reads from its environment, once.

Refuses defaults for what must be chosen. Invariant: no value is printed.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import RedisSettings

CellName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
TenantCells = dict[str, Annotated[tuple[CellName, ...], Field(min_length=1, max_length=16)]]


class BindingSettings(RedisSettings):
    """`BINDING_LISTEN`, `BINDING_REDIS_URL` and so on."""

    model_config = SettingsConfigDict(env_prefix="BINDING_")

    allocator_target: str = Field(min_length=1)  # host:port of allocator's gRPC
    keyring_dir: Path  # the key ring's folder
    evidence_public_key: Path  # PEM, X25519; see services/runtime/keyring.py
    # A binding ends at least this far ahead. Lowered only to show an expiry without waiting for it.
    minimum_life_seconds: int = Field(default=60, ge=1, le=86_400)
    # Names the keys that wrap route keys. To rotate them, give all processes a name never used.
    route_wrapping: str = Field(default="1", pattern=r"^[a-z0-9-]{1,16}$")
    cell: CellName = "c0"
    # Tenants with several cells, as JSON: {"didi": ["c0", "c1"]}. All others live in `cell`. A cell
    # may be added to a tenant's; one may be taken away once it has no binding of the tenant.
    tenant_cells: TenantCells = Field(default_factory=dict)
    # Allocators of cells, as JSON, where it is not `allocator_target`: each cell owns its blocks.
    cell_allocators: dict[CellName, str] = Field(default_factory=dict)

    def cells_of(self, tenant: str) -> tuple[str, ...]:
        """The cells of a tenant."""
        return self.tenant_cells.get(tenant, (self.cell,))

    def allocator_of(self, cell: str) -> str:
        """Where the numbers of a cell come from."""
        return self.cell_allocators.get(cell, self.allocator_target)

    @property
    def cells(self) -> tuple[str, ...]:
        """Every cell that this process serves, its own first."""
        several = sorted({name for names in self.tenant_cells.values() for name in names})
        return (self.cell, *(name for name in several if name != self.cell))
