//! A TLS session without buffers: rustls's client or server, taken one step at a time.

use super::stream::Handshake;
use super::verifier::ClientVerifier;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What a record may add to its content: its header, a nonce, a tag and the type (RFC 8446 §5.2, RFC 5246 §6.2.3).
const RECORD_OVERHEAD: usize = 64;

/// The content of a record (RFC 8446 §5.1).
const RECORD: usize = 16 << 10;

/// Either end of a session.
pub(super) enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server {
        session: Box<UnbufferedServerConnection>,
        /// The name that its client asked for, as soon as it has.
        asked: Arc<OnceLock<String>>,
        /// Who verifies its client, if that needs a certificate.
        clients: Option<Arc<ClientVerifier>>,
    },
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_client() { "Client" } else { "Server" })
    }
}

/// What a session is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There may be more to do.
    Again,
    /// It waits for its peer.
    Idle,
    /// What was to be said is encrypted.
    Spoken,
    /// The peer has said that nothing more comes. Told once.
    PeerClosed,
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
pub(super) enum Speech<'a> {
    Content(&'a [u8]),
    /// A close_notify.
    Goodbye,
}

/// Where decrypted octets go: where they were asked for, and what does not fit there into a buffer of ours.
pub(super) struct Plain<'a> {
    pub(super) buffer: &'a mut [u8],
    /// How much of `buffer` is filled.
    pub(super) len: usize,
    pub(super) rest: &'a mut Vec<u8>,
}

impl Plain<'_> {
    fn push(&mut self, octets: &[u8]) {
        let (fits, rest) = octets.split_at(octets.len().min(self.buffer.len() - self.len));
        self.buffer[self.len..self.len + fits.len()].copy_from_slice(fits);
        self.len += fits.len();
        self.rest.extend_from_slice(rest);
    }
}

impl Session {
    /// Takes in some of `incoming`; says how much of it is done with, and what it came to. An error may leave an alert to
    /// be fetched by another step.
    pub(super) fn step(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        plain: &mut Plain<'_>,
        speech: Option<Speech<'_>>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(session) => {
                take(session.process_tls_records(incoming), outgoing, plain, speech)
            }
            Self::Server { session, .. } => {
                take(session.process_tls_records(incoming), outgoing, plain, speech)
            }
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(session) => {
                let common: &UnbufferedConnectionCommon<ClientConnectionData> = session;
                common
            }
            Self::Server { session, .. } => {
                let common: &UnbufferedConnectionCommon<ServerConnectionData> = session;
                common
            }
        }
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// Verifies a client whose session goes on. rustls does not: it would be let in long after its certificate has expired,
    /// with a new ticket each time.
    pub(super) fn verify_again(&self) -> Result<(), Error> {
        let Self::Server { clients: Some(clients), .. } = self else { return Ok(()) };
        let common = self.common();
        if common.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let Some((first, sent)) = common.peer_certificates().and_then(<[_]>::split_first) else {
            return Err(Error::NoCertificatesPresented);
        };
        clients.verify_client_cert(first, sent, UnixTime::now()).map(drop)
    }

    /// What the handshake came to.
    pub(super) fn handshake(&self) -> Handshake {
        let common = self.common();
        let certificates = common.peer_certificates().unwrap_or_default();
        let server_name = match self {
            Self::Client(_) => None,
            Self::Server { asked, .. } => asked.get().cloned(),
        };
        Handshake {
            certificates: certificates.iter().map(|der| der.clone().into_owned()).collect(),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            key_exchange_group: common
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name())),
            server_name,
        }
    }
}

fn take<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
    plain: &mut Plain<'_>,
    speech: Option<Speech<'_>>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.push(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => append(outgoing, 0, |room| {
            data.encode(room).map_err(|error| match error {
                EncodeError::InsufficientSize(size) => Ok(size.required_size),
                EncodeError::AlreadyEncoded => Err(Error::General(error.to_string())),
            })
        })
        .map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is in the output, which nothing overtakes.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match speech {
            None => Ok(Step::Idle),
            Some(speech) => {
                let space = match speech {
                    Speech::Content(content) => {
                        content.len() + (content.len() / RECORD + 2) * RECORD_OVERHEAD
                    }
                    Speech::Goodbye => RECORD_OVERHEAD,
                };
                append(outgoing, space, |room| {
                    let said = match speech {
                        Speech::Content(content) => traffic.encrypt(content, room),
                        Speech::Goodbye => traffic.queue_close_notify(room),
                    };
                    said.map_err(|error| match error {
                        EncryptError::InsufficientSize(size) => Ok(size.required_size),
                        EncryptError::EncryptExhausted => Err(Error::EncryptError),
                    })
                })
                .map(|()| Step::Spoken)
            }
        },
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        // Early data is not enabled.
        Ok(_) => Ok(Step::Idle),
    };
    (discard, step)
}

/// Appends what `write` puts into the room that it is given; `Err(Ok(len))` asks for more room.
fn append(
    outgoing: &mut Vec<u8>,
    space: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<usize, Error>>,
) -> Result<(), Error> {
    let start = outgoing.len();
    let mut space = space;
    loop {
        outgoing.resize(start + space, 0);
        let written = write(&mut outgoing[start..]);
        match written {
            Ok(len) => {
                outgoing.truncate(start + len);
                return Ok(());
            }
            Err(Ok(required)) if required > space => space = required,
            Err(Ok(_)) => {
                outgoing.truncate(start);
                return Err(Error::EncryptError);
            }
            Err(Err(error)) => {
                outgoing.truncate(start);
                return Err(error);
            }
        }
    }
}
