//! The connections that take calls, and whose turn it is. It is what a call asks first, so that it is kept ready.

use super::link::ClientLink;
use oxgrpc_core::UsageError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use smallvec::SmallVec;

/// The connections to one address, the one to be filled first in front.
pub(super) type Connections = SmallVec<[Py<ClientLink>; 1]>;

/// What looking for a connection has come to.
pub(super) enum Pick<'py> {
    /// It takes a call.
    Link(Bound<'py, ClientLink>),
    /// It never takes one again, and nobody has been told.
    Dead(Bound<'py, ClientLink>, UsageError),
    /// All that there are have as many calls as their servers allow.
    Full,
    /// There is none.
    None,
}

#[derive(Default)]
pub(super) struct Picker {
    addresses: SmallVec<[Connections; 1]>,
    /// The address whose turn it is.
    next: usize,
}

impl Picker {
    /// Begins with the address at `first`.
    pub(super) fn new(addresses: SmallVec<[Connections; 1]>, first: usize) -> Self {
        Self { addresses, next: first }
    }

    /// The connection whose turn it is. It may turn out to be full.
    #[inline]
    pub(super) fn next(&mut self) -> Option<&Py<ClientLink>> {
        if let [only] = &self.addresses[..] {
            return only.first();
        }
        let at = self.next;
        self.next = if at + 1 < self.addresses.len() { at + 1 } else { 0 };
        self.addresses.get(at)?.first()
    }

    /// Looks for a connection that takes a call.
    pub(super) fn with_room<'py>(&mut self, py: Python<'py>) -> Pick<'py> {
        let count = self.addresses.len();
        for offset in 0..count {
            let at = (self.next + offset) % count;
            for link in &self.addresses[at] {
                match link.get().can_start(py) {
                    Ok(()) => {
                        self.next = (at + 1) % count;
                        return Pick::Link(link.bind(py).clone());
                    }
                    Err(UsageError::StreamLimit) => {}
                    Err(reason) => return Pick::Dead(link.bind(py).clone(), reason),
                }
            }
        }
        if count == 0 { Pick::None } else { Pick::Full }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.addresses.iter().flatten().try_for_each(|link| visit.call(link))
    }
}
