//! Admission of messages that are longer than their stream's window (RFC 9113 §5.2.2).
//!
//! A message can only be read once it is whole, so a message longer than its window needs more window than reading gives
//! back. [`ADMITTED`] octets of such messages are admitted whole, the oldest first; the others wait. A peer that obeys the
//! windows of streams then sends the admitted ones first, and of a hundred uploads few are held at a time.
//!
//! A proxy that multiplexes the calls of its clients cannot always do that. Its clients share one window towards it, and
//! what they have sent on a stream that waits here takes that window up, until the admitted messages cannot come either.
//! So no message waits for the end of another: when large messages have stood still for [`PATIENCE`], each that waits gets
//! a step, and the steps double as long as that goes on. Memory is bounded by `max_unread_bytes`, not by who waits.
//!
//! A call may also wait for itself. A program that writes before it reads waits for a window, and so does its peer if that
//! answers message by message: neither reads what the other has sent. haproxy 2.6 is stuck in the same way on its own, as
//! it handles no WINDOW_UPDATE behind data that it cannot pass on. So while output of a call waits, its window is kept
//! open although nobody reads, up to [`MOST_AHEAD`] of unread content.

use crate::message::MessageBuffer;
use crate::transport::{Call, CallId, Transport};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Octets of large messages that are admitted whole at once, and never less than one message.
const ADMITTED: usize = 16 << 20;

/// How long large messages may stand still until those that wait get a step. A direct client stands still for a round
/// trip at most, and loses nothing by a step too many.
const PATIENCE: Duration = Duration::from_millis(50);

/// Large messages that have not moved so many octets within [`PATIENCE`] stand still.
const HEADWAY: usize = 16 << 10;

/// How often messages that wait get a step although others move: those may move as slowly as they like.
const SERVICE: Duration = Duration::from_secs(1);

/// The first step, in octets, and the largest.
const FIRST_STEP: usize = 64 << 10;
const LARGEST_STEP: usize = 16 << 20;

/// What a call whose output waits may hold unread: the window that genuine grpcio gives to each stream.
const MOST_AHEAD: usize = 16 << 20;

/// How far its window is opened, whenever half of that is used up.
const AHEAD: usize = 1 << 20;

/// What a window leaves open behind a message. nghttp2, and so Node and Envoy, ends a stream only while there is window
/// left, although an END_STREAM without data needs none (RFC 9113 §6.9.1).
pub(crate) const ROOM_TO_END: usize = 1;

/// Where a call's message stands that is longer than its stream's window.
///
/// ```text
///   Fits ──longer than the window──► Waiting ──room──► Admitted ──taken──► Fits
///                                       └── whole after enough steps, taken ──► Fits
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// No such message is known.
    Fits,
    /// It comes in steps.
    Waiting,
    /// All of it may come; its length.
    Admitted(usize),
}

/// When the messages that wait are looked after.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Large messages have stood still if nothing moves until then.
    stalls_at: Instant,
    /// Then messages that wait get a step in any case.
    serves_at: Instant,
}

/// The large messages of a connection.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Octets of messages that are admitted and not taken.
    admitted: usize,
    /// Calls whose messages wait, and some that no longer do.
    waiting: VecDeque<CallId>,
    /// What a message that begins to wait gets at once: nothing, unless large messages have stood still lately.
    step: usize,
    /// Octets of large messages that have come since they were last seen to move.
    headway: usize,
    watch: Option<Watch>,
    /// Something has changed between two looks: the next is due.
    is_asked: bool,
    /// The time of the last look.
    seen_at: Option<Instant>,
}

impl Admission {
    /// When [`look_after`](Transport::look_after) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.is_asked {
            true => self.seen_at,
            false => self.watch.map(|watch| watch.stalls_at.min(watch.serves_at)),
        }
    }

    /// Asks for a look as soon as possible.
    pub(crate) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// Content of a large message has come.
    pub(crate) fn moved(&mut self, octets: usize) {
        self.headway += octets;
    }

    #[cfg(test)]
    pub(crate) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// The step that is due now, if any.
    fn next_step(&mut self, now: Instant) -> Option<usize> {
        let later = Watch { stalls_at: now + PATIENCE, serves_at: now + SERVICE };
        let watch = self.watch.get_or_insert(later);
        if self.headway >= HEADWAY {
            self.headway = 0;
            watch.stalls_at = later.stalls_at;
        }
        let stand_still = watch.stalls_at <= now;
        if !stand_still && now < watch.serves_at {
            return None;
        }
        self.headway = 0;
        if !self.waiting.is_empty() {
            self.watch = Some(later);
            self.step = match stand_still {
                true => (2 * self.step).clamp(FIRST_STEP, LARGEST_STEP),
                false => (self.step / 2).max(FIRST_STEP),
            };
            return Some(self.step);
        }
        // Those that come next profit a while from what was learned.
        self.step = if self.step > FIRST_STEP { self.step / 2 } else { 0 };
        self.watch = (self.step > 0).then_some(later);
        None
    }
}

impl<B: MessageBuffer, S> Transport<B, S> {
    /// Sees to it that the message that a call's reader waits for can come, if it is longer than the window.
    pub(crate) fn admit(&mut self, id: CallId) {
        let Some(call) = self.get_mut(id) else { return };
        if !call.reading || call.stage != Stage::Fits {
            return;
        }
        let Some((len, missing)) = call.inbox.incomplete() else { return };
        let stream = call.stream;
        if self.http.stream_window_available(stream) >= missing + ROOM_TO_END {
            return;
        }
        if self.has_room_for(len) {
            return self.admit_whole(id, len, missing);
        }
        if let Some(call) = self.get_mut(id) {
            call.stage = Stage::Waiting;
        }
        if self.is_cluttered(self.admission.waiting.len()) {
            self.drop_stale();
        }
        self.admission.waiting.push_back(id);
        if self.admission.watch.is_none() {
            self.admission.ask();
        }
        self.step(id, self.admission.step);
    }

    /// Keeps the window of a call open whose output waits, so that its peer can go on until it reads.
    #[inline]
    pub(crate) fn open_ahead(&mut self, id: CallId) {
        if self.http.queued_bytes() == 0 {
            return;
        }
        let Some(call) = self.get(id) else { return };
        let (stream, held) = (call.stream, call.inbox.held());
        let is_bidirectional = !call.has_one_message && self.http.is_queued(stream);
        if !is_bidirectional || held >= MOST_AHEAD {
            return;
        }
        if self.http.stream_window_available(stream) < AHEAD / 2 {
            self.http.grant(stream, AHEAD.min(MOST_AHEAD - held));
        }
        self.make_room();
    }

    fn has_room_for(&self, len: usize) -> bool {
        self.admission.admitted == 0 || self.admission.admitted + len <= ADMITTED
    }

    fn admit_whole(&mut self, id: CallId, len: usize, missing: usize) {
        let Some(call) = self.get_mut(id) else { return };
        call.stage = Stage::Admitted(len);
        let stream = call.stream;
        self.admission.admitted += len;
        let missing = missing + ROOM_TO_END;
        self.http.grant(stream, missing);
        let available = self.http.connection_window_available();
        self.http.grant_connection(available.saturating_add(missing));
    }

    /// Lets up to `octets` more of a message come.
    fn step(&mut self, id: CallId, octets: usize) {
        let Some(call) = self.get(id) else { return };
        if octets > 0
            && let Some((_, missing)) = call.inbox.incomplete()
        {
            self.http.grant(call.stream, missing.min(octets) + ROOM_TO_END);
        }
    }

    /// A call's message has been taken or dropped, or nothing more comes of it: others may be admitted.
    pub(crate) fn end_admission(&mut self, stage: Stage) {
        let Stage::Admitted(len) = stage else { return };
        self.admission.admitted -= len;
        while let Some(&id) = self.admission.waiting.front() {
            let next = self.get(id).filter(|call| call.stage == Stage::Waiting);
            if let Some((len, missing)) = next.and_then(|call| call.inbox.incomplete()) {
                if !self.has_room_for(len) {
                    return;
                }
                self.admit_whole(id, len, missing);
            }
            self.admission.waiting.pop_front();
        }
    }

    /// Looks after the messages that wait: after each batch of input, and when it is [`due`](Admission::due).
    pub(crate) fn look_after(&mut self, now: Instant) {
        self.admission.seen_at = Some(now);
        let is_asked = std::mem::take(&mut self.admission.is_asked);
        if self.admission.watch.is_none() && !is_asked {
            return;
        }
        if self.admission.due().is_none_or(|due| due <= now) {
            self.drop_stale();
        }
        if let Some(step) = self.admission.next_step(now) {
            for id in self.admission.waiting.clone() {
                self.step(id, step);
            }
        }
    }

    /// Our first SETTINGS may have shrunk windows that were wide enough before (RFC 9113 §6.9.2).
    pub(crate) fn widen_shrunk_windows(&mut self) {
        for id in self.ids() {
            self.admit(id);
            if self.get(id).is_some_and(|call| matches!(call.stage, Stage::Admitted(_))) {
                self.step(id, usize::MAX - ROOM_TO_END);
            }
        }
    }

    /// Drops those from the queue that no longer wait.
    fn drop_stale(&mut self) {
        let calls = &self.calls;
        let waits = |id: &CallId| {
            let waits = |call: &Call<B, S>| {
                call.is_named(*id) && call.stage == Stage::Waiting && !call.inbox.has_message()
            };
            calls.get(id.index()).is_some_and(waits)
        };
        self.admission.waiting.retain(waits);
    }
}
