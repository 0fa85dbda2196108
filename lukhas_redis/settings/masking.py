"""Hiding the secrets of a URL before anybody sees it.

What belongs here: what is secret in a connection URL. What does not: parsing the URL (the transport does).
Invariant: a masked URL holds no password, also when the URL itself is malformed.
"""

from __future__ import annotations

import re

# Greedy up to the last '@', with or without a scheme before it: a password that holds '/', '@' or ':' unescaped is
# still hidden as a whole. Hiding a part of a strange URL too much is the better mistake.
_USERINFO = re.compile(r"(?:(?<=://)|^(?![A-Za-z][\w+.-]*://))([^:@]*):.*@", re.DOTALL)
_QUERY = re.compile(r"([?&][^=&#]*(?:password|passwd|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE)


def mask_url(url: str) -> str:
    """Return `url` with every password in it, in the user part or in the query, replaced by `***`."""
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1:***@", url))
