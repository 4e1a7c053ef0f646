"""Addresses of hosts, as the user gives them."""

import ipaddress
import re
from urllib.parse import urlsplit

from .errors import FleetError


def checked_url(text: str) -> str:
    """The address of a host as http(s)://name[:port]. Raises FleetError for anything else."""
    try:
        parts = urlsplit(text.strip())
        name, port = parts.hostname or "", parts.port
        if ":" in name:
            ipaddress.IPv6Address(name)
            name = f"[{name}]"
        elif not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
            raise ValueError("it has no proper host name")
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.path not in ("", "/"):
            raise ValueError("it has a user, a path or another scheme")
        if parts.query or parts.fragment:
            raise ValueError("it has a query")
    except ValueError as error:
        raise FleetError(f"{text!r} is not an address such as http://127.0.0.1:8188: {error}") from error
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "")
