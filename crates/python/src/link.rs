//! A connection on an event loop: a stream and an engine, driven by the loop's readiness callbacks.
//!
//! Client and server differ in what an event means; how octets move, when the loop is asked about the socket and how a
//! connection ends is the same and is here. One thread, no queue: a callback reads, the engine's events wake tasks, and
//! what they send is written when the last of them has run.

use crate::client::ClientLink;
use crate::gil::GilCell;
use crate::port::Port;
use crate::server::ServerLink;
use oxgrpc_core::{Engine, Violation};
use oxgrpc_io::{Address, Handshake, Stream};
use pyo3::PyClass;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyString;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Octets read in one go before the loop gets its turn.
const TURN_INPUT: usize = 1 << 20;

/// Reads in one go, however little they give: TLS records may be empty.
const TURN_READS: usize = 32;

/// Further reads in one go, while it is not known whether the transport has failed.
const LOOKS: usize = 4;

/// Octets written in one go before the loop gets its turn.
const WRITE: usize = 4 << 20;

/// After the last GOAWAY, what still comes is read and dropped for so long: closing at once would reset the connection,
/// and the peer might lose the GOAWAY.
const LINGER: Duration = Duration::from_secs(1);

/// Output at which a sender gives the loop a turn.
const TURN_OUTPUT: usize = 64 << 10;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed it; a rule that this breaks, if any.
    Closed(Option<&'static str>),
    /// The peer broke a rule.
    Violation(Violation),
    /// The transport failed.
    Failed(io::Error),
}

/// A stream and an engine.
pub(crate) struct Link<E> {
    pub(crate) engine: E,
    stream: Option<Stream>,
    /// What TLS's handshake came to, once the stream is closed.
    handshake: Option<Arc<Handshake>>,
    peer: Address,
    /// The start of a frame that is not whole.
    rest: Vec<u8>,
    /// Stands in the port's list of connections to flush.
    dirty: bool,
    reads: bool,
    writes: bool,
    lingers: bool,
    /// Something was read, and nothing written since: if the transport has failed, nobody knows yet.
    unproven: bool,
    timer: Option<(Instant, Py<PyAny>)>,
}

impl<E: Engine> Link<E> {
    pub(crate) fn new(engine: E, stream: impl Into<Stream>) -> Self {
        let stream = stream.into();
        Self {
            engine,
            peer: stream.peer().clone(),
            stream: Some(stream),
            handshake: None,
            rest: Vec::new(),
            dirty: false,
            reads: false,
            writes: false,
            lingers: false,
            unproven: false,
            timer: None,
        }
    }

    pub(crate) fn peer(&self) -> &Address {
        &self.peer
    }

    /// What TLS's handshake came to, if there was one.
    pub(crate) fn handshake(&self) -> Option<Arc<Handshake>> {
        let of_stream = self.stream.as_ref().and_then(Stream::handshake);
        of_stream.or(self.handshake.as_ref()).cloned()
    }

    /// Whether the connection can carry anything more.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some() && !self.lingers
    }

    pub(crate) fn output_len(&self) -> usize {
        self.engine.http().output_len()
    }

    /// Whether all output has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output_len() == 0 && !self.stream.as_ref().is_some_and(Stream::has_pending)
    }

    /// Makes the loop see the end of a connection that another thread's loop drives.
    pub(crate) fn shut_down(&self) {
        if let Some(stream) = &self.stream {
            stream.shut_down();
        }
    }

    /// Reads until the socket is empty or enough has come for one turn, and takes in what came.
    fn pull(&mut self, buffer: &mut Vec<u8>, now: Instant) -> Result<(), End> {
        let mut total = 0;
        let mut reads = 0;
        self.unproven = false;
        // What is decrypted already is taken in any case: the loop does not know of it.
        while total < TURN_INPUT && reads < TURN_READS
            || self.stream.as_ref().is_some_and(Stream::has_buffered)
        {
            reads += 1;
            let room = buffer.len() - self.rest.len();
            let len = self.pull_once(buffer, now)?;
            total += len;
            // A read that does not fill the buffer has emptied the socket.
            if self.stream.as_ref().is_none_or(|stream| stream.is_drained(len, room)) {
                break;
            }
        }
        Ok(())
    }

    /// Reads once; returns how much came.
    fn pull_once(&mut self, buffer: &mut Vec<u8>, now: Instant) -> Result<usize, End> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let kept = self.rest.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        let len = match stream.read(&mut buffer[kept..]) {
            Ok(None) => {
                // A handshake that goes on is to be answered.
                self.unproven |= stream.take_heard();
                return Ok(0);
            }
            Ok(Some(0)) => return Err(End::Closed(self.engine.http().end_of_input(kept))),
            Ok(Some(len)) => len,
            Err(error) => return Err(End::Failed(error)),
        };
        self.unproven = true;
        if self.lingers {
            return Ok(len);
        }
        buffer[..kept].copy_from_slice(&self.rest);
        let mut input = &buffer[..kept + len];
        let received = self.engine.receive(&mut input, now);
        self.rest.clear();
        self.rest.extend_from_slice(input);
        received.map_err(End::Violation)?;
        Ok(len)
    }

    /// Writes what there is. `true`: the socket is full, or there is still more.
    fn push(&mut self) -> Result<bool, End> {
        self.dirty = false;
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let http = self.engine.http_mut();
        let mut written = 0;
        loop {
            http.fill();
            if http.output_len() == 0 {
                return stream.flush().map_err(End::Failed);
            }
            if written >= WRITE {
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); 64];
            let count = http.slices(&mut slices);
            match stream.write(&slices[..count]) {
                Ok(None) => return Ok(stream.is_blocked()),
                Ok(Some(len)) => {
                    self.unproven = false;
                    written += len;
                    http.advance(len);
                }
                Err(error) => return Err(End::Failed(error)),
            }
        }
    }
}

/// A connection as an object of the loop's.
pub(crate) trait Driven: PyClass<Frozen = True> + Sync {
    type Engine: Engine;

    fn port(&self) -> &Port;
    fn link(&self) -> &GilCell<Link<Self::Engine>>;

    /// The object, for the port's list.
    fn any(slf: &Bound<'_, Self>) -> AnyLink;

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
    let is_unproven = || me.link().with(py, |link| link.unproven && link.reads);
    for _ in 0..LOOKS {
        if result.is_err() || !is_unproven() {
            return result;
        }
        result = read_turn(slf);
    }
    match is_unproven() {
        true => result.and_then(|()| me.port().read_again(slf.as_any())),
        false => result,
    }
}

fn read_turn<L: Driven>(slf: &Bound<'_, L>) -> PyResult<()> {
    let py = slf.py();
    let me = slf.get();
    let mut buffer = me.port().take_buffer(py);
    let (pulled, came) =
        me.link().with(py, |link| (link.pull(&mut buffer, Instant::now()), link.unproven));
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
        link.lingers
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
    let pushed = slf.get().link().with(slf.py(), Link::push);
    match pushed {
        Ok(blocked) => {
            L::dispatch(slf);
            update_interest(slf, blocked);
        }
        Err(end) => finish(slf, &end),
    }
}

/// Writes the output at the end of the turn, or of the loop's next one.
pub(crate) fn flush_later<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    let is_new = slf.get().link().with(py, |link| !std::mem::replace(&mut link.dirty, true));
    slf.get().port().flush_later(py, is_new.then(|| L::any(slf)));
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
        let _ = slf.get().link().with(py, Link::push);
        linger(slf);
    } else {
        close(slf);
    }
    L::ended(slf, end);
}

/// Says that nothing more comes and waits a little for the peer to close.
pub(crate) fn linger<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    slf.get().link().with(py, |link| {
        link.lingers = true;
        if let Some(stream) = &mut link.stream {
            stream.shut_down_write();
        }
    });
    set_timer(slf, Instant::now() + LINGER);
}

/// Closes the socket.
pub(crate) fn close<L: Driven>(slf: &Bound<'_, L>) {
    let py = slf.py();
    let (stream, reads, writes, timer) = slf.get().link().with(py, |link| {
        link.handshake = link.handshake();
        let armed = (link.stream.take(), link.reads, link.writes, link.timer.take());
        (link.reads, link.writes) = (false, false);
        armed
    });
    let Some(mut stream) = stream else { return };
    stream.say_goodbye();
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
        let fd = link.stream.as_ref()?.as_raw_fd();
        let reads = link.lingers || link.engine.http().wants_read();
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
    link: &GilCell<Link<E>>,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    link.traverse(|link| match &link.timer {
        Some((_, handle)) => visit.call(handle),
        None => Ok(()),
    })
}

/// Either end's connection.
pub(crate) enum AnyLink {
    Client(Py<ClientLink>),
    Server(Py<ServerLink>),
}

impl AnyLink {
    pub(crate) fn flush(&self, py: Python<'_>) {
        match self {
            Self::Client(link) => flush(link.bind(py)),
            Self::Server(link) => flush(link.bind(py)),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Client(link) => visit.call(link),
            Self::Server(link) => visit.call(link),
        }
    }
}
