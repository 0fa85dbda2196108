"""A throw-away certificate authority and a certificate for a server on the loopback interface.

What belongs here: making the files with the `openssl` program. What does not: how a server is told of them (see
`configuration`). Invariant: keys stay inside the given directory and are readable by their owner only.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lukhas_redis.errors import ServerUnsuitable

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of the authority's certificate, the server's certificate and the server's key."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make an authority and a server certificate for 127.0.0.1 and localhost, valid for two days.

    Raises:
        ServerUnsuitable: the `openssl` program is missing; a retry does not help.
    """
    if not shutil.which("openssl"):
        raise ServerUnsuitable("a TLS test server needs the `openssl` program on PATH to make its certificate")
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "names").write_text(_NAMES, encoding="ascii")
    _openssl(directory, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")
    _openssl(directory, "req", "-new", *_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    _openssl(
        directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "server.crt",
    )  # fmt: skip
    return Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, check=False, capture_output=True, text=True, timeout=30
    )
    if done.returncode:
        raise ServerUnsuitable(f"openssl {arguments[0]} failed in {directory}: {done.stderr.strip()}")
