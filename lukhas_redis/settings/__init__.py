"""The settings of one process: every limit in one frozen, typed model, and where each value came from.

What belongs here: fields with their ranges (`model`), the four sources and their order (`layers`), policies per
context type, the resource-limits document, the reference table of the documentation. What does not: a tenant's
mode and flags, which live in Redis and change at run time.
Invariant: a `Settings` that exists is valid as a whole; a mistake is an `InvalidArgument` that names the field.
"""

from lukhas_redis.settings.masking import mask_url
from lukhas_redis.settings.model import Settings
from lukhas_redis.settings.policies import BUILT_IN_POLICIES, ContextPolicy

__all__ = ["BUILT_IN_POLICIES", "ContextPolicy", "Settings", "mask_url"]
