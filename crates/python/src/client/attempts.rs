//! Further attempts at a call (gRFC A6): what is kept of its requests to make it again, and what follows an attempt that has
//! failed.
//!
//! ```text
//!               kept: the call may be made again                        committed: what comes is the call's own
//!   ┌──────────────────────────────────────────────────────────┐
//!   in line ──► an attempt ──── failed ────► backing off        ├── response headers, or more requests than ──► …
//!      ▲                          │               │             │   are kept
//!      └── at once, if unseen ────┴───────────────┘             ├── no attempt left ─────────────────────────► over
//! ```
//!
//! Any call is made again whose server's program has certainly not seen it (transparent retries); others only where the
//! service config has a policy for their method. Attempts at the same time are `hedge.rs`'s.

use super::call::{Call, Place, State, cancel_timer};
use super::channel::Config;
use super::hedge::Hedge;
use super::link::ClientLink;
use super::loop_channel::LoopChannel;
use super::method::Rules;
use oxgrpc_core::{CallId, Outcome, Status, Unseen};
use oxgrpc_resilience::{
    MethodConfig, PUSHBACK, Pushback, Refusals, Retry, RetryVerdict, Throttle,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub(super) type Messages = SmallVec<[Py<PyBytes>; 1]>;

/// What a call has sent, for as long as it may have to be sent again.
#[derive(Default)]
pub(super) struct Replay {
    messages: Messages,
    bytes: usize,
    is_committed: bool,
    refusals: Refusals,
}

/// What a call has that its method's policy lets be made more than once.
pub(super) struct Attempts {
    pub(super) config: Arc<MethodConfig>,
    pub(super) course: Course,
}

/// How attempts follow one another.
pub(super) enum Course {
    /// Each after the one before has failed. While the call backs off it is known when the next begins.
    Retry(Retry, Option<Instant>),
    /// Without waiting for that.
    Hedge(Hedge),
}

/// What a call keeps until it is committed.
pub(super) struct Kept {
    messages: Messages,
    attempts: Option<Box<Attempts>>,
}

impl Kept {
    /// Lets go of it: other attempts that are under way are cancelled. `true`: there may have been some.
    pub(super) fn release(self, py: Python<'_>) -> bool {
        drop(self.messages);
        match self.attempts.map(|attempts| attempts.course) {
            Some(Course::Hedge(hedge)) => {
                hedge.cancel(py);
                true
            }
            Some(Course::Retry(..)) | None => false,
        }
    }
}

/// What follows an attempt that has failed.
enum Next {
    AtOnce,
    Backoff,
    Nothing,
}

impl Replay {
    /// What a call begins with: the only request, if it has one. That one is kept however large it is: it takes up no memory
    /// that its caller could not free.
    pub(super) fn new(message: Option<&Bound<'_, PyBytes>>) -> Self {
        let mut replay = Self::default();
        if let Some(message) = message {
            replay.bytes = message.as_bytes().len();
            replay.messages.push(message.clone().unbind());
        }
        replay
    }

    /// Whether an attempt that has ended like this is made again at once, because nobody has seen it.
    pub(super) fn was_unseen(&mut self, outcome: &Outcome) -> bool {
        match outcome.unseen {
            Some(Unseen::NeverLeft) => true,
            Some(Unseen::Refused) => self.refusals.is_first(),
            None => false,
        }
    }

    pub(super) fn is_committed(&self) -> bool {
        self.is_committed
    }

    pub(super) fn messages(&self) -> &[Py<PyBytes>] {
        &self.messages
    }
}

impl Attempts {
    /// What a call has whose method has a policy, unless its request is larger than what is kept.
    pub(super) fn new(rules: &Rules, channel: &Config, replay: &Replay) -> Option<Box<Self>> {
        let config = rules.attempts()?;
        let course = match &config.retry {
            Some(policy) => Course::Retry(Retry::new(policy), None),
            None => Course::Hedge(Hedge::new()),
        };
        let fits = replay.bytes <= channel.retry_buffer_bytes;
        fits.then(|| Box::new(Self { config: config.clone(), course }))
    }

    /// The next attempt begins.
    pub(super) fn begin(&mut self) {
        if let Course::Retry(_, due) = &mut self.course {
            *due = None;
        }
    }

    /// When the next attempt begins, if that is known.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.course {
            Course::Retry(_, due) => *due,
            Course::Hedge(hedge) => hedge.hedging.next_due(),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.course {
            Course::Retry(..) => Ok(()),
            Course::Hedge(hedge) => hedge.traverse(visit),
        }
    }
}

impl State {
    /// Attempts that have failed before the next one.
    pub(super) fn previous_attempts(&self) -> u32 {
        self.attempts.as_ref().map_or(0, |attempts| match &attempts.course {
            Course::Retry(retry, _) => retry.previous_attempts(),
            Course::Hedge(hedge) => hedge.hedging.previous_attempts(),
        })
    }

    /// When the next attempt of a call begins that backs off.
    pub(super) fn backs_off_until(&self) -> Option<Instant> {
        match self.place {
            Place::Pending { parked: true, .. } => self.attempts.as_ref()?.due(),
            _ => None,
        }
    }

    /// From now on what comes is the call's own. What was kept is to be dropped once the state is no longer borrowed.
    pub(super) fn commit(&mut self) -> Kept {
        self.replay.is_committed = true;
        let messages = std::mem::take(&mut self.replay.messages);
        Kept { messages, attempts: self.attempts.take() }
    }

    /// What follows an attempt that has ended like this.
    fn next(&mut self, deadline: Option<Instant>, outcome: &Outcome, channel: &Config) -> Next {
        let now = Instant::now();
        if self.replay.is_committed || deadline.is_some_and(|deadline| deadline <= now) {
            return Next::Nothing;
        }
        if self.replay.was_unseen(outcome) {
            return Next::AtOnce;
        }
        let Some(Attempts { config, course: Course::Retry(retry, due) }) =
            self.attempts.as_deref_mut()
        else {
            return Next::Nothing;
        };
        let Some(policy) = &config.retry else { return Next::Nothing };
        let pushback = Pushback::read(outcome.trailing.get(PUSHBACK));
        let code = outcome.status.code;
        let verdict = with_throttle(channel, |throttle| {
            retry.failed(policy, code, pushback, throttle, random())
        });
        match verdict {
            RetryVerdict::Again(delay) => {
                *due = now.checked_add(delay);
                Next::Backoff
            }
            RetryVerdict::Final => Next::Nothing,
        }
    }
}

impl Call {
    /// Keeps a request to send it again, if that may come to pass. Otherwise what is kept is no longer of use. `true`: other
    /// attempts are under way that are to have it, too.
    pub(super) fn keep(&self, py: Python<'_>, message: &Bound<'_, PyBytes>) -> bool {
        let limit = self.loop_channel.get().config.retry_buffer_bytes;
        let (dropped, has_rivals) = self.state.with(py, |state| {
            if state.replay.is_committed {
                return (None, false);
            }
            state.replay.bytes += message.as_bytes().len();
            // A call that backs off takes one message too many: it is committed once that is sent.
            if state.replay.bytes > limit && state.backs_off_until().is_none() {
                return (Some(state.commit()), false);
            }
            state.replay.messages.push(message.clone().unbind());
            (None, state.attempts.is_some())
        });
        dropped.map(|kept| kept.release(py));
        has_rivals
    }

    /// Whether a request can be kept for the next attempt, because there is none now.
    pub(super) fn takes_in_backoff(&self, py: Python<'_>) -> bool {
        let limit = self.loop_channel.get().config.retry_buffer_bytes;
        self.state.with(py, |state| state.backs_off_until().is_some() && state.replay.bytes < limit)
    }

    /// Sends on a connection what the call has sent before.
    pub(super) fn send_again(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>, id: CallId) {
        let py = slf.py();
        let is_there = || slf.get().state.with(py, |state| state.has_attempt(link, id));
        let limit = slf.get().loop_channel.get().config.retry_buffer_bytes;
        let (messages, ended, committed) = slf.get().state.with(py, |state| {
            let kept = state.replay.messages.iter().map(|kept| kept.clone_ref(py));
            let messages: Messages = kept.collect();
            let is_too_much = state.replay.bytes > limit;
            (messages, state.requests_ended, is_too_much.then(|| state.commit()))
        });
        committed.map(|kept| kept.release(py));
        for message in messages {
            // Sending may find the connection dead, and then there may be another attempt already.
            if !is_there() {
                return;
            }
            if let Err(status) = ClientLink::send_message(link, id, message.bind(py)) {
                return Self::fail(slf, status);
            }
        }
        if ended && is_there() {
            ClientLink::half_close(link, id);
        }
    }

    /// Ends an attempt that found no connection, and the call with it, unless it is made again.
    pub(crate) fn attempt_failed(slf: &Bound<'_, Self>, status: Status) {
        if let Some(outcome) = Self::try_again(slf, None, Outcome::local(status)) {
            Self::fail(slf, outcome.status);
        }
    }

    /// Makes a call again whose attempt has failed, at once or later. Otherwise the outcome, which is the call's, is given
    /// back.
    pub(super) fn try_again(
        slf: &Bound<'_, Self>,
        attempt: Option<(&Bound<'_, ClientLink>, CallId)>,
        outcome: Outcome,
    ) -> Option<Outcome> {
        let py = slf.py();
        let me = slf.get();
        if me.state.with(py, |state| state.hedge().is_some()) {
            return Self::hedge_failed(slf, attempt, outcome);
        }
        let config = &me.loop_channel.get().config;
        let (next, before) = me.state.with(py, |state| {
            let next = state.next(me.deadline, &outcome, config);
            let before = match next {
                Next::Nothing => None,
                _ => {
                    let place = Place::Pending { timer: None, parked: false };
                    Some(std::mem::replace(&mut state.place, place))
                }
            };
            (next, before)
        });
        let Some(before) = before else { return Some(outcome) };
        let begun = match next {
            Next::Backoff => LoopChannel::park(slf),
            _ => LoopChannel::submit(slf),
        };
        // Not before: the loop's channel may close with its last call.
        match before {
            Place::Active(link, id) => ClientLink::forget(link.bind(py), id),
            Place::Pending { timer, .. } => cancel_timer(py, timer),
            Place::Over => {}
        }
        // Whoever waits does so for an attempt that is no more.
        me.wake(py, |_| true);
        match begun {
            Ok(()) => None,
            Err(error) => {
                me.port.get().report(py, error);
                Self::leave(slf);
                Some(outcome)
            }
        }
    }

    /// Tells the channel's throttle how the call has ended, if there was no attempt whose end it has been told.
    pub(super) fn account(&self, py: Python<'_>, outcome: &Outcome) {
        let config = &self.loop_channel.get().config;
        if config.throttle.is_none() {
            return;
        }
        let was_committed = self.state.with(py, |state| state.replay.is_committed);
        let policy = self.method.rules.attempts().and_then(|config| config.retry.as_ref());
        with_throttle(config, |throttle| {
            let Some(throttle) = throttle else { return };
            let code = outcome.status.code;
            if outcome.status.is_ok() {
                throttle.succeeded();
            } else if was_committed && policy.is_some_and(|policy| policy.retryable.contains(code))
            {
                throttle.failed();
            }
        });
    }
}

pub(super) fn with_throttle<R>(
    channel: &Config,
    with: impl FnOnce(Option<&mut Throttle>) -> R,
) -> R {
    let throttle = channel.throttle.as_ref().map(Mutex::lock);
    with(throttle.map(|throttle| throttle.unwrap_or_else(PoisonError::into_inner)).as_deref_mut())
}

/// A number between 0 and 1 that nobody foresees.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
