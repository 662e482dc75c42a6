//! Messages as Python's `bytes`: received into one without a second copy, sent out of one without a copy where it is
//! large.

use crate::invoke::call_1;
use bytes::Bytes;
use oxgrpc_core::{MessageBuffer, Payload};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use std::ptr;

/// A received message.
///
/// Made while connections are borrowed, which `bytes` allows: creating one runs no Python code and no garbage collection.
pub(crate) struct Message {
    object: Py<PyBytes>,
    data: *mut u8,
    len: usize,
    capacity: usize,
}

// SAFETY: `data` points into `object`, a `bytes` that this struct alone refers to until it is whole.
unsafe impl Send for Message {}

impl Message {
    /// The whole message.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> Py<PyBytes> {
        if self.len == self.capacity {
            self.object
        } else {
            PyBytes::new(py, self.octets()).unbind()
        }
    }
}

impl MessageBuffer for Message {
    fn copy_of(octets: &[u8]) -> Self {
        let mut message = Self::with_capacity(octets.len());
        message.append(octets);
        message
    }

    fn with_capacity(capacity: usize) -> Self {
        Python::attach(|py| {
            // SAFETY: a null pointer asks for a `bytes` of this length with undefined content; a null result is turned
            // into a panic, as for any other allocation that fails.
            let (object, data) = unsafe {
                let raw = pyo3::ffi::PyBytes_FromStringAndSize(ptr::null(), capacity as isize);
                let object = Bound::from_owned_ptr(py, raw).cast_into_unchecked::<PyBytes>();
                let data = pyo3::ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>();
                (object.unbind(), data)
            };
            Self { object, data, len: 0, capacity }
        })
    }

    #[inline]
    fn append(&mut self, octets: &[u8]) {
        assert!(octets.len() <= self.capacity - self.len, "a message outgrows its buffer");
        // SAFETY: the assertion keeps the copy within the object, which nobody else sees before it is whole. `bytes` of
        // length 0 and 1 are shared by CPython: nothing is written to the former, and the latter never comes from
        // PyBytes_FromStringAndSize without content.
        unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), self.data.add(self.len), octets.len()) };
        self.len += octets.len();
    }

    #[inline]
    fn octets(&self) -> &[u8] {
        // SAFETY: `len` octets have been written.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// A message to send: what a serializer returned.
pub(crate) struct Outgoing<'a, 'py>(&'a Bound<'py, PyBytes>);

impl<'a, 'py> Outgoing<'a, 'py> {
    pub(crate) fn new(bytes: &'a Bound<'py, PyBytes>) -> Self {
        Self(bytes)
    }
}

impl Payload for Outgoing<'_, '_> {
    fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn into_shared(self) -> Bytes {
        // A subclass may have a finalizer, and the engine drops what it holds while it is borrowed.
        if self.0.is_exact_instance_of::<PyBytes>() {
            Bytes::from_owner(Shared::new(self.0))
        } else {
            Bytes::copy_from_slice(self.0.as_bytes())
        }
    }
}

/// A `bytes` that the engine sends from.
struct Shared {
    _object: Py<PyBytes>,
    data: *const u8,
    len: usize,
}

// SAFETY: `bytes` are immutable and `_object` keeps them alive.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(bytes: &Bound<'_, PyBytes>) -> Self {
        let octets = bytes.as_bytes();
        Self { data: octets.as_ptr(), len: octets.len(), _object: bytes.clone().unbind() }
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see the struct.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// Serializes a message, or takes it as it is where there is no serializer.
pub(crate) fn serialize<'py>(
    message: &Bound<'py, PyAny>,
    serializer: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = message.py();
    let serialized = match serializer {
        Some(serializer) => call_1(serializer.bind(py), message)?,
        // grpcio takes nothing for an empty message.
        None if message.is_none() => return Ok(PyBytes::new(py, b"")),
        None => message.clone(),
    };
    match serialized.cast_into::<PyBytes>() {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            let other = error.into_inner();
            if other.is_instance_of::<PyByteArray>() || other.is_instance_of::<PyMemoryView>() {
                return Ok(py.get_type::<PyBytes>().call1((other,))?.cast_into()?);
            }
            let kind = other.get_type().name()?;
            Err(PyTypeError::new_err(format!("a message must be serialized to bytes, not {kind}")))
        }
    }
}

/// Deserializes a message, or gives it as it is where there is no deserializer.
pub(crate) fn deserialize(
    py: Python<'_>,
    message: Py<PyBytes>,
    deserializer: Option<&Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    match deserializer {
        Some(deserializer) => {
            Ok(call_1(deserializer.bind(py), message.bind(py).as_any())?.unbind())
        }
        None => Ok(message.into_any()),
    }
}
