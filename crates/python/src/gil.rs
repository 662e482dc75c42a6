//! State that Python's lock guards.
//!
//! The objects of this crate belong to one event loop and are touched with the GIL held, so a mutex of their own would
//! only cost. What must not happen is that Python runs while their state is borrowed: it re-enters them. [`GilCell`]
//! lends its value to a closure, which is to run no Python, and panics where it is entered a second time.

use pyo3::{PyTraverseError, Python};
use std::cell::{Cell, UnsafeCell};

/// A value that is borrowed by one closure at a time, with the GIL held.
///
/// The closure must not call into Python, nor drop a reference that may be an object's last: move it out and drop it
/// after. Creating `bytes` is fine, it runs no Python and no garbage collection.
pub(crate) struct GilCell<T> {
    borrowed: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: both cells are only reached with a `Python` token, that is, with the GIL held, or from `tp_traverse`, which
// CPython calls with the GIL held. So no two threads reach them at once. `T: Send` because the thread may change. A
// free-threaded interpreter takes its GIL back for this module, which says that it uses it.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { borrowed: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// Lends the value.
    #[inline]
    pub(crate) fn with<R>(&self, _py: Python<'_>, lend: impl FnOnce(&mut T) -> R) -> R {
        assert!(!self.borrowed.replace(true), "Python ran while native state was borrowed");
        let _returned = Returned(&self.borrowed);
        // SAFETY: the flag shows that no other borrow is alive; the GIL keeps other threads away.
        lend(unsafe { &mut *self.value.get() })
    }

    /// Lends the value to the garbage collector, unless it is lent already: then it counts as reachable.
    pub(crate) fn traverse(
        &self,
        visit: impl FnOnce(&T) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        if self.borrowed.get() {
            return Ok(());
        }
        // SAFETY: the flag shows that no borrow is alive, and visiting runs no code that could begin one.
        visit(unsafe { &*self.value.get() })
    }

    /// The value of a cell that nobody else can reach.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Ends a borrow, also when the closure panics.
struct Returned<'a>(&'a Cell<bool>);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
