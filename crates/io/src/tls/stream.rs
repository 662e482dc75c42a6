//! TLS over a socket, without blocking: reads decrypt, writes encrypt, and whatever the protocol itself has to say goes
//! out with either.
//!
//! All buffers are ours, so that they have bounds: an input of one read and the rest of a record, an output of one
//! write. rustls bounds what else a peer can make it say (RFC 8446 §4.6.3, key updates; §6, warnings).

use super::H2;
use super::error::explain;
use super::session::{Plain, Session, Speech, Step};
use crate::socket::Socket;
use rustls::pki_types::CertificateDer;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;

/// Octets that one read takes from the socket.
const READ: usize = 64 << 10;

/// Octets that one write encrypts.
const WRITE: usize = 64 << 10;

/// What may stay undecrypted: the start of a record, or a handshake message in many small ones. rustls takes messages of
/// up to 64 KiB.
const MAX_REST: usize = 128 << 10;

/// Memory that an emptied buffer keeps.
const KEPT_CAPACITY: usize = 4 << 10;

thread_local! {
    /// What the socket's octets are read into and decrypted in, and what is gathered to be encrypted. Between two calls
    /// there is nothing in it.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a handshake has come to.
#[derive(Debug)]
pub struct Handshake {
    /// The peer's certificate and those that it sent along; empty where it has none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Whether an earlier session went on.
    pub is_resumed: bool,
    /// As grpc-core writes it: `TLSv1.3`.
    pub version: &'static str,
    /// The group that the keys were exchanged in, as in `X25519`.
    pub key_exchange_group: Option<String>,
    /// The name that a client asked for.
    pub server_name: Option<String>,
}

/// TLS over a socket.
#[derive(Debug)]
pub struct TlsStream {
    socket: Socket,
    session: Session,
    /// What has come and is not decrypted, because it is not whole.
    rest: Vec<u8>,
    /// What is decrypted and did not fit where it was asked for, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// What is encrypted and not written, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    handshake: Option<Arc<Handshake>>,
    /// The peer has said that nothing more comes.
    is_ended: bool,
    /// We have said so.
    said_goodbye: bool,
    /// The last read has filled its buffer: there may be more.
    may_have_more: bool,
    /// Something has come since it was last asked.
    heard: bool,
    /// The session has failed: nothing more is to be asked of it.
    is_failed: bool,
}

impl TlsStream {
    pub(super) fn new(socket: Socket, session: Session) -> Self {
        Self {
            socket,
            session,
            rest: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            sent: 0,
            handshake: None,
            is_ended: false,
            said_goodbye: false,
            may_have_more: false,
            heard: false,
            is_failed: false,
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn handshake(&self) -> Option<&Arc<Handshake>> {
        self.handshake.as_ref()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.plain.is_empty() && !self.may_have_more
    }

    pub(crate) fn is_blocked(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(crate) fn has_buffered(&self) -> bool {
        !self.plain.is_empty()
    }

    pub(crate) fn take_heard(&mut self) -> bool {
        mem::take(&mut self.heard)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(len) = self.take_plain(buffer) {
            return Ok(Some(len));
        }
        if self.is_ended {
            return Ok(Some(0));
        }
        self.check()?;
        SCRATCH.with_borrow_mut(|scratch| {
            let kept = self.rest.len();
            if scratch.len() < kept + READ {
                scratch.resize(kept + READ, 0);
            }
            let Some(len) = self.socket.read(&mut scratch[kept..kept + READ])? else {
                self.may_have_more = false;
                return Ok(None);
            };
            self.may_have_more = len == READ;
            self.heard = true;
            if len == 0 {
                self.is_ended = true;
                return match self.handshake {
                    None => Err(self.failure("the peer closed the connection")),
                    Some(_) => Ok(Some(0)),
                };
            }
            scratch[..kept].copy_from_slice(&self.rest);
            self.decrypt(&mut scratch[..kept + len], buffer)
        })
    }

    /// Takes in what has come, all of it.
    fn decrypt(&mut self, incoming: &mut [u8], buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut plain = Plain { buffer, len: 0, rest: &mut self.plain };
        let mut at = 0;
        let result = loop {
            let (discard, step) =
                self.session.step(&mut incoming[at..], &mut self.outgoing, &mut plain, None);
            at += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.is_ended = true,
                Ok(Step::Idle | Step::Spoken) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let len = plain.len;
        self.rest.clear();
        self.rest.shrink_to(KEPT_CAPACITY);
        self.rest.extend_from_slice(&incoming[at..]);
        if let Err(error) = result {
            return Err(self.session_failed(&error));
        }
        if self.rest.len() > MAX_REST {
            return Err(self.failure("a message of the peer's is too long"));
        }
        self.note_handshake()?;
        // What TLS has to say to what has come. A peer that has closed does not take it, and what it sent counts.
        let transmitted = self.transmit();
        match len {
            0 if self.is_ended && self.handshake.is_none() => {
                Err(self.failure("the peer closed the connection"))
            }
            0 if self.is_ended => Ok(Some(0)),
            0 => transmitted.map(|()| None),
            len => Ok(Some(len)),
        }
    }

    /// Gives what was decrypted before and did not fit.
    fn take_plain(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let left = &self.plain[self.taken..];
        if left.is_empty() {
            return None;
        }
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.taken += len;
        if self.taken == self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        }
        Some(len)
    }

    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        if self.flush()? || self.handshake.is_none() || self.said_goodbye {
            return Ok(None);
        }
        let len = match slices {
            [slice] => self.encrypt(&slice[..slice.len().min(WRITE)]),
            _ => SCRATCH.with_borrow_mut(|scratch| {
                let mut len = 0;
                scratch.resize(scratch.len().max(WRITE), 0);
                for slice in slices {
                    let taken = slice.len().min(WRITE - len);
                    scratch[len..len + taken].copy_from_slice(&slice[..taken]);
                    len += taken;
                }
                self.encrypt(&scratch[..len])
            }),
        }?;
        self.transmit()?;
        Ok(Some(len))
    }

    fn encrypt(&mut self, content: &[u8]) -> io::Result<usize> {
        self.speak(Speech::Content(content))?;
        Ok(content.len())
    }

    fn speak(&mut self, speech: Speech<'_>) -> io::Result<()> {
        self.check()?;
        loop {
            let mut plain = Plain { buffer: &mut [], len: 0, rest: &mut self.plain };
            let (discard, step) =
                self.session.step(&mut self.rest, &mut self.outgoing, &mut plain, Some(speech));
            self.rest.drain(..discard);
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.is_ended = true,
                Ok(Step::Spoken) => return Ok(()),
                // A handshake that has ended does not begin again (RFC 8446 §4.1.2), and we refuse to renegotiate.
                Ok(Step::Idle) => return Err(io::ErrorKind::NotConnected.into()),
                Err(error) => return Err(self.session_failed(&error)),
            }
        }
    }

    /// Goes on with the handshake, and writes what waits. `true`: the socket takes no more now.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        self.check()?;
        if self.handshake.is_none() {
            self.go_on().map_err(|error| self.session_failed(&error))?;
        }
        self.transmit()?;
        Ok(self.is_blocked())
    }

    /// Lets the session say what it has to, without anything new from the peer.
    fn go_on(&mut self) -> Result<(), rustls::Error> {
        let mut plain = Plain { buffer: &mut [], len: 0, rest: &mut self.plain };
        loop {
            let (discard, step) =
                self.session.step(&mut self.rest, &mut self.outgoing, &mut plain, None);
            self.rest.drain(..discard);
            if !matches!(step?, Step::Again | Step::PeerClosed) {
                return Ok(());
            }
        }
    }

    /// Writes what is encrypted, as far as the socket takes it.
    fn transmit(&mut self) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            match self.socket.write(&[IoSlice::new(&self.outgoing[self.sent..])])? {
                Some(len) => self.sent += len,
                None => return Ok(()),
            }
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(KEPT_CAPACITY);
        self.sent = 0;
        Ok(())
    }

    /// Says that nothing more comes, if it has not been said. What the socket does not take now is lost.
    pub(crate) fn close_notify(&mut self) {
        if self.handshake.is_some()
            && !self.is_failed
            && !mem::replace(&mut self.said_goodbye, true)
        {
            // The peer may be gone, which is as good.
            let _ = self.speak(Speech::Goodbye).and_then(|()| self.transmit());
        }
    }

    /// The handshake may have ended: its peer must speak HTTP/2.
    fn note_handshake(&mut self) -> io::Result<()> {
        if self.handshake.is_some() || self.session.is_handshaking() {
            return Ok(());
        }
        if self.session.alpn_protocol() != Some(H2) {
            return Err(self.failure("the peer does not agree to HTTP/2 by ALPN"));
        }
        if let Err(error) = self.session.verify_again() {
            return Err(self.failure(&explain(&error, self.session.is_client())));
        }
        self.handshake = Some(Arc::new(self.session.handshake()));
        Ok(())
    }

    /// An error of the session's, after its alert has been written, if that goes at once.
    fn session_failed(&mut self, error: &rustls::Error) -> io::Error {
        let failure = self.failure(&explain(error, self.session.is_client()));
        self.is_failed = true;
        // One step only: rustls panics where a session that has failed is given more to fail on.
        let mut plain = Plain { buffer: &mut [], len: 0, rest: &mut Vec::new() };
        let _ = self.session.step(&mut self.rest, &mut self.outgoing, &mut plain, None);
        // The peer may be gone, which is as good.
        let _ = self.transmit();
        failure
    }

    fn check(&self) -> io::Result<()> {
        match self.is_failed {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    fn failure(&self, text: &str) -> io::Error {
        let what = match self.handshake {
            None => "TLS handshake failed",
            Some(_) => "TLS failed",
        };
        io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {text}"))
    }
}
