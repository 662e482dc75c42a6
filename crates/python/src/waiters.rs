//! Who waits for something of a call's: awaitables, each with what it waits for.

use crate::awaitable::Awaitable;
use crate::port::{Port, Ready};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use smallvec::SmallVec;

/// Awaitables by what they wait for; nearly always one. What is taken out is dropped or woken by the caller, once the
/// state that this lies in is no longer borrowed.
pub(crate) struct Waiters<W>(SmallVec<[(W, Py<Awaitable>); 1]>);

impl<W> Default for Waiters<W> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<W: Copy> Waiters<W> {
    pub(crate) fn push(&mut self, wait: W, awaitable: Py<Awaitable>) {
        self.0.push((wait, awaitable));
    }

    /// Takes out one that no longer waits.
    pub(crate) fn remove(&mut self, awaitable: &Bound<'_, Awaitable>) -> Option<Py<Awaitable>> {
        let at = self.0.iter().position(|(_, waiter)| waiter.is(awaitable))?;
        Some(self.0.remove(at).1)
    }

    /// Takes out all that wait for what `wakes` names, in their order.
    pub(crate) fn take(&mut self, wakes: impl Fn(W) -> bool) -> Woken {
        let mut woken = SmallVec::new();
        let mut at = 0;
        while at < self.0.len() {
            if wakes(self.0[at].0) {
                woken.push(self.0.remove(at).1);
            } else {
                at += 1;
            }
        }
        Woken(woken)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|(_, awaitable)| visit.call(awaitable))
    }
}

/// Those to wake.
pub(crate) struct Woken(SmallVec<[Py<Awaitable>; 1]>);

impl Woken {
    pub(crate) fn enqueue(self, py: Python<'_>, port: &Port) {
        for awaitable in self.0 {
            port.enqueue(py, Ready::Wake(awaitable));
        }
    }
}
