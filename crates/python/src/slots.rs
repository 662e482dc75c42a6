//! What a connection keeps for each of its calls.
//!
//! A slot is found by [`CallId::index`], which another call has as soon as the engine has forgotten the one before. So the
//! whole name is compared each time: who comes late, for a call that is gone, finds nothing.

use oxgrpc_core::CallId;

/// Values by the names of calls.
pub(crate) struct Slots<T>(Vec<Option<(CallId, T)>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    pub(crate) fn get(&self, id: CallId) -> Option<&T> {
        let (held, value) = self.0.get(id.index())?.as_ref()?;
        (*held == id).then_some(value)
    }

    /// Keeps a value for a call that has none yet.
    pub(crate) fn insert(&mut self, id: CallId, value: T) {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, || None);
        }
        self.0[id.index()] = Some((id, value));
    }

    pub(crate) fn take(&mut self, id: CallId) -> Option<T> {
        let slot = self.0.get_mut(id.index())?;
        slot.take_if(|(held, _)| *held == id).map(|(_, value)| value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten().map(|(_, value)| value)
    }
}
