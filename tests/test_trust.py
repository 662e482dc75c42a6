"""Whom either end trusts: everything that a certificate may be refused for, and the little that we take beyond webpki.

Each case is asked of a client about its server and of a server about its client. What grpcio 1.85.1 says is the same,
but where docs/decisions/0006-certificates-beyond-webpki.md has it otherwise.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

import certificates
import echo
from certificates import Identity, authority, localhost
from oxgrpc import StatusCode, aio, ssl_channel_credentials, ssl_server_credentials

HOST = "host.test"
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Hash = type[hashes.SHA256] | type[hashes.SHA1]


@dataclass(frozen=True)
class Made:
    """A key and its certificate, as DER, because some of them nothing else would read."""

    key: Key
    subject: x509.Name
    der: bytes

    @property
    def pem(self) -> bytes:
        return certificates.pem_of(self.der)

    def identity(self, *sent: Made) -> Identity:
        """With others that are sent along."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(key, b"".join(made.pem for made in (self, *sent)))

    def sign(self, octets: bytes, algorithm: Hash = hashes.SHA256) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(octets, padding.PKCS1v15(), algorithm())
        return self.key.sign(octets, ec.ECDSA(algorithm()))


def make(
    common_name: str,
    signer: Made | None = None,
    *names: str,
    is_authority: bool | None = None,
    path_length: int | None = None,
    uses: tuple[str, ...] = (),
    purpose: x509.ObjectIdentifier | None = None,
    permitted: str | None = None,
    is_critical: bool = True,
    unknown: bool = False,
    from_days: int = -2,
    to_days: int = 30,
    key: Key | None = None,
    second_name: str | None = None,
    raw_names: bytes | None = None,
) -> Made:
    """A certificate with everything that one may say, signed by `signer` or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = certificates.name_of(common_name)
    if second_name:
        subject = x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, second_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + from_days * DAY)
        .not_valid_after(NOW + to_days * DAY)
    )
    if is_authority is not None:
        constraints = x509.BasicConstraints(ca=is_authority, path_length=path_length)
        builder = builder.add_extension(constraints, critical=True)
    if names:
        alt_names = x509.SubjectAlternativeName([certificates.alt_name(name) for name in names])
        builder = builder.add_extension(alt_names, critical=False)
    if raw_names is not None:
        raw = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, certificates.der(0x30, raw_names))
        builder = builder.add_extension(raw, critical=False)
    if uses:
        every = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
        every += " crl_sign encipher_only decipher_only"
        usage = x509.KeyUsage(**{use: use in uses for use in every.split()})
        builder = builder.add_extension(usage, critical=True)
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if permitted:
        constraint = x509.NameConstraints([x509.DNSName(permitted)], None)
        builder = builder.add_extension(constraint, critical=is_critical)
    if unknown:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\4\1x")
        builder = builder.add_extension(extension, critical=is_critical)
    certificate = builder.sign(signer.key if signer else key, hashes.SHA256())
    return Made(key, subject, certificate.public_bytes(serialization.Encoding.DER))


def rewritten(
    made: Made,
    signer: Made,
    edit: Callable[[list[bytes]], list[bytes]],
    outside: bytes | None = None,
    algorithm: Hash = hashes.SHA256,
) -> Made:
    """The same certificate with its parts edited, signed again; `outside` is what it says it is signed by, outside."""
    body, own, _ = certificates.parts(made.der)
    signed = certificates.der(0x30, b"".join(edit(certificates.parts(body))))
    signature = certificates.der(0x03, b"\0" + signer.sign(signed, algorithm))
    return Made(made.key, made.subject, certificates.der(0x30, signed + (outside or own) + signature))


def version_1(made: Made, signer: Made | None = None) -> Made:
    """What `openssl x509 -req` makes: a certificate that cannot say anything."""
    return rewritten(made, signer or made, lambda parts: [part for part in parts if part[0] not in (0xA0, 0xA3)])


def root(**more: Any) -> Made:
    return make("A Root", is_authority=True, **more)


def leaf(signer: Made, *names: str, **more: Any) -> Made:
    return make(HOST, signer, *names, **{"is_authority": False, **more})


def sub(signer: Made, **more: Any) -> Made:
    return make("Below", signer, is_authority=True, **more)


#: Who is who, and who is trusted; `None`: the certificate itself.
Case = tuple[Identity, bytes]
TRUSTED: dict[str, Callable[[], Case]] = {}
REFUSED: dict[str, Callable[[], Case]] = {}
UNREADABLE: dict[str, Callable[[], Case]] = {}


def trusted(case: Callable[[], Case]) -> Callable[[], Case]:
    return TRUSTED.setdefault(case.__name__, case)


def refused(case: Callable[[], Case]) -> Callable[[], Case]:
    return REFUSED.setdefault(case.__name__, case)


def unreadable(case: Callable[[], Case]) -> Callable[[], Case]:
    return UNREADABLE.setdefault(case.__name__, case)


# What webpki does not judge


@trusted
def an_authority_that_proves_itself() -> Case:
    own = make(HOST, is_authority=True)
    return own.identity(), own.pem


@trusted
def one_who_is_no_authority_and_proves_itself() -> Case:
    own = make(HOST, None, HOST, is_authority=False)
    return own.identity(), own.pem


@trusted
def one_who_says_nothing_and_proves_itself() -> Case:
    own = make(HOST, None, HOST)
    return own.identity(), own.pem


@trusted
def one_that_is_trusted_whoever_has_signed_it() -> Case:
    own = leaf(root(), HOST)
    return own.identity(), own.pem


@trusted
def an_authority_that_the_root_has_signed() -> Case:
    signer = root()
    return leaf(signer, HOST, is_authority=True).identity(), signer.pem


@trusted
def version_1_that_the_root_has_signed() -> Case:
    signer = root()
    return version_1(make(HOST, signer), signer).identity(), signer.pem


@trusted
def version_1_that_a_root_of_version_1_has_signed() -> Case:
    signer = version_1(make("A Root"))
    return version_1(make(HOST, signer), signer).identity(), signer.pem


@trusted
def version_3_that_a_root_of_version_1_has_signed() -> Case:
    signer = version_1(make("A Root"))
    return leaf(signer, HOST).identity(), signer.pem


@trusted
def version_1_that_an_intermediate_authority_has_signed_which_is_trusted() -> Case:
    between = sub(root())
    return version_1(make(HOST, between), between).identity(), between.pem


@trusted
def a_chain_within_its_constraints() -> Case:
    signer = root(permitted="test")
    return leaf(signer, HOST).identity(), signer.pem


# What is refused, whatever its form


@refused
def version_1_that_an_intermediate_authority_has_signed() -> Case:
    """Here grpcio says yes."""
    signer = root()
    between = sub(signer)
    return version_1(make(HOST, between), between).identity(between), signer.pem


@refused
def an_authority_that_an_intermediate_authority_has_signed() -> Case:
    """Here grpcio says yes."""
    signer = root()
    between = sub(signer)
    return leaf(between, HOST, is_authority=True).identity(between), signer.pem


@refused
def one_that_is_trusted_and_no_authority_signs() -> Case:
    """Here grpcio says yes: whoever is trusted himself could be anybody else."""
    pinned = make("pinned.test", None, "pinned.test", is_authority=False)
    return leaf(pinned, HOST).identity(pinned), pinned.pem


@refused
def one_that_is_trusted_and_no_authority_signs_version_1() -> Case:
    pinned = make("pinned.test", None, "pinned.test", is_authority=False)
    return version_1(make(HOST, pinned), pinned).identity(pinned), pinned.pem


@refused
def version_1_that_is_sent_signs() -> Case:
    signer = root()
    between = version_1(make("Below", signer), signer)
    return leaf(between, HOST).identity(between), signer.pem


@refused
def version_1_that_is_sent_signs_version_1() -> Case:
    signer = root()
    between = version_1(make("Below", signer), signer)
    return version_1(make(HOST, between), between).identity(between), signer.pem


@refused
def one_that_is_sent_and_no_authority_signs() -> Case:
    signer = root()
    between = make("Below", signer, is_authority=False)
    return leaf(between, HOST).identity(between), signer.pem


@refused
def version_1_with_sha_1() -> Case:
    signer = root(key=rsa.generate_private_key(65537, 2048))
    made = version_1(make(HOST, signer), signer)
    sha1 = bytes.fromhex("300d06092a864886f70d0101050500")

    def edit(parts: list[bytes]) -> list[bytes]:
        return [parts[0], sha1, *parts[2:]]

    return rewritten(made, signer, edit, outside=sha1, algorithm=hashes.SHA1).identity(), signer.pem


@refused
def a_short_rsa_key_signs_version_1() -> Case:
    signer = root(key=rsa.generate_private_key(65537, 1024))
    return version_1(make(HOST, signer), signer).identity(), signer.pem


@refused
def an_unknown_authority_signs() -> Case:
    stranger, own = root(), leaf(root(), HOST, is_authority=True)
    return own.identity(stranger), stranger.pem


@refused
def a_root_that_has_expired() -> Case:
    signer = root(from_days=-9, to_days=-1)
    return leaf(signer, HOST).identity(), signer.pem


@refused
def a_root_that_has_expired_and_version_1() -> Case:
    signer = root(from_days=-9, to_days=-1)
    return version_1(make(HOST, signer), signer).identity(), signer.pem


@refused
def a_root_that_is_not_valid_yet() -> Case:
    signer = root(from_days=1)
    return leaf(signer, HOST).identity(), signer.pem


@refused
def version_1_that_has_expired() -> Case:
    signer = root()
    return version_1(make(HOST, signer, to_days=-1), signer).identity(), signer.pem


@refused
def an_authority_that_has_expired() -> Case:
    signer = root()
    return leaf(signer, HOST, is_authority=True, to_days=-1).identity(), signer.pem


@refused
def a_trusted_one_that_has_expired() -> Case:
    own = make(HOST, is_authority=True, to_days=-1)
    return own.identity(), own.pem


@refused
def an_intermediate_authority_that_has_expired() -> Case:
    signer = root()
    between = sub(signer, to_days=-1)
    return leaf(between, HOST).identity(between), signer.pem


@refused
def a_root_whose_key_does_not_sign_certificates() -> Case:
    signer = root(uses=("digital_signature",))
    return leaf(signer, HOST).identity(), signer.pem


@refused
def an_intermediate_authority_whose_key_does_not_sign_certificates() -> Case:
    signer = root()
    between = sub(signer, uses=("digital_signature",))
    return leaf(between, HOST).identity(between), signer.pem


@refused
def a_key_that_only_signs_certificates() -> Case:
    signer = root()
    return leaf(signer, HOST, is_authority=True, uses=("key_cert_sign",)).identity(), signer.pem


@refused
def a_trusted_key_that_only_signs_certificates() -> Case:
    own = make(HOST, is_authority=True, uses=("key_cert_sign", "crl_sign"))
    return own.identity(), own.pem


@refused
def a_key_that_only_signs_lists() -> Case:
    signer = root()
    return leaf(signer, HOST, uses=("crl_sign",)).identity(), signer.pem


@refused
def another_purpose() -> Case:
    signer = root()
    return leaf(signer, HOST, purpose=ExtendedKeyUsageOID.CODE_SIGNING).identity(), signer.pem


@refused
def another_purpose_of_an_authority() -> Case:
    signer = root()
    own = leaf(signer, HOST, is_authority=True, purpose=ExtendedKeyUsageOID.CODE_SIGNING)
    return own.identity(), signer.pem


@refused
def another_purpose_of_a_trusted_one() -> Case:
    own = make(HOST, is_authority=True, purpose=ExtendedKeyUsageOID.CODE_SIGNING)
    return own.identity(), own.pem


@refused
def any_purpose() -> Case:
    signer = root()
    purpose = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    return leaf(signer, HOST, is_authority=True, purpose=purpose).identity(), signer.pem


@refused
def a_path_that_is_too_long() -> Case:
    signer = root()
    above = sub(signer, path_length=0)
    between = make("Further below", above, is_authority=True)
    return leaf(between, HOST).identity(between, above), signer.pem


# What is no certificate


@unreadable
def version_2_with_extensions() -> Case:
    signer = root()
    version = b"\xa0\3\2\1\1"
    return rewritten(leaf(signer, HOST), signer, lambda parts: [version, *parts[1:]]).identity(), signer.pem


@unreadable
def version_1_with_extensions() -> Case:
    signer = root()
    return rewritten(leaf(signer, HOST), signer, lambda parts: parts[1:]).identity(), signer.pem


@unreadable
def version_4() -> Case:
    signer = root()
    version = b"\xa0\3\2\1\3"
    made = leaf(signer, HOST)
    return rewritten(made, signer, lambda parts: [version, *parts[1:-1]]).identity(), signer.pem


@unreadable
def an_algorithm_inside_and_another_outside() -> Case:
    signer = root()
    sha384 = bytes.fromhex("300a06082a8648ce3d040303")
    made = version_1(make(HOST, signer), signer)
    return rewritten(made, signer, lambda parts: parts, outside=sha384).identity(), signer.pem


@unreadable
def the_same_extension_twice() -> Case:
    signer = root()
    made = leaf(signer, HOST, is_authority=True)

    def twice(parts: list[bytes]) -> list[bytes]:
        extensions = certificates.parts(certificates.parts(parts[-1])[0])
        return [*parts[:-1], certificates.der(0xA3, certificates.der(0x30, b"".join([*extensions, extensions[-1]])))]

    return rewritten(made, signer, twice).identity(), signer.pem


for critical in (True, False):
    for kind, at_root in (("intermediate", False), ("root", True)):

        def constrained(own: Callable[[Made], Made], critical: bool = critical, at_root: bool = at_root) -> Case:
            signer = root(permitted="good.test", is_critical=critical) if at_root else root()
            between = signer if at_root else sub(signer, permitted="good.test", is_critical=critical)
            return own(between).identity(between), signer.pem

        for what, own in (
            ("an alternative name", lambda signer: leaf(signer, HOST)),
            ("a common name", lambda signer: leaf(signer)),
            ("an authority's alternative name", lambda signer: leaf(signer, HOST, is_authority=True)),
            ("an authority's common name", lambda signer: leaf(signer, is_authority=True)),
            ("version 1", lambda signer: version_1(make(HOST, signer), signer)),
        ):
            name = f"{what} that the {kind} excludes{'' if critical else ', not critical'}"
            REFUSED[name] = lambda constrained=constrained, own=own: constrained(own)


@refused
def a_rule_that_is_not_known() -> Case:
    signer = root()
    return leaf(signer, HOST, is_authority=True, unknown=True).identity(), signer.pem


@refused
def a_rule_of_a_trusted_one_that_is_not_known() -> Case:
    own = make(HOST, is_authority=True, unknown=True)
    return own.identity(), own.pem


async def server_is_trusted(case: Case) -> bool:
    identity, roots = case
    async with echo.serving(
        server_credentials=ssl_server_credentials([identity.pair]),
        channel_credentials=ssl_channel_credentials(roots),
        channel_options=[("grpc.ssl_target_name_override", HOST)],
    ) as service:
        return await ends_well(service)


async def client_is_trusted(case: Case) -> bool:
    identity, roots = case
    async with echo.serving(
        server_credentials=ssl_server_credentials([localhost().pair], roots, True),
        channel_credentials=ssl_channel_credentials(authority().pem, *identity.pair),
    ) as service:
        return await ends_well(service)


async def ends_well(service: echo.Service) -> bool:
    call = service.unary_unary(b"x", timeout=20)
    code = await call.code()
    # Nothing but the handshake.
    assert code in (StatusCode.OK, StatusCode.UNAVAILABLE), await call.details()
    return code is StatusCode.OK


@pytest.mark.parametrize("name", TRUSTED)
async def test_trusted(name: str) -> None:
    case = TRUSTED[name]()
    assert await server_is_trusted(case)
    assert await client_is_trusted(case)


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str) -> None:
    case = REFUSED[name]()
    assert not await server_is_trusted(case)
    assert not await client_is_trusted(case)


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable(name: str) -> None:
    identity, _ = UNREADABLE[name]()
    with pytest.raises(ValueError, match="the certificate cannot be read"):
        ssl_server_credentials([identity.pair])
    with pytest.raises(ValueError, match="a root certificate cannot be used"):
        ssl_channel_credentials(identity.chain)


@pytest.mark.parametrize(
    ("names", "common_name", "asked"),
    [
        (["*"], "x", "a.test"),
        (["*."], "x", "a.test"),
        (["*.test"], "x", "a.test"),
        (["*.*.test"], "x", "a.b.test"),
        (["a*.b.test"], "x", "ab.b.test"),
        (["*a.b.test"], "x", "aa.b.test"),
        (["b.*.test"], "x", "b.a.test"),
        (["a.test\0.b.test"], "x", "a.test"),
        (["a.test "], "x", "a.test"),
        (["127.0.0.1"], "x", "localhost"),
        ([], "127.0.0.1", "127.0.0.1"),
        ([], "*", "a.test"),
        ([], "*.test", "a.test"),
        ([], "a.test\0.b.test", "a.test"),
        # Where there is any other name the common name does not count.
        (["spiffe://a.test/x"], "a.test", "a.test"),
        (["a@a.test"], "a.test", "a.test"),
        (["127.0.0.1"], "a.test", "a.test"),
        # An address is no name, and a name no address.
        (["dns:127.0.0.1"], "x", "127.0.0.1"),
        (["*.0.0.1"], "x", "127.0.0.1"),
        (["::ffff:127.0.0.1"], "x", "127.0.0.1"),
        # Punycode is compared as it is.
        (["xn--*.test"], "x", "xn--bcher-kva.test"),
    ],
)
async def test_a_name_that_is_not_named(names: list[str], common_name: str, asked: str) -> None:
    signer = root()
    own = make(common_name, signer, *names, is_authority=False)
    async with echo.serving(
        server_credentials=ssl_server_credentials([own.identity().pair]),
        channel_credentials=ssl_channel_credentials(signer.pem),
        channel_options=[("grpc.ssl_target_name_override", asked)],
    ) as service:
        with pytest.raises(aio.AioRpcError, match=f"it is not for {asked}"):
            await service.unary_unary(b"x", timeout=20)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        # Of another class of tags: universal, application.
        certificates.der(0x02, HOST.encode()),
        certificates.der(0x42, HOST.encode()),
        certificates.der(0x81, HOST.encode()),
        certificates.der(0x86, HOST.encode()),
        certificates.der(0x88, HOST.encode()),
        certificates.der(0x82, HOST.encode() + b"\0"),
        certificates.der(0x82, HOST.encode() + b"\xff"),
        certificates.der(0x82, b""),
    ],
)
async def test_what_is_no_name(raw: bytes) -> None:
    signer = root()
    own = make("other.test", signer, is_authority=False, raw_names=raw)
    async with echo.serving(
        server_credentials=ssl_server_credentials([own.identity().pair]),
        channel_credentials=ssl_channel_credentials(signer.pem),
        channel_options=[("grpc.ssl_target_name_override", HOST)],
    ) as service:
        assert not await ends_well(service)


async def test_names_that_are_no_text_are_not_confused() -> None:
    signer = root()
    told = []

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        told.append((context.peer_identities(), context.auth_context().get("peer_dns")))
        return b""

    own = make("Somebody", signer, is_authority=False, raw_names=certificates.der(0x82, b"some\xffbody"))
    async with echo.serving(
        server_credentials=ssl_server_credentials([localhost().pair], signer.pem, True),
        channel_credentials=ssl_channel_credentials(authority().pem, *own.identity().pair),
        UnaryUnary=handler,
    ) as service:
        await service.unary_unary(b"")
    assert told == [([b"other types of SAN"], None)]


async def test_the_first_of_several_common_names_counts() -> None:
    """For grpc-core, too. What an authority has looked at and what we take must be the same."""
    signer = root()
    two = make("first.test", signer, is_authority=False, second_name="last.test")
    for asked, is_named in (("first.test", True), ("last.test", False)):
        async with echo.serving(
            server_credentials=ssl_server_credentials([two.identity().pair]),
            channel_credentials=ssl_channel_credentials(signer.pem),
            channel_options=[("grpc.ssl_target_name_override", asked)],
        ) as service:
            assert await ends_well(service) == is_named

    told = []

    async def handler(request: bytes, context: aio.ServicerContext) -> bytes:
        told.append((context.peer_identity_key(), context.peer_identities()))
        return b""

    async with echo.serving(
        server_credentials=ssl_server_credentials([localhost().pair], signer.pem, True),
        channel_credentials=ssl_channel_credentials(authority().pem, *two.identity().pair),
        UnaryUnary=handler,
    ) as service:
        await service.unary_unary(b"")
    assert told == [("x509_common_name", [b"first.test"])]
