//! A client's connection on a loop, and the calls that run on it.

use super::call::Call;
use super::loop_channel::LoopChannel;
use super::method::Request;
use crate::gil::GilCell;
use crate::link::{self, Driven, LoopLink};
use crate::message::{Message, Outgoing};
use crate::names::log;
use crate::port::{Inflation, Port};
use crate::slots::Slots;
use oxgrpc_core::{
    CallId, ClientConnection, ClientEvent, Code, ConnectionId, Engine, ErrorCode, Metadata, Next,
    Outcome, StartError, Status, UsageError,
};
use oxgrpc_io::{End, Link};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};
use smallvec::SmallVec;
use std::io;
use std::time::Instant;

/// What a server says to a client that pings it too often (gRFC A8).
const TOO_MANY_PINGS: &str = "too_many_pings";

/// How a connection refers to a call.
pub(crate) enum CallRef {
    /// A unary response comes to its end whether or not somebody keeps the call.
    Strong(Py<Call>),
    /// A stream of responses that nobody keeps is cancelled: see [`Call`]'s end.
    Weak(Py<PyWeakrefReference>),
}

impl CallRef {
    pub(crate) fn new(call: &Bound<'_, Call>) -> PyResult<Self> {
        Ok(match call.get().has_unary_response() {
            true => Self::Strong(call.clone().unbind()),
            false => Self::Weak(PyWeakrefReference::new(call)?.unbind()),
        })
    }

    pub(crate) fn upgrade<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Call>> {
        match self {
            Self::Strong(call) => Some(call.bind(py).clone()),
            Self::Weak(call) => call.bind(py).upgrade()?.cast_into().ok(),
        }
    }

    /// Whether the call is still in line for a connection.
    pub(crate) fn is_pending(&self, py: Python<'_>) -> bool {
        self.upgrade(py).is_some_and(|call| call.get().waits_for_ready(py).is_some())
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Strong(call) => Self::Strong(call.clone_ref(py)),
            Self::Weak(call) => Self::Weak(call.clone_ref(py)),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Strong(call) => visit.call(call),
            Self::Weak(call) => visit.call(call),
        }
    }
}

/// A client's connection.
#[pyclass(frozen, module = "oxgrpc._native", name = "ClientLink")]
pub(crate) struct ClientLink {
    /// Its name to the balancer.
    pub(super) id: ConnectionId,
    loop_channel: Py<LoopChannel>,
    port: Py<Port>,
    link: GilCell<LoopLink<ClientConnection<Message>>>,
    calls: GilCell<Slots<CallRef>>,
}

/// What an event means to a call. It is collected while the engine is borrowed, and carried out after.
enum Action {
    Headers(CallRef, CallId, Metadata),
    Readable(CallRef),
    Writable(CallRef),
    /// The response, if it is the only one, has been taken out already.
    Ended(CallRef, CallId, Option<Metadata>, Outcome, Option<Next<Message>>),
    /// The response is compressed: the call ends with it in a turn of the loop that has time to inflate it.
    Inflate(CallId),
    Settings,
    Lost,
    GoAway(ErrorCode, String),
}

/// How a call has ended. A call with one response is forgotten with that; a stream is known until it is read, because its
/// deadline may still pass before.
fn ended(
    engine: &mut ClientConnection<Message>,
    calls: &mut Slots<CallRef>,
    id: CallId,
    py: Python<'_>,
) -> Option<Action> {
    let (call, response) = match calls.get(id)? {
        CallRef::Strong(_) => (calls.take(id)?, true),
        CallRef::Weak(call) => (CallRef::Weak(call.clone_ref(py)), false),
    };
    let initial = engine.take_initial_metadata(id);
    let outcome = engine.take_outcome(id)?;
    let response = response.then(|| {
        let response = engine.take_message(id);
        engine.forget(id);
        response
    });
    Some(Action::Ended(call, id, initial, outcome, response))
}

impl ClientLink {
    pub(crate) fn new(
        py: Python<'_>,
        loop_channel: &Bound<'_, LoopChannel>,
        id: ConnectionId,
        link: Link<ClientConnection<Message>>,
    ) -> PyResult<Py<Self>> {
        Py::new(
            py,
            Self {
                id,
                loop_channel: loop_channel.clone().unbind(),
                port: loop_channel.get().port().clone_ref(py),
                link: GilCell::new(link.into()),
                calls: GilCell::new(Slots::default()),
            },
        )
    }

    /// Whether a call could be started now.
    pub(super) fn can_start(&self, py: Python<'_>) -> Result<(), UsageError> {
        self.link.with(py, |link| match link.is_open() {
            true => link.engine.can_start(),
            false => Err(UsageError::ConnectionClosed),
        })
    }

    /// A number that changes with each call.
    pub(super) fn started(&self, py: Python<'_>) -> u32 {
        self.link.with(py, |link| link.engine.started())
    }

    /// Starts a call, and sends its only request. The call itself is told to the link with [`attach`](Self::attach).
    pub(crate) fn start(
        &self,
        py: Python<'_>,
        request: &Request,
        message: Option<&Bound<'_, PyBytes>>,
        previous_attempts: u32,
    ) -> Result<CallId, StartError> {
        self.link.with(py, |link| {
            // The end of the others is being told, and one of them starts this one.
            if !link.is_open() {
                return Err(StartError::NotNow(UsageError::ConnectionClosed));
            }
            let engine = &mut link.engine;
            let id = engine.start(&request.head(previous_attempts), Instant::now())?;
            if let Some(message) = message {
                let sent = engine.send_message(id, Outgoing::new(message), true, true);
                if let Err(status) = sent {
                    engine.forget(id);
                    return Err(StartError::Failed(status));
                }
            }
            Ok(id)
        })
    }

    pub(crate) fn attach(&self, py: Python<'_>, id: CallId, call: CallRef) {
        self.calls.with(py, |calls| calls.insert(id, call));
    }

    /// Writes what a call has produced: at once if it is alone, with the others' otherwise.
    pub(crate) fn flush_call(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let is_alone = me.link.with(py, |link| link.engine.calls() == 1);
        if is_alone && !me.port.get().is_turning(py) {
            link::flush(slf);
        } else {
            link::flush_later(slf);
        }
        link::update_timer(slf);
    }

    /// Reads a call's next response.
    pub(crate) fn take_message(slf: &Bound<'_, Self>, id: CallId) -> Next<Message> {
        let (next, has_output, inflated) = slf.get().link.with(slf.py(), |link| {
            let next = link.engine.take_message(id);
            (next, link.output_len() > 0, link.engine.take_inflated())
        });
        slf.get().port.get().inflated(slf.py(), inflated);
        if has_output {
            link::flush_later(slf);
        }
        if matches!(next, Next::Pending) {
            link::update_timer(slf);
        }
        next
    }

    /// Whether the next response has to be inflated to be read.
    pub(crate) fn next_is_compressed(&self, py: Python<'_>, id: CallId) -> bool {
        self.link.with(py, |link| link.engine.next_is_compressed(id))
    }

    /// Ends a call with its only response, which is inflated now or in a later turn of the loop. Until then it has not ended:
    /// it can still be cancelled.
    fn end_with_response(slf: &Bound<'_, Self>, id: CallId, waited: bool) {
        let py = slf.py();
        let me = slf.get();
        let later = || Inflation::Response {
            link: slf.clone().into_any().unbind(),
            call: id,
            end: |link, id| {
                if let Ok(link) = link.cast::<Self>() {
                    Self::end_with_response(link, id, true);
                }
            },
        };
        if !me.port.get().may_inflate(py, waited, later) {
            return;
        }
        let (action, inflated) = me.link.with(py, |link| {
            let action = me.calls.with(py, |calls| ended(&mut link.engine, calls, id, py));
            (action, link.engine.take_inflated())
        });
        me.port.get().inflated(py, inflated);
        let Some(Action::Ended(call, id, initial, outcome, response)) = action else { return };
        if let Some(call) = call.upgrade(py) {
            Call::on_ended(&call, (slf, id), initial, outcome, response);
        }
        LoopChannel::calls_changed(me.loop_channel.bind(py));
    }

    /// Ends the calls whose deadlines have passed: the loop may be too busy to have called the timer.
    pub(crate) fn expire(slf: &Bound<'_, Self>) {
        slf.get().link.with(slf.py(), |link| link.engine.expire(Instant::now()));
        Self::dispatch(slf);
        link::flush_later(slf);
    }

    /// Sends a request. `Ok(true)`: there is much to send, and the loop is to have a turn.
    pub(crate) fn send_message(
        slf: &Bound<'_, Self>,
        id: CallId,
        message: &Bound<'_, PyBytes>,
    ) -> Result<bool, Status> {
        let (len, deflated) = slf.get().link.with(slf.py(), |link| {
            link.engine.send_message(id, Outgoing::new(message), true, false)?;
            Ok((link.output_len(), link.engine.take_deflated()))
        })?;
        let is_much_work = slf.get().port.get().deflated(slf.py(), deflated);
        Ok(link::flush_if_much(slf, len) || is_much_work)
    }

    /// Whether a response waits to be read.
    pub(crate) fn has_message(&self, py: Python<'_>, id: CallId) -> bool {
        self.link.with(py, |link| link.engine.has_message(id))
    }

    /// Whether requests of a call wait for the windows.
    pub(crate) fn is_queued(&self, py: Python<'_>, id: CallId) -> bool {
        self.link.with(py, |link| link.engine.is_queued(id))
    }

    /// Ends a call's requests.
    pub(crate) fn half_close(slf: &Bound<'_, Self>, id: CallId) {
        slf.get().link.with(slf.py(), |link| link.engine.half_close(id));
        link::flush_later(slf);
    }

    /// Forgets a call; one that has not ended is reset.
    pub(crate) fn forget(slf: &Bound<'_, Self>, id: CallId) {
        let py = slf.py();
        slf.get().link.with(py, |link| link.engine.forget(id));
        let call = slf.get().calls.with(py, |calls| calls.take(id));
        drop(call);
        link::flush_later(slf);
        LoopChannel::calls_changed(slf.get().loop_channel.bind(py));
    }

    pub(crate) fn peer(&self, py: Python<'_>) -> String {
        self.link.with(py, |link| link.peer().to_string())
    }

    /// The calls that run here and have not ended.
    pub(crate) fn calls<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, Call>> {
        let calls: Vec<CallRef> =
            self.calls.with(py, |calls| calls.values().map(|call| call.clone_ref(py)).collect());
        let running = calls.iter().filter_map(|call| call.upgrade(py));
        running.filter(|call| !call.get().has_ended(py)).collect()
    }

    pub(crate) fn call_count(&self, py: Python<'_>) -> usize {
        self.link.with(py, |link| link.engine.calls())
    }

    /// Says farewell and closes.
    pub(crate) fn close(slf: &Bound<'_, Self>) {
        slf.get().link.with(slf.py(), |link| {
            if link.is_open() {
                link.engine.http_mut().go_away(ErrorCode::NO_ERROR, "");
            }
        });
        link::flush(slf);
        link::close(slf);
    }

    /// Closes a connection that another thread's loop drives: that loop will see its end.
    pub(crate) fn shut_down(&self, py: Python<'_>) {
        self.link.with(py, |link| link.shut_down());
    }

    fn collect(&self, py: Python<'_>) -> SmallVec<[Action; 8]> {
        let mut actions = SmallVec::new();
        self.link.with(py, |link| {
            let engine = &mut link.engine;
            self.calls.with(py, |calls| {
                let at = |calls: &Slots<CallRef>, id| Some(calls.get(id)?.clone_ref(py));
                while let Some(event) = engine.next_event() {
                    actions.extend(match event {
                        ClientEvent::Headers(id) => at(calls, id).and_then(|call| {
                            Some(Action::Headers(call, id, engine.take_initial_metadata(id)?))
                        }),
                        ClientEvent::Readable(id) => at(calls, id).map(Action::Readable),
                        ClientEvent::Writable(id) => at(calls, id).map(Action::Writable),
                        ClientEvent::Ended(id) if engine.next_is_compressed(id) => at(calls, id)
                            .and_then(|call| match call {
                                CallRef::Strong(_) => Some(Action::Inflate(id)),
                                CallRef::Weak(_) => ended(engine, calls, id, py),
                            }),
                        ClientEvent::Ended(id) => ended(engine, calls, id, py),
                        ClientEvent::Settings => Some(Action::Settings),
                        ClientEvent::Lost => Some(Action::Lost),
                        ClientEvent::GoAway { code, debug } => Some(Action::GoAway(code, debug)),
                        _ => None,
                    });
                }
            });
        });
        actions
    }
}

impl Driven for ClientLink {
    type Engine = ClientConnection<Message>;

    fn port(&self) -> &Port {
        self.port.get()
    }

    fn link(&self) -> &GilCell<LoopLink<Self::Engine>> {
        &self.link
    }

    fn dispatch(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let mut ended = false;
        for action in me.collect(py) {
            match action {
                Action::Headers(call, id, metadata) => {
                    if let Some(call) = call.upgrade(py) {
                        call.get().on_headers(slf, id, metadata);
                    }
                }
                Action::Readable(call) => {
                    if let Some(call) = call.upgrade(py) {
                        call.get().on_readable(py);
                    }
                }
                Action::Writable(call) => {
                    if let Some(call) = call.upgrade(py) {
                        call.get().on_writable(py);
                    }
                }
                Action::Ended(call, id, initial, outcome, response) => {
                    ended = true;
                    if let Some(call) = call.upgrade(py) {
                        Call::on_ended(&call, (slf, id), initial, outcome, response);
                    }
                }
                Action::Inflate(id) => Self::end_with_response(slf, id, false),
                Action::Settings => LoopChannel::established(me.loop_channel.bind(py), slf),
                Action::Lost => {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "ping timeout");
                    link::finish(slf, &End::Failed(error));
                }
                Action::GoAway(code, debug) => {
                    if code != ErrorCode::NO_ERROR {
                        let peer = me.peer(py);
                        log(py, "went_away", (peer, &debug));
                    }
                    if code == ErrorCode::ENHANCE_YOUR_CALM && debug == TOO_MANY_PINGS {
                        me.loop_channel.get().calm_down(py);
                    }
                    LoopChannel::went_away(me.loop_channel.bind(py), slf);
                }
            }
        }
        if ended {
            LoopChannel::calls_changed(me.loop_channel.bind(py));
        }
    }

    fn ended(slf: &Bound<'_, Self>, end: &End) {
        let py = slf.py();
        let me = slf.get();
        let peer = me.peer(py);
        let why = match end {
            End::Closed(None) => "the server closed the connection".into(),
            End::Closed(Some(rule)) => {
                log(py, "broken_by_peer", (&peer, *rule));
                (*rule).to_owned()
            }
            End::Violation(violation) => {
                log(py, "broken_by_peer", (&peer, violation.to_string()));
                format!("the server broke a rule: {violation}")
            }
            End::Failed(error) => error.to_string(),
        };
        let text = format!("{peer}: {why}");
        let status = Status::new(Code::Unavailable, text.clone());
        me.link.with(py, |link| link.engine.close(&status));
        Self::dispatch(slf);
        LoopChannel::lost(me.loop_channel.bind(py), slf, &text);
    }
}

#[pymethods]
impl ClientLink {
    fn on_readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        link::readable(slf)
    }

    fn on_writable(slf: &Bound<'_, Self>) -> PyResult<()> {
        link::writable(slf)
    }

    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        link::timer(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.loop_channel)?;
        visit.call(&self.port)?;
        link::traverse(&self.link, &visit)?;
        self.calls.traverse(|calls| calls.values().try_for_each(|call| call.traverse(&visit)))
    }

    fn __clear__(&self, py: Python<'_>) {
        let calls = self.calls.with(py, std::mem::take);
        drop(calls);
    }
}
