"""A certificate for `localhost` that nobody trusts by itself, so that TLS can be tested: its key is no secret."""

import ssl
from pathlib import Path
from typing import Final

PEM: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVbgi6e8hS7wNMLXh
iKR0+qOz8f1tsNacLz8+u3TujdyhRANCAATTLahfS/Prfp5yMni1Da9uEax+xLNA
Zk8tK+ZFpdGAR7P/U96pnzQNxHun2QrT33AuSZRgCJBmBUg7Si1qM0oc
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBTzCB9qADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z
dDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
bG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0y2oX0vz636ecjJ4
tQ2vbhGsfsSzQGZPLSvmRaXRgEez/1PeqZ80DcR7p9kK099wLkmUYAiQZgVIO0ot
ajNKHKM3MDUwFAYDVR0RBA0wC4IJbG9jYWxob3N0MB0GA1UdDgQWBBTwjt1q9qxs
XoGSNEZgLrBX9v4/BDAKBggqhkjOPQQDAgNIADBFAiBnMK5LyIopKuymd6R/t1X9
d67tfAXr+2EQRjEwSFkCWgIhAMyNiCWIlvrSimix3MogTwf+FKY0d7MxZmp6BCoJ
aekE
-----END CERTIFICATE-----
"""


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server of that name, and for a client that trusts it."""
    file = folder / "localhost.pem"
    file.write_text(PEM)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=PEM[PEM.index("-----BEGIN CERT") :])
