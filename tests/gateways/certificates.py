"""A certificate authority of a test's own, and what it or somebody else may certify."""

import ipaddress
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE: Final = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE: Final = x509.DNSName("api.tosspayments.com")


@dataclass(frozen=True)
class Authority:
    """Whoever trusts its certificate trusts every server that it certifies."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("an authority of the tests")
        now = datetime.now(UTC)
        builder = _builder(name, name, key, from_=now - timedelta(days=9), until=now + timedelta(days=9))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def write_to(self, file: Path) -> Path:
        file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def server(self, folder: Path, *, named: x509.GeneralName = HERE, expired: bool = False) -> ssl.SSLContext:
        """How a server speaks TLS that this authority has certified."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        until = now - timedelta(hours=1) if expired else now + timedelta(days=1)
        builder = _builder(_name("a server"), self.certificate.subject, key, from_=now - timedelta(days=2), until=until)
        builder = builder.add_extension(x509.SubjectAlternativeName([named]), critical=False)
        return _context(folder, key, builder.sign(self.key, hashes.SHA256()))


def self_signed(folder: Path) -> ssl.SSLContext:
    """How a server speaks TLS that nobody has certified."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = _name("nobody")
    builder = _builder(name, name, key, from_=now - timedelta(days=1), until=now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([HERE]), critical=False)
    return _context(folder, key, builder.sign(key, hashes.SHA256()))


def antiquated(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The same, of a version that is broken, and with the weak ciphers that it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what it is about
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, from_: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(from_)
        .not_valid_after(until)
    )


def _context(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    in_pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(in_pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(in_pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


# Servers that nobody may believe who trusts one authority alone, by whom, or for what, they are certified.
UNTRUSTED: Final[dict[str, Callable[[Authority, Path], ssl.SSLContext]]] = {
    "by itself": lambda _, folder: self_signed(folder),
    "by a stranger": lambda _, folder: Authority.create().server(folder),
    "for another host": lambda authority, folder: authority.server(folder, named=ELSEWHERE),
    "until an hour ago": lambda authority, folder: authority.server(folder, expired=True),
}
