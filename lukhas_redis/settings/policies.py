"""What each type of context gets when the caller does not say: lifetime, compression, share of the room, caching.

What belongs here: the policy model and the policies of the six built-in types. What does not: applying them.
Invariant: a type nobody described behaves like `ContextPolicy()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class ContextPolicy(BaseModel):
    """How contexts of one type are kept.

    `ttl_seconds` None means the setting `default_ttl_seconds`; a number must lie in `min_ttl_seconds` ..
    `max_ttl_seconds`. `capacity_share` is the part of the tenant's capacity this type may fill, 0 < share <= 1.
    `near_cache`: restored contexts of the type are held by the process, where the setting `near_cache` is `by_type`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ttl_seconds: int | None = None
    compression: Literal["auto", "none", "light", "standard", "aggressive"] = "auto"
    capacity_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    near_cache: bool = False


# No type has a lifetime of its own: `preserve` promises 3,600 seconds for every type, and a built-in value could
# fall outside bounds that an operator narrows.
BUILT_IN_POLICIES: Final[Mapping[str, ContextPolicy]] = MappingProxyType(
    {
        "conversation": ContextPolicy(),
        "session": ContextPolicy(),
        "user_profile": ContextPolicy(near_cache=True),  # read often, written rarely
        "system_state": ContextPolicy(near_cache=True),
        "routing_metadata": ContextPolicy(compression="light"),  # on the path of every routed call
        "performance_data": ContextPolicy(compression="aggressive"),  # repetitive numbers, read rarely
    }
)
