//! Calls into Python without a tuple of arguments.
//!
//! PyO3's own calls build a tuple under the stable ABI before 3.12. These are the ones of the hot path: they cost half.

use crate::awaitable::Awaitable;
use crate::names::names;
use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use std::ptr;

/// `callable(argument)`.
#[inline]
pub(crate) fn call_1<'py>(
    callable: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live objects, the list is ended by a null pointer, and a null result means that an error is set.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(
            callable.as_ptr(),
            argument.as_ptr(),
            ptr::null_mut::<ffi::PyObject>(),
        );
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `callable(first, second)`.
#[inline]
pub(crate) fn call_2<'py>(
    callable: &Bound<'py, PyAny>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `call_1`.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(
            callable.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            ptr::null_mut::<ffi::PyObject>(),
        );
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `object.method(first, second)`.
#[inline]
pub(crate) fn call_method_2<'py>(
    object: &Bound<'py, PyAny>,
    method: &Bound<'py, PyString>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `call_1`.
    unsafe {
        let result = ffi::PyObject_CallMethodObjArgs(
            object.as_ptr(),
            method.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            ptr::null_mut::<ffi::PyObject>(),
        );
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// Raises `StopIteration(value)`: how an iterator returns a value.
///
/// The value is wrapped in an instance by hand where CPython would take it apart: a tuple would become the arguments, an
/// exception the exception itself.
pub(crate) fn stop_iteration(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: the type objects are static, `value` is live, and PyErr::fetch takes over the error that is set here.
    unsafe {
        let plain = ffi::PyTuple_Check(value.as_ptr()) == 0
            && ffi::PyExceptionInstance_Check(value.as_ptr()) == 0;
        if plain {
            ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr());
        } else {
            let instance = ffi::PyObject_CallFunctionObjArgs(
                ffi::PyExc_StopIteration,
                value.as_ptr(),
                ptr::null_mut::<ffi::PyObject>(),
            );
            if !instance.is_null() {
                ffi::PyErr_SetObject(ffi::PyExc_StopIteration, instance);
                ffi::Py_DECREF(instance);
            }
        }
    }
    PyErr::fetch(py)
}

/// What a step of a coroutine came to.
pub(crate) enum Step<'py> {
    /// It waits for this.
    Yielded(Bound<'py, PyAny>),
    /// It returned this.
    Returned(Bound<'py, PyAny>),
}

/// Takes a coroutine, or the iterator of another awaitable, one step further.
#[inline]
pub(crate) fn send<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut result = ptr::null_mut();
    // SAFETY: both are live objects; the result is a new reference unless the outcome is PYGEN_ERROR.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), value.as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_RETURN => {
                Ok(Step::Returned(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// The iterator behind an awaitable: what `await` steps through.
///
/// A coroutine, an asynchronous generator's step and our own awaitables are stepped as they are.
pub(crate) fn iterator_of<'py>(awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    let names = names(py)?;
    let kind = awaitable.get_type_ptr();
    let is_own = kind == names.coroutine.as_ptr().cast()
        || kind == names.asend.as_ptr().cast()
        || awaitable.is_exact_instance_of::<Awaitable>();
    match is_own {
        true => Ok(awaitable),
        false => awaitable.call_method0(intern!(py, "__await__")),
    }
}

/// The end of an iterator as `send` and `throw` tell it; `__next__` returns `None` for it.
pub(crate) fn or_stop(wait: Option<Bound<'_, PyAny>>) -> PyResult<Option<Bound<'_, PyAny>>> {
    match wait {
        Some(wait) => Ok(Some(wait)),
        None => Err(PyStopIteration::new_err(())),
    }
}

/// The exception that `throw` was given, as an instance or as its class.
pub(crate) fn exception(thrown: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    Ok(match thrown.is_instance_of::<PyType>() {
        true => PyErr::from_value(thrown.call0()?),
        false => PyErr::from_value(thrown.clone()),
    })
}
