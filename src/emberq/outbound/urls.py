"""The form of URLs that settings and requests may name; where they lead is checked at each connection."""

from __future__ import annotations

import re

#: Longest URL, in characters.
_MAX_CHARACTERS = 2048
#: The part between `//` and the path: a host name in ASCII, an IPv4 address, or an IPv6 address in brackets,
#: then perhaps a port. A host name may look like `0x7f.1`: the resolver's answer is what is checked.
_AUTHORITY = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_PORTS = range(1, 65536)


def check_url(url: str) -> str:
    """Return a URL if outgoing requests may be sent to it.

    Raises:
        ValueError: If it is not an absolute `http://` or `https://` URL in ASCII with a host, or if it
            contains a user name, a password, a fragment, a space or a backslash.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in ("http", "https") or not separator:
        msg = "must begin with http:// or https://"
        raise ValueError(msg)
    if len(url) > _MAX_CHARACTERS or not url.isascii() or not url.isprintable() or set(url) & set(" \\#"):
        msg = f"must be at most {_MAX_CHARACTERS} characters of ASCII without spaces, # and backslashes"
        raise ValueError(msg)
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    if "@" in authority:
        msg = "must not contain a user name or a password"
        raise ValueError(msg)
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or int(parts["port"] or 80) not in _PORTS:
        msg = "must name a host, and a port from 1 to 65535 if it is not the usual one"
        raise ValueError(msg)
    return url
