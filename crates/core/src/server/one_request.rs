//! How many requests have come for a method that takes one (statuscodes.md, "Request cardinality violation").
//!
//! The handler starts when the client has ended its side. Then it is known that no second request follows, however the
//! requests are cut into segments and however quick the handler is: a call that is refused has had no effect.
//!
//! grpcio starts handlers without that, so clients exist that never end their side. They get [`HALF_CLOSE_GRACE`]: after
//! it the handler starts, and whatever else comes is ignored, as grpcio does.

use super::connection::ServerConnection;
use crate::admission::ROOM_TO_END;
use crate::message::MessageBuffer;
use crate::status::{Code, Status};
use crate::transport::{CallId, Next};
use std::time::{Duration, Instant};

/// How long the end of the client's side may come behind its request. Clients send both in one segment or in two that
/// follow each other. A client that never ends its side pays this for each call.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(100);

/// How much longer a loop has to read what has come: the end may be there, and libuv serves timers before sockets.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// Where the only request of a call stands.
///
/// ```text
///                          ┌────────────────── END_STREAM ───────────────────┐
///   Missing ──message──► Whole ── HALF_CLOSE_GRACE ─► LastLook ── LAST_LOOK ─┴─► Settled
///      └── END_STREAM ──►  └──── message ──► (refused) ◄── message, or part ─┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OneRequest {
    Missing,
    /// The request is there; a second may follow.
    Whole,
    LastLook,
    /// The handler may have the request. Nothing that comes now counts.
    Settled,
}

impl OneRequest {
    /// So many requests have come whole. The error is the call's end.
    pub(super) fn received(self, requests: usize) -> Result<Self, Status> {
        match (self, requests) {
            (Self::Settled, _) | (_, 0) => Ok(self),
            (Self::Missing, 1) => Ok(Self::Whole),
            _ => Err(not_one_request()),
        }
    }

    /// The client has ended its side. The error is the call's end.
    pub(super) fn ended(self) -> Result<Self, Status> {
        match self {
            Self::Missing => Err(not_one_request()),
            Self::Whole | Self::LastLook | Self::Settled => Ok(Self::Settled),
        }
    }
}

impl<B: MessageBuffer> ServerConnection<B> {
    /// Reads the only request of a call whose method takes one. `Pending` until it is certain that it is the only one: a
    /// `Readable` event follows.
    pub fn take_only_message(&mut self, id: CallId, now: Instant) -> Next<B> {
        let Some(call) = self.transport.get_mut(id) else { return Next::End };
        if call.side.one_request.is_none() {
            // The method was not known when the requests came.
            let received = OneRequest::Missing.received(call.inbox.messages());
            let ended = call.received_all;
            match received.and_then(|one| if ended { one.ended() } else { Ok(one) }) {
                Ok(one) => call.side.one_request = Some(one),
                Err(status) => {
                    self.find_fault(id);
                    return Next::Failed(status);
                }
            }
            self.await_end(id, now);
        }
        match self.one_request(id) {
            Some(OneRequest::Settled) => self.take_message(id),
            _ => self.transport.wait(id),
        }
    }

    fn one_request(&self, id: CallId) -> Option<OneRequest> {
        self.transport.get(id)?.side.one_request
    }

    /// Gives a client whose only request is there time to end its side.
    pub(super) fn await_end(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.transport.get(id) else { return };
        if call.side.one_request == Some(OneRequest::Whole) {
            self.transport.http.grant(call.stream, ROOM_TO_END);
            self.give_time_to_end(id, now + HALF_CLOSE_GRACE);
        }
    }

    fn give_time_to_end(&mut self, id: CallId, until: Instant) {
        let transport = &self.transport;
        let waits = |id| {
            let one = transport.get(id).and_then(|call| call.side.one_request);
            one.is_some_and(|one| one != OneRequest::Settled)
        };
        self.half_closes.push(until, id, waits);
    }

    /// A client has had its time to end its side.
    pub(super) fn expire_half_close(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.transport.get_mut(id) else { return };
        match call.side.one_request {
            Some(OneRequest::Whole) => {
                call.side.one_request = Some(OneRequest::LastLook);
                self.give_time_to_end(id, now + LAST_LOOK);
            }
            // Its request is not held until the second has come: that may take any time.
            Some(OneRequest::LastLook) if call.inbox.ends_within_message() => {
                self.reject(id, &not_one_request());
            }
            Some(OneRequest::LastLook) => {
                call.side.one_request = Some(OneRequest::Settled);
                self.settle(id);
            }
            Some(OneRequest::Missing | OneRequest::Settled) | None => {}
        }
    }
}

fn not_one_request() -> Status {
    Status::new(Code::Unimplemented, "The method requires exactly one request message.")
}
