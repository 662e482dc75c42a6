//! What drives a connection sees of it, whichever end it is: octets and time.

use oxgrpc_http2::{Connection, Violation};
use std::time::Instant;

/// One end of a gRPC connection. The driver owns the socket and the clock.
///
/// A turn of the driver is: read the socket; [`receive`](Self::receive); take events and act on them; then
/// [`fill`](Connection::fill), write [`slices`](Connection::slices) and [`advance`](Connection::advance) until nothing is
/// left or the socket is full. It reads no further while [`wants_read`](Connection::wants_read) says no.
pub trait Engine {
    /// HTTP/2's part: the octets to send, PING, GOAWAY.
    fn http(&self) -> &Connection;

    /// HTTP/2's part: the octets to send, PING, GOAWAY.
    fn http_mut(&mut self) -> &mut Connection;

    /// Takes all of `input` but the start of a frame that is not whole, which has to come again in front of what
    /// follows. See [`Connection::receive`].
    fn receive(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Violation>;

    /// When [`expire`](Self::expire) is due.
    fn next_deadline(&self) -> Option<Instant>;

    /// Ends the calls whose deadlines have passed.
    fn expire(&mut self, now: Instant);
}
