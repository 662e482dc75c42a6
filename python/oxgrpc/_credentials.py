"""Credentials: who servers and clients are to each other, and what a call carries to prove it.

Certificates and keys are PEM, as ``bytes``. They are read when credentials are made: what cannot be used is told there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

from . import _log, _native
from ._plugin import AuthMetadataContext as AuthMetadataContext
from ._plugin import AuthMetadataPlugin as AuthMetadataPlugin
from ._plugin import AuthMetadataPluginCallback as AuthMetadataPluginCallback
from ._plugin import Plugin


class ChannelCredentials:
    """How a channel's connections are secured. Made by functions such as :func:`ssl_channel_credentials`."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials


class CallCredentials:
    """What a call carries to say who makes it. Made by functions such as :func:`access_token_call_credentials`."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials


class ServerCredentials:
    """How the connections of a server's port are secured. Made by functions such as :func:`ssl_server_credentials`."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials


class ServerCertificateConfiguration:
    """A server's keys and certificates, for :func:`dynamic_ssl_server_credentials`."""

    def __init__(self, certificate_configuration: Any) -> None:
        self._certificate_configuration = certificate_configuration


@enum.unique
class LocalConnectionType(enum.Enum):
    """Where a peer on the same machine may be."""

    #: At the other end of a Unix socket.
    UDS = 0
    #: At a loopback address.
    LOCAL_TCP = 1


class ChannelSecurity:
    """What is in :class:`ChannelCredentials`: what secures connections, if anything, and what all calls carry."""

    def __init__(self, transport: _native.ChannelSecurity | None, plugins: tuple[Plugin, ...] = ()) -> None:
        self.transport = transport
        self.plugins = plugins


def _octets(value: object, what: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError(f"{what} is PEM as bytes, not {type(value).__name__}")


def ssl_channel_credentials(
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
) -> ChannelCredentials:
    """TLS.

    Args:
      root_certificates: whom to trust; those that the system trusts if ``None``, or those in the file that
        ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names.
      private_key: who we are, where servers ask for it; not encrypted.
      certificate_chain: the key's certificate, and those that lead to one that servers trust.

    Raises:
      ValueError: one of them cannot be used.
    """
    if root_certificates is not None and not isinstance(root_certificates, bytes):
        raise TypeError(f"expected certificate to be bytes, got {type(root_certificates)}")
    private_key, certificate_chain = (
        _octets(private_key, "private_key"),
        _octets(certificate_chain, "certificate_chain"),
    )
    transport = _native.ChannelSecurity.ssl(root_certificates, private_key or None, certificate_chain or None)
    return ChannelCredentials(ChannelSecurity(transport))


def insecure_channel_credentials() -> ChannelCredentials:
    """No security at all. Always the same object."""
    return _INSECURE


_INSECURE = ChannelCredentials(ChannelSecurity(None))


def local_channel_credentials(
    local_connect_type: LocalConnectionType = LocalConnectionType.LOCAL_TCP,
) -> ChannelCredentials:
    """No encryption, but servers on this machine only: calls fail with UNAVAILABLE elsewhere."""
    is_unix = local_connect_type is LocalConnectionType.UDS
    return ChannelCredentials(ChannelSecurity(_native.ChannelSecurity.local(is_unix)))


def xds_channel_credentials(fallback_credentials: ChannelCredentials | None = None) -> ChannelCredentials:
    """What is used where xDS says nothing, which is everywhere: xDS is not in oxgrpc."""
    return ssl_channel_credentials() if fallback_credentials is None else fallback_credentials


def alts_channel_credentials(service_accounts: Iterable[str] | None = None) -> ChannelCredentials:
    """Not in oxgrpc: ALTS is Google's own, and works in its data centres only."""
    raise NotImplementedError("ALTS is not in oxgrpc: use ssl_channel_credentials()")


def compute_engine_channel_credentials(call_credentials: CallCredentials) -> ChannelCredentials:
    """Not in oxgrpc: it is ALTS where there is ALTS."""
    raise NotImplementedError(
        "ALTS is not in oxgrpc: use composite_channel_credentials(ssl_channel_credentials(), call_credentials)"
    )


def ssl_channel_credentials_with_custom_signer(
    *,
    private_key_sign_fn: Callable[..., Any],
    root_certificates: bytes | None = None,
    certificate_chain: bytes,
) -> ChannelCredentials:
    """Not in oxgrpc: a handshake does not wait for Python."""
    raise NotImplementedError("signing by a function is not in oxgrpc: use ssl_channel_credentials(private_key=...)")


def composite_channel_credentials(
    channel_credentials: ChannelCredentials, *call_credentials: CallCredentials
) -> ChannelCredentials:
    """A channel all of whose calls carry call credentials, before their own.

    Raises:
      ValueError: the channel is not secure.
    """
    security = channel_credentials._credentials
    if call_credentials and security.transport is None:
        raise ValueError("call credentials are for secure channels only")
    more = [plugin for credentials in call_credentials for plugin in credentials._credentials]
    return ChannelCredentials(ChannelSecurity(security.transport, (*security.plugins, *more)))


def metadata_call_credentials(
    metadata_plugin: AuthMetadataPlugin | Callable[[AuthMetadataContext, AuthMetadataPluginCallback], None],
    name: str | None = None,
) -> CallCredentials:
    """Calls carry what a plugin says, which is asked for each of them.

    Args:
      metadata_plugin: is called with an :class:`AuthMetadataContext` and an :class:`AuthMetadataPluginCallback`, in a
        thread of its own and in the context that these credentials are made in.
      name: what the log calls it.
    """
    if not callable(metadata_plugin):
        raise TypeError(f"a plugin is callable, {metadata_plugin!r} is not")
    return CallCredentials((Plugin(metadata_plugin, name),))


def access_token_call_credentials(access_token: str) -> CallCredentials:
    """Calls carry ``authorization: Bearer TOKEN``."""
    from ._auth import AccessTokenAuthMetadataPlugin

    return metadata_call_credentials(AccessTokenAuthMetadataPlugin(access_token))


def composite_call_credentials(*call_credentials: CallCredentials) -> CallCredentials:
    """Calls carry the metadata of several credentials, in this order."""
    if not call_credentials:
        raise ValueError("no call credentials are given")
    return CallCredentials(tuple(plugin for credentials in call_credentials for plugin in credentials._credentials))


def _certificates(
    private_key_certificate_chain_pairs: Iterable[tuple[bytes, bytes]], root_certificates: bytes | None
) -> _native.ServerCertificates:
    pairs = list(private_key_certificate_chain_pairs or ())
    if not pairs:
        raise ValueError("At least one private key-certificate chain pair is required!")
    for private_key, chain in pairs:
        for what, value in (("private_key", private_key), ("certificate_chain", chain)):
            if not isinstance(value, bytes):
                raise TypeError(f"{what} is PEM as bytes, not {type(value).__name__}")
    roots = root_certificates.encode() if isinstance(root_certificates, str) else root_certificates
    return _native.ServerCertificates(pairs, _octets(roots, "root_certificates"))


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Iterable[tuple[bytes, bytes]],
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
) -> ServerCredentials:
    """TLS.

    Args:
      private_key_certificate_chain_pairs: who we are: the pair whose certificate names what a client asks for, or else
        the first.
      root_certificates: whom clients' certificates have to be signed by.
      require_client_auth: whether clients need a certificate; they are not asked for one otherwise.

    Raises:
      ValueError: a key or a certificate cannot be used.
    """
    if require_client_auth and root_certificates is None:
        raise ValueError("Illegal to require client auth without providing root certificates!")
    certificates = _certificates(private_key_certificate_chain_pairs, root_certificates)
    return ServerCredentials(_native.ServerSecurity.ssl(certificates, bool(require_client_auth)))


def ssl_server_certificate_configuration(
    private_key_certificate_chain_pairs: Iterable[tuple[bytes, bytes]], root_certificates: bytes | None = None
) -> ServerCertificateConfiguration:
    """What :func:`ssl_server_credentials` takes, for :func:`dynamic_ssl_server_credentials`."""
    return ServerCertificateConfiguration(_certificates(private_key_certificate_chain_pairs, root_certificates))


def dynamic_ssl_server_credentials(
    initial_certificate_configuration: ServerCertificateConfiguration,
    certificate_configuration_fetcher: Callable[[], ServerCertificateConfiguration | None],
    require_client_authentication: bool = False,
) -> ServerCredentials:
    """TLS with certificates that may change while a server runs. Connections that stand are not touched.

    Args:
      initial_certificate_configuration: what to begin with.
      certificate_configuration_fetcher: is called on the server's loop for each new connection, before its handshake;
        gives other certificates, or ``None`` if they have not changed. While it raises, or gives something else, those
        that there were go on to be used.
      require_client_authentication: whether clients need a certificate.
    """
    if not isinstance(initial_certificate_configuration, ServerCertificateConfiguration):
        raise TypeError("initial_cert_config must be a grpc.ServerCertificateConfiguration")
    if not callable(certificate_configuration_fetcher):
        raise TypeError("cert_config_fetcher must be callable")

    def fetch() -> object:
        try:
            fetched: Any = certificate_configuration_fetcher()
        except Exception as error:
            _log.certificates_not_fetched(error)
            return None
        if fetched is None:
            return None
        if not isinstance(fetched, ServerCertificateConfiguration):
            _log.certificates_refused(
                f"they must be of type grpc.ServerCertificateConfiguration, not {type(fetched).__name__}"
            )
            return None
        return fetched._certificate_configuration

    initial = initial_certificate_configuration._certificate_configuration
    return ServerCredentials(_native.ServerSecurity.dynamic(initial, fetch, bool(require_client_authentication)))


def insecure_server_credentials() -> ServerCredentials:
    """No security at all."""
    return ServerCredentials(_native.ServerSecurity.insecure())


def local_server_credentials(
    local_connect_type: LocalConnectionType = LocalConnectionType.LOCAL_TCP,
) -> ServerCredentials:
    """No encryption, but clients on this machine only: others are turned away."""
    return ServerCredentials(_native.ServerSecurity.local(local_connect_type is LocalConnectionType.UDS))


def xds_server_credentials(fallback_credentials: ServerCredentials) -> ServerCredentials:
    """What is used where xDS says nothing, which is everywhere: xDS is not in oxgrpc."""
    return fallback_credentials


def alts_server_credentials() -> ServerCredentials:
    """Not in oxgrpc: ALTS is Google's own, and works in its data centres only."""
    raise NotImplementedError("ALTS is not in oxgrpc: use ssl_server_credentials()")
