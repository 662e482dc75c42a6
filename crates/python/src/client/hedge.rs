//! Hedged calls (gRFC A6): several attempts at a time, of which the first that is answered wins.
//!
//! One of them, the foremost, is where the call is ([`Place::Active`]): it is read from, and its windows hold the requests
//! back. The others are its rivals: they get the same requests. Where the foremost fails a rival takes its place, and where
//! there is none the call is pending until the next attempt begins.

use super::attempts::{Attempts, Course, with_throttle};
use super::call::{Call, Place, State, cancel_timer};
use super::deadline::Deadline;
use super::link::{CallRef, ClientLink};
use super::loop_channel::LoopChannel;
use oxgrpc_core::{CallId, Outcome};
use oxgrpc_resilience::{Hedging, HedgingPolicy, HedgingVerdict, PUSHBACK, Pushback};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;
use std::time::Instant;

type Attempt = (Py<ClientLink>, CallId);

/// What a hedged call has until it is committed.
pub(super) struct Hedge {
    pub(super) hedging: Hedging,
    /// Attempts under way beside the foremost.
    rivals: SmallVec<[Attempt; 4]>,
    /// Begins the next attempt while others are under way.
    timer: Option<Py<PyAny>>,
    /// How the last attempt ended, while none is under way.
    last: Option<Outcome>,
}

/// What follows an attempt that has failed.
enum Next {
    /// Others are under way.
    Others,
    /// None is, and the next begins at once.
    AtOnce,
    /// None is, and the next begins later.
    Later,
}

impl Hedge {
    pub(super) fn new() -> Self {
        let hedging = Hedging::new(Instant::now());
        Self { hedging, rivals: SmallVec::new(), timer: None, last: None }
    }

    /// Cancels the rivals.
    pub(super) fn cancel(self, py: Python<'_>) {
        cancel_timer(py, self.timer);
        for (link, id) in self.rivals {
            ClientLink::forget(link.bind(py), id);
        }
    }

    fn position(&self, link: &Bound<'_, ClientLink>, id: CallId) -> Option<usize> {
        self.rivals.iter().position(|(own, at)| own.is(link) && *at == id)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.rivals.iter().try_for_each(|(link, _)| visit.call(link))?;
        self.timer.as_ref().map_or(Ok(()), |timer| visit.call(timer))
    }
}

impl State {
    pub(super) fn hedge(&mut self) -> Option<(&mut Hedge, &HedgingPolicy)> {
        match self.attempts.as_deref_mut()? {
            Attempts { config, course: Course::Hedge(hedge) } => {
                Some((hedge, config.hedging.as_ref()?))
            }
            Attempts { course: Course::Retry(..), .. } => None,
        }
    }

    fn is_foremost(&self, link: &Bound<'_, ClientLink>, id: CallId) -> bool {
        matches!(&self.place, Place::Active(own, at) if own.is(link) && *at == id)
    }

    /// Whether this is an attempt at the call, and not one that has lost.
    pub(super) fn has_attempt(&mut self, link: &Bound<'_, ClientLink>, id: CallId) -> bool {
        self.is_foremost(link, id)
            || self.hedge().is_some_and(|(hedge, _)| hedge.position(link, id).is_some())
    }

    /// Makes an attempt the foremost. `false`: it has lost before.
    pub(super) fn choose(&mut self, link: &Bound<'_, ClientLink>, id: CallId) -> bool {
        if self.is_foremost(link, id) {
            return true;
        }
        let Some((hedge, _)) = self.hedge() else { return false };
        let Some(at) = hedge.position(link, id) else { return false };
        let (link, id) = hedge.rivals.remove(at);
        let before = std::mem::replace(&mut self.place, Place::Active(link, id));
        if let (Place::Active(link, id), Some((hedge, _))) = (before, self.hedge()) {
            hedge.rivals.push((link, id));
        }
        true
    }
}

impl Call {
    /// The foremost attempt has begun: others may follow.
    pub(super) fn attempt_began(slf: &Bound<'_, Self>) {
        let is_hedged = slf.get().state.with(slf.py(), |state| match state.hedge() {
            Some((hedge, policy)) => {
                hedge.hedging.began(policy, Instant::now());
                true
            }
            None => false,
        });
        if is_hedged {
            Self::begin_rivals(slf);
        }
    }

    /// Begins the attempts that are due beside others.
    pub(super) fn begin_rivals(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let config = &slf.get().loop_channel.get().config;
        let is_due = |state: &mut State| {
            let is_active = matches!(state.place, Place::Active(..));
            let Some((hedge, _)) = state.hedge().filter(|_| is_active) else { return false };
            let now = Instant::now();
            with_throttle(config, |throttle| hedge.hedging.wants(throttle.as_deref(), now))
        };
        while slf.get().state.with(py, is_due) {
            if !Self::begin_rival(slf) {
                slf.get().state.with(py, |state| {
                    if let Some((hedge, policy)) = state.hedge() {
                        hedge.hedging.postpone(policy, Instant::now());
                    }
                });
                break;
            }
        }
        if let Err(error) = Self::arm_rivals(slf) {
            slf.get().port.get().report(py, error);
        }
    }

    /// Begins another attempt beside the others. `false`: there is no connection for it now.
    fn begin_rival(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let me = slf.get();
        let Some(link) = LoopChannel::link_with_room(me.loop_channel.bind(py)) else {
            return false;
        };
        let Ok(reference) = CallRef::new(slf) else { return false };
        let has_one_request = me.method.kind.has_one_request();
        let started = me.state.with(py, |state| {
            let message = state.replay.messages().first().filter(|_| has_one_request);
            let message = message.map(|message| message.bind(py));
            link.get().start(py, &state.request, message, state.previous_attempts())
        });
        let Ok(id) = started else { return false };
        link.get().attach(py, id, reference);
        me.state.with(py, |state| {
            if let Some((hedge, policy)) = state.hedge() {
                hedge.rivals.push((link.clone().unbind(), id));
                hedge.hedging.began(policy, Instant::now());
            }
        });
        if !has_one_request {
            Self::send_again(slf, &link, id);
        }
        ClientLink::flush_call(&link);
        true
    }

    /// Sets the timer for the next attempt beside others.
    fn arm_rivals(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        let due = me.state.with(py, |state| {
            let is_active = matches!(state.place, Place::Active(..));
            state.hedge().filter(|_| is_active)?.0.hedging.next_due()
        });
        let timer = match due {
            Some(due) => {
                let delay = due.saturating_duration_since(Instant::now());
                let callback = Bound::new(py, Deadline::new(CallRef::new(slf)?))?;
                Some(me.loop_channel.get().call_later(py, delay, callback.as_any())?)
            }
            None => None,
        };
        let before = me.state.with(py, |state| match state.hedge() {
            Some((hedge, _)) => std::mem::replace(&mut hedge.timer, timer),
            None => timer,
        });
        cancel_timer(py, before);
        Ok(())
    }

    /// An attempt at a hedged call has failed, or has found no connection. The outcome is given back if it is the call's.
    pub(super) fn hedge_failed(
        slf: &Bound<'_, Self>,
        attempt: Option<(&Bound<'_, ClientLink>, CallId)>,
        outcome: Outcome,
    ) -> Option<Outcome> {
        let py = slf.py();
        let me = slf.get();
        let config = &me.loop_channel.get().config;
        let now = Instant::now();
        let followed = me.state.with(py, |state| {
            if state.replay.is_committed() || me.deadline.is_some_and(|deadline| deadline <= now) {
                return None;
            }
            let was_unseen = state.replay.was_unseen(&outcome);
            let (hedge, policy) = state.hedge()?;
            if attempt.is_none() {
                hedge.hedging.began(policy, now);
            }
            if was_unseen {
                hedge.hedging.unseen(now);
            } else {
                let pushback = Pushback::read(outcome.trailing.get(PUSHBACK));
                let code = outcome.status.code;
                let verdict = with_throttle(config, |throttle| {
                    hedge.hedging.failed(policy, code, pushback, throttle, now)
                });
                if verdict == HedgingVerdict::Final {
                    return None;
                }
            }
            if let Some((link, id)) = attempt
                && let Some(at) = hedge.position(link, id)
            {
                let (link, id) = hedge.rivals.remove(at);
                return Some((Next::Others, Some(Place::Active(link, id))));
            }
            let (next, place) = match hedge.rivals.pop() {
                Some((link, id)) => (Next::Others, Place::Active(link, id)),
                None => {
                    let is_due = hedge.hedging.next_due().is_some_and(|due| due <= now);
                    hedge.last = Some(outcome.clone());
                    let next = if is_due { Next::AtOnce } else { Next::Later };
                    (next, Place::Pending { timer: None, parked: false })
                }
            };
            Some((next, Some(std::mem::replace(&mut state.place, place))))
        });
        let Some((next, before)) = followed else { return Some(outcome) };
        let begun = match next {
            Next::Others => {
                Self::begin_rivals(slf);
                Ok(())
            }
            Next::AtOnce => LoopChannel::submit(slf),
            Next::Later => LoopChannel::park(slf),
        };
        // Not before: the loop's channel may close with its last call.
        match before {
            Some(Place::Active(link, id)) => ClientLink::forget(link.bind(py), id),
            Some(Place::Pending { timer, .. }) => cancel_timer(py, timer),
            Some(Place::Over) | None => {}
        }
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

    /// How a call has ended whose next attempt is due and which, meanwhile, may have no more.
    pub(super) fn given_up(&self, py: Python<'_>) -> Option<Outcome> {
        let config = &self.loop_channel.get().config;
        self.state.with(py, |state| {
            let (hedge, _) = state.hedge()?;
            let now = Instant::now();
            let wants =
                with_throttle(config, |throttle| hedge.hedging.wants(throttle.as_deref(), now));
            if wants || !hedge.hedging.is_over() { None } else { hedge.last.take() }
        })
    }

    /// Gives the rivals a request.
    pub(super) fn send_to_rivals(slf: &Bound<'_, Self>, message: &Bound<'_, PyBytes>) {
        for (link, id) in slf.get().rivals(slf.py()) {
            // One that cannot go on says so by its end.
            let _ = ClientLink::send_message(link.bind(slf.py()), id, message);
        }
    }

    /// Ends the requests of all attempts.
    pub(super) fn half_close(slf: &Bound<'_, Self>) {
        let py = slf.py();
        for (link, id) in slf.get().active(py).into_iter().chain(slf.get().rivals(py)) {
            ClientLink::half_close(link.bind(py), id);
        }
    }

    fn rivals(&self, py: Python<'_>) -> SmallVec<[Attempt; 4]> {
        self.state.with(py, |state| match state.hedge() {
            Some((hedge, _)) => {
                hedge.rivals.iter().map(|(link, id)| (link.clone_ref(py), *id)).collect()
            }
            None => SmallVec::new(),
        })
    }
}
