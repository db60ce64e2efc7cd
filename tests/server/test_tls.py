"""HTTPS with a certificate that signs itself."""

import shutil
import ssl
from pathlib import Path

import pytest

from snugly.errors import UserError
from snugly.server.tls import own_certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_made_once_and_private(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path, "192.168.1.5")
    assert key.stat().st_mode & 0o777 == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    decoded = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
    names = {value for _, value in decoded["subjectAltName"]}
    assert {"localhost", "127.0.0.1", "192.168.1.5"} <= names
    before = certificate.read_bytes()
    assert own_certificate(tmp_path, "192.168.1.5")[0].read_bytes() == before


def test_without_openssl_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="--cert"):
        own_certificate(tmp_path, "127.0.0.1")
