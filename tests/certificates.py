"""Certificates for tests, made as they are needed: an authority signs whatever a test asks for.

All are PEM, as the credentials take them. Keys are P-256 because they are made in no time.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
import textwrap
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A private key and its certificate, with those that lead to the authority."""

    key: bytes
    chain: bytes

    @property
    def pair(self) -> tuple[bytes, bytes]:
        return self.key, self.chain


def _pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def name_of(common_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests, Inc.")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def alt_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if name.startswith("dns:"):
        return x509.DNSName(name[4:])
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def linked(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Says whose key it is and whose key signs it (RFC 5280 §4.2.1.1): Python's ssl asks for that since 3.13."""
    subject = x509.SubjectKeyIdentifier.from_public_key(key)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer)
    return builder.add_extension(subject, critical=False).add_extension(authority, critical=False)


#: What an authority's key is for (RFC 5280 §4.2.1.3).
SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "Test Authority", parent: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name_of(name)
        signer = parent or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNS, critical=True)
        )
        builder = linked(builder, self.key.public_key(), signer.key.public_key())
        self.certificate = builder.sign(signer.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        #: What leads from here to the root, without it.
        self.links = b"" if parent is None else self.pem + parent.links

    def identity(
        self,
        *names: str,
        common_name: str = "test",
        from_days: int = -1,
        to_days: int = 20,
        expires: datetime.datetime | None = None,
        usage: x509.ObjectIdentifier | None = None,
        is_authority: bool = False,
        password: bytes | None = None,
    ) -> Identity:
        """A new key with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(common_name))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + from_days * DAY)
            .not_valid_after(expires or NOW + to_days * DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        builder = linked(builder, key.public_key(), self.key.public_key())
        if names:
            alt_names = x509.SubjectAlternativeName([alt_name(name) for name in names])
            builder = builder.add_extension(alt_names, critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Identity(_pem(key, password), certificate + self.links)


CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@functools.cache
def authority() -> Authority:
    """The authority of most tests."""
    return Authority()


@functools.cache
def localhost() -> Identity:
    """A server at this machine's own names."""
    return authority().identity("localhost", "127.0.0.1", "::1")


@functools.cache
def client() -> Identity:
    """A client with a name."""
    return authority().identity("client.test", common_name="A Client")


def self_signed(common_name: str) -> Identity:
    """What `openssl req -x509` makes: an authority's certificate, with nothing but a common name."""
    authority = Authority(common_name)
    return Identity(_pem(authority.key), authority.pem)


def version_1(common_name: str, signer: Authority) -> Identity:
    """What `openssl x509 -req` made for many years: a certificate of version 1, which cannot hold names.

    It is made of one of version 3, because nothing makes them any more: without its version and its extensions, and
    signed again.
    """
    made = signer.identity(common_name=common_name)
    body = parts(x509.load_pem_x509_certificate(made.chain).tbs_certificate_bytes)
    kept = b"".join(part for part in body if part[0] not in (0xA0, 0xA3))
    signed = der(0x30, kept)
    algorithm = body[2]
    signature = signer.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    certificate = x509.load_der_x509_certificate(der(0x30, signed + algorithm + der(0x03, b"\0" + signature)))
    assert certificate.version is x509.Version.v1
    return Identity(made.key, certificate.public_bytes(serialization.Encoding.PEM) + signer.links)


def pem_of(octets: bytes) -> bytes:
    """A certificate as PEM, whether or not it can be read."""
    lines = textwrap.fill(base64.b64encode(octets).decode(), 64)
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


def der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def parts(sequence: bytes) -> list[bytes]:
    """The elements of a sequence, each as it is encoded."""

    def end_of_header(at: int) -> tuple[int, int]:
        first = sequence[at + 1]
        if first < 128:
            return at + 2, first
        count = first & 0x7F
        return at + 2 + count, int.from_bytes(sequence[at + 2 : at + 2 + count], "big")

    at, _ = end_of_header(0)
    found = []
    while at < len(sequence):
        start, length = end_of_header(at)
        found.append(sequence[at : start + length])
        at = start + length
    return found
