//! A connection on an event loop: a link, driven by the loop's readiness callbacks.
//!
//! Client and server differ in what an event means; how the loop is asked about the socket and how a connection ends is
//! the same and is here. One thread, no queue: a callback reads, the engine's events wake tasks, and what they send is
//! written when the last of them has run.

use crate::gil::GilCell;
use crate::port::{Dirty, Port};
use oxgrpc_core::Engine;
use oxgrpc_io::{End, LINGER};
use pyo3::PyClass;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyString;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Further reads in one go, while it is not known whether the transport has failed.
const LOOKS: usize = 4;

/// Output at which a sender gives the loop a turn.
const TURN_OUTPUT: usize = 64 << 10;

/// A link, and what the loop has been asked on its behalf.
pub(crate) struct LoopLink<E> {
    link: oxgrpc_io::Link<E>,
    /// Set while the link is in the port's list of connections to flush.
    dirty: bool,
    /// Set while the loop reports that the socket is readable.
    reads: bool,
    /// Set while the loop reports that the socket is writable.
    writes: bool,
    timer: Option<(Instant, Py<PyAny>)>,
}

impl<E> From<oxgrpc_io::Link<E>> for LoopLink<E> {
    fn from(link: oxgrpc_io::Link<E>) -> Self {
        Self { link, dirty: false, reads: false, writes: false, timer: None }
    }
}

impl<E> Deref for LoopLink<E> {
    type Target = oxgrpc_io::Link<E>;

    fn deref(&self) -> &Self::Target {
        &self.link
    }
}

impl<E> DerefMut for LoopLink<E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.link
    }
}

impl<E: Engine> LoopLink<E> {
    fn push(&mut self) -> Result<bool, End> {
        self.dirty = false;
        self.link.push()
    }
}

/// A connection as an object of the loop's.
pub(crate) trait Driven: PyClass<Frozen = True> + Sync {
    type Engine: Engine;

    fn port(&self) -> &Port;
    fn link(&self) -> &GilCell<LoopLink<Self::Engine>>;

    /// Takes the engine's events and acts on them.
    fn dispatch(slf: &Bound<'_, Self>);

    /// The connection has ended; the engine's calls are to be ended, too.
    fn ended(slf: &Bound<'_, Self>, end: &End);
}

/// Starts to drive a connection.
pub(crate) fn open<L: Driven>(slf: &Bound<'_, L>) {
    update_interest(slf, false);
    flush(slf);
}

/// The socket has something to read.
pub(crate) fn readable<L: Driven>(slf: &Bound<'_, L>) -> PyResult<()> {
    let py = slf.py();
    let me = slf.get();
    let mut result = read_turn(slf);
    if me.port().repeats {
        return result;
    }
    // Data may have come together with the transport's end, and this callback may have been the last: see
    // `Port::repeats`. What was written since has proved that it was not, as it does call by call.
    let may_have_failed = || me.link().with(py, |link| link.may_have_failed() && link.reads);
    for _ in 0..LOOKS {
        if result.is_err() || !may_have_failed() {
            return result;
        }
        result = read_turn(slf);
    }
    match may_have_failed() {
        true => result.and_then(|()| me.port().read_again(slf.as_any())),
        false => result,
    }
}

fn read_turn<L: Driven>(slf: &Bound<'_, L>) -> PyResult<()> {
    let py = slf.py();
    let me = slf.get();
    let mut buffer = me.port().take_buffer(py);
    let (pulled, came) =
        me.link().with(py, |link| (link.pull(&mut buffer, Instant::now()), link.may_have_failed()));
    me.port().return_buffer(py, buffer);
    if pulled.is_ok() && !came {
        return Ok(());
    }
    L::dispatch(slf);
    if let Err(end) = pulled {
        finish(slf, &end);
    }
    let result = me.port().run(py);
    flush(slf);
    update_timer(slf);
    result
}

/// The socket has room again.
pub(crate) fn writable<L: Driven>(slf: &Bound<'_, L>) -> PyResult<()> {
    flush(slf);
    slf.get().port().run(slf.py())
}

/// A deadline may have passed.
pub(crate) fn timer<L: Driven>(slf: &Bound<'_, L>) -> PyResult<()> {
    let py = slf.py();
    let lingered = slf.get().link().with(py, |link| {
        link.timer = None;
        link.engine.expire(Instant::now());
        link.is_lingering()
    });
    if lingered {
        close(slf);
        return Ok(());
    }
    L::dispatch(slf);
    let result = slf.get().port().run(py);
    flush(slf);
    update_timer(slf);
    result
}

/// Writes the output, now.
pub(crate) fn flush<L: Driven>(slf: &Bound<'_, L>) {
    let pushed = slf.get().link().with(slf.py(), LoopLink::push);
    match pushed {
        Ok(blocked) => {
            L::dispatch(slf);
            update_interest(slf, blocked);
        }
        Err(end) => finish(slf, &end),
    }
}

/// [`flush`] for the port, which does not know what kind of connection it has.
fn flush_any<L: Driven>(link: &Bound<'_, PyAny>) {
    if let Ok(link) = link.cast::<L>() {
        flush(link);
    }
}

/// Writes the output at the end of the turn, or of the loop's next one.
pub(crate) fn flush_later<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    let is_new = slf.get().link().with(py, |link| !std::mem::replace(&mut link.dirty, true));
    slf.get()
        .port()
        .flush_later(py, is_new.then(|| Dirty::new(slf.as_any().clone().unbind(), flush_any::<L>)));
}

/// Writes `len` octets of output now if they are many, and says so; otherwise at the end of the turn.
pub(crate) fn flush_if_much<L: Driven>(slf: &Bound<'_, L>, len: usize) -> bool {
    let is_much = len >= TURN_OUTPUT;
    match is_much {
        true => flush(slf),
        false => flush_later(slf),
    }
    is_much
}

/// Writes the output now if nothing else will: a task is about to wait for the peer's answer to it.
pub(crate) fn flush_before_waiting<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    if !slf.get().port().is_turning(py) && slf.get().link().with(py, |link| link.dirty) {
        flush(slf);
    }
}

/// Ends a connection: what waits in the output is still written, if the transport allows.
pub(crate) fn finish<L: Driven>(slf: &Bound<'_, L>, end: &End) {
    let py = slf.py();
    let was_open = slf.get().link().with(py, |link| link.is_open());
    if !was_open {
        if matches!(end, End::Closed(_) | End::Failed(_)) {
            close(slf);
        }
        return;
    }
    if let End::Violation(_) = end {
        // The GOAWAY is all that is left to say.
        let _ = slf.get().link().with(py, LoopLink::push);
        linger(slf);
    } else {
        close(slf);
    }
    L::ended(slf, end);
}

/// Says that nothing more comes and waits a little for the peer to close.
pub(crate) fn linger<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    slf.get().link().with(py, |link| link.linger());
    set_timer(slf, Instant::now() + LINGER);
}

/// Closes the socket.
pub(crate) fn close<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    let (stream, reads, writes, timer) = slf.get().link().with(py, |link| {
        let armed = (link.close(), link.reads, link.writes, link.timer.take());
        (link.reads, link.writes) = (false, false);
        armed
    });
    let Some(stream) = stream else { return };
    let event_loop = slf.get().port().event_loop.bind(py);
    // A closed loop refuses, and has forgotten the socket anyway.
    if reads {
        let _ = event_loop.call_method1(intern!(py, "remove_reader"), (stream.as_raw_fd(),));
    }
    if writes {
        let _ = event_loop.call_method1(intern!(py, "remove_writer"), (stream.as_raw_fd(),));
    }
    if let Some((_, handle)) = timer {
        let _ = handle.call_method0(py, intern!(py, "cancel"));
    }
}

/// Asks the loop for what the connection waits for.
fn update_interest<L: Driven>(slf: &Bound<'_, L>, blocked: bool) {
    let py = slf.py();
    let change = slf.get().link().with(py, |link| {
        let fd = link.descriptor()?;
        let reads = link.wants_read();
        let read = (reads != link.reads).then_some(reads);
        let write = (blocked != link.writes).then_some(blocked);
        (link.reads, link.writes) = (reads, blocked);
        (read.is_some() || write.is_some()).then_some((fd, read, write))
    });
    let Some((fd, read, write)) = change else { return };
    for (wanted, add, remove, method) in [
        (read, intern!(py, "add_reader"), intern!(py, "remove_reader"), intern!(py, "on_readable")),
        (
            write,
            intern!(py, "add_writer"),
            intern!(py, "remove_writer"),
            intern!(py, "on_writable"),
        ),
    ] {
        let result = match wanted {
            Some(true) => watch(slf, fd, add, method),
            Some(false) => unwatch(slf, fd, remove),
            None => Ok(()),
        };
        // A loop that is closed takes no callbacks, nor does a selector that is full: the connection is of no more use.
        if let Err(error) = result {
            finish(slf, &End::Failed(io::Error::other(error.to_string())));
            return;
        }
    }
}

fn watch<L: Driven>(
    slf: &Bound<'_, L>,
    fd: i32,
    add: &Bound<'_, PyString>,
    method: &Bound<'_, PyString>,
) -> PyResult<()> {
    let event_loop = slf.get().port().event_loop.bind(slf.py());
    event_loop.call_method1(add, (fd, slf.as_any().getattr(method)?)).map(drop)
}

fn unwatch<L: Driven>(slf: &Bound<'_, L>, fd: i32, remove: &Bound<'_, PyString>) -> PyResult<()> {
    let event_loop = slf.get().port().event_loop.bind(slf.py());
    event_loop.call_method1(remove, (fd,)).map(drop)
}

/// Makes sure that the next deadline is looked at in time.
pub(crate) fn update_timer<L: Driven>(slf: &Bound<'_, L>) {
    let due = slf.get().link().with(slf.py(), |link| {
        let due = link.engine.next_deadline()?;
        let set = link.timer.as_ref().map(|(at, _)| *at);
        (link.is_open() && set.is_none_or(|at| due < at)).then_some(due)
    });
    if let Some(due) = due {
        set_timer(slf, due);
    }
}

pub(crate) fn set_timer<L: Driven>(slf: &Bound<'_, L>, due: Instant) {
    let py = slf.py();
    let delay = due.saturating_duration_since(Instant::now()).as_secs_f64();
    let event_loop = slf.get().port().event_loop.bind(py);
    let handle = slf
        .as_any()
        .getattr(intern!(py, "on_timer"))
        .and_then(|method| event_loop.call_method1(intern!(py, "call_later"), (delay, method)));
    let Ok(handle) = handle else { return };
    let before =
        slf.get().link().with(py, |link| link.timer.replace((due, handle.clone().unbind())));
    if let Some((_, handle)) = before {
        let _ = handle.call_method0(py, intern!(py, "cancel"));
    }
}

/// What the garbage collector has to know of a link.
pub(crate) fn traverse<E: Engine>(
    link: &GilCell<LoopLink<E>>,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    link.traverse(|link| match &link.timer {
        Some((_, handle)) => visit.call(handle),
        None => Ok(()),
    })
}
