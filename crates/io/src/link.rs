//! A connection without a driver: a stream and an engine, and how octets move between them.
//!
//! An event loop or a thread decides when: it calls [`Link::pull`] when the socket is readable and [`Link::push`] when there is
//! output, and asks [`Link::wants_read`] what to wait for. Nothing here blocks, reads a clock or wakes anybody.

use crate::address::Address;
use crate::stream::Stream;
use crate::tls::Handshake;
use oxgrpc_core::{Engine, Violation};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Octets that one [`Link::pull`] reads at most, so that a driver gets to its other connections.
const PULL_BYTES: usize = 1 << 20;

/// Reads that one [`Link::pull`] makes at most, however little they yield: TLS records may be empty.
const PULL_READS: usize = 32;

/// Octets that one [`Link::push`] writes at most.
const PUSH_BYTES: usize = 4 << 20;

/// How long a connection stays open for reading after its last GOAWAY. Closing at once would reset the connection, and the
/// peer might lose the GOAWAY.
pub const LINGER: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed it; the rule that this breaks, if any.
    Closed(Option<&'static str>),
    /// The peer broke a rule.
    Violation(Violation),
    /// The transport failed.
    Failed(io::Error),
}

/// A stream and an engine.
#[derive(Debug)]
pub struct Link<E> {
    /// The gRPC end of the connection.
    pub engine: E,
    stream: Option<Stream>,
    /// The handshake of a stream that has been closed.
    handshake: Option<Arc<Handshake>>,
    peer: Address,
    /// The start of an incomplete frame.
    partial_frame: Vec<u8>,
    lingers: bool,
    /// Something was read and nothing written since, so a failed transport may have gone unnoticed.
    may_have_failed: bool,
}

impl<E: Engine> Link<E> {
    /// Joins a stream and an engine.
    pub fn new(engine: E, stream: impl Into<Stream>) -> Self {
        let stream = stream.into();
        Self {
            engine,
            peer: stream.peer().clone(),
            stream: Some(stream),
            handshake: None,
            partial_frame: Vec::new(),
            lingers: false,
            may_have_failed: false,
        }
    }

    /// Returns the peer's address, also after the connection has ended.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Returns the result of the TLS handshake, if there was one, also after the connection has ended.
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        let of_stream = self.stream.as_ref().and_then(Stream::handshake);
        of_stream.or(self.handshake.as_ref()).cloned()
    }

    /// Returns whether the connection can carry calls.
    pub fn is_open(&self) -> bool {
        self.stream.is_some() && !self.lingers
    }

    /// Returns whether the connection only waits for the peer to close it.
    pub fn is_lingering(&self) -> bool {
        self.lingers
    }

    /// Returns the socket's descriptor until the connection is closed.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.stream.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Returns how many octets of frames wait to be written.
    pub fn output_len(&self) -> usize {
        self.engine.http().output_len()
    }

    /// Returns whether all output has been written.
    pub fn is_flushed(&self) -> bool {
        self.output_len() == 0 && !self.stream.as_ref().is_some_and(Stream::has_pending)
    }

    /// Returns whether the driver should wait for input.
    pub fn wants_read(&self) -> bool {
        self.lingers || self.engine.http().wants_read()
    }

    /// Returns whether the transport may have failed unnoticed: the last read yielded something and nothing was written
    /// since. Some event loops do not report a socket again on which an error is pending.
    pub fn may_have_failed(&self) -> bool {
        self.may_have_failed
    }

    /// Ends both directions without closing the socket, so that the thread that drives the connection sees its end.
    pub fn shut_down(&self) {
        if let Some(stream) = &self.stream {
            stream.shut_down();
        }
    }

    /// Announces that nothing more will be sent. The driver should close the connection after [`LINGER`] unless the peer does.
    pub fn linger(&mut self) {
        self.lingers = true;
        if let Some(stream) = &mut self.stream {
            stream.shut_down_write();
        }
    }

    /// Ends the stream and returns it, `None` if it had ended before. Dropping it closes the socket, which the driver must
    /// have stopped watching by then.
    pub fn close(&mut self) -> Option<Stream> {
        self.handshake = self.handshake();
        let mut stream = self.stream.take()?;
        stream.say_goodbye();
        Some(stream)
    }

    /// Reads until the socket is empty or one turn's worth has arrived, and hands it to the engine. `buffer` is scratch
    /// space, and grows if a frame needs it.
    pub fn pull(&mut self, buffer: &mut Vec<u8>, now: Instant) -> Result<(), End> {
        let mut total = 0;
        let mut reads = 0;
        self.may_have_failed = false;
        // Decrypted data is always taken: the driver's poll does not know of it.
        while total < PULL_BYTES && reads < PULL_READS
            || self.stream.as_ref().is_some_and(Stream::has_buffered)
        {
            reads += 1;
            let space = buffer.len() - self.partial_frame.len();
            let len = self.pull_once(buffer, now)?;
            total += len;
            // A read that does not fill the buffer has emptied the socket.
            if self.stream.as_ref().is_none_or(|stream| stream.is_drained(len, space)) {
                break;
            }
        }
        Ok(())
    }

    /// Reads once, and returns how many octets arrived.
    fn pull_once(&mut self, buffer: &mut Vec<u8>, now: Instant) -> Result<usize, End> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let kept = self.partial_frame.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        let len = match stream.read(&mut buffer[kept..]) {
            Ok(None) => {
                // A handshake in progress must be answered.
                self.may_have_failed |= stream.take_heard();
                return Ok(0);
            }
            Ok(Some(0)) => return Err(End::Closed(self.engine.http().end_of_input(kept))),
            Ok(Some(len)) => len,
            Err(error) => return Err(End::Failed(error)),
        };
        self.may_have_failed = true;
        if self.lingers {
            return Ok(len);
        }
        buffer[..kept].copy_from_slice(&self.partial_frame);
        let mut input = &buffer[..kept + len];
        let received = self.engine.receive(&mut input, now);
        self.partial_frame.clear();
        self.partial_frame.extend_from_slice(input);
        received.map_err(End::Violation)?;
        Ok(len)
    }

    /// Writes the output. Returns `true` if the socket is full or there is more than one turn's worth.
    pub fn push(&mut self) -> Result<bool, End> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let http = self.engine.http_mut();
        let mut written = 0;
        loop {
            http.fill();
            if http.output_len() == 0 {
                return stream.flush().map_err(End::Failed);
            }
            if written >= PUSH_BYTES {
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); 64];
            let count = http.slices(&mut slices);
            match stream.write(&slices[..count]) {
                Ok(None) => return Ok(stream.is_blocked()),
                Ok(Some(len)) => {
                    self.may_have_failed = false;
                    written += len;
                    http.advance(len);
                }
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }
}
