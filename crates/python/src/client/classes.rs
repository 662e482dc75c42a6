//! The classes of calls: what each kind offers beside what all do (`grpc.aio.UnaryUnaryCall` and its siblings).

use super::call::{Call, Style};
use super::operation::{CallOperation, What};
use crate::awaitable::Awaitable;
use pyo3::prelude::*;

/// A call with one request and one response. Awaiting it gives the response.
#[pyclass(frozen, extends = Call, module = "oxgrpc._native")]
pub(crate) struct UnaryUnaryCall;

#[pymethods]
impl UnaryUnaryCall {
    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Response)
    }

    // asyncio's coroutine protocol: `create_task(stub.Method(request))` works.

    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        as_coroutine(slf.as_super())?.call_method1("send", (value,))
    }

    #[pyo3(signature = (*args))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        as_coroutine(slf.as_super())?.call_method1("throw", args.clone())
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        as_coroutine(slf.as_super())?.call_method0("close").map(drop)
    }
}

/// A call with one request and a stream of responses. Iterate it, or read it by hand.
#[pyclass(frozen, extends = Call, module = "oxgrpc._native")]
pub(crate) struct UnaryStreamCall;

#[pymethods]
impl UnaryStreamCall {
    /// The next response, or `EOF`.
    fn read(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Read)
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        CallOperation::set_response_style(slf.as_super(), Style::Iterator)?;
        Ok(slf.clone())
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Next)
    }
}

/// A call with a stream of requests and one response. Awaiting it gives the response.
#[pyclass(frozen, extends = Call, module = "oxgrpc._native")]
pub(crate) struct StreamUnaryCall;

#[pymethods]
impl StreamUnaryCall {
    /// Sends a request; done when it is within the flow-control windows.
    fn write(slf: &Bound<'_, Self>, request: Py<PyAny>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Write(Some(request)))
    }

    /// Says that no more requests come. May be repeated.
    fn done_writing(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::DoneWriting)
    }

    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Response)
    }

    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        as_coroutine(slf.as_super())?.call_method1("send", (value,))
    }

    #[pyo3(signature = (*args))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, pyo3::types::PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        as_coroutine(slf.as_super())?.call_method1("throw", args.clone())
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        as_coroutine(slf.as_super())?.call_method0("close").map(drop)
    }
}

/// A call with streams both ways.
#[pyclass(frozen, extends = Call, module = "oxgrpc._native")]
pub(crate) struct StreamStreamCall;

#[pymethods]
impl StreamStreamCall {
    /// The next response, or `EOF`.
    fn read(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Read)
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        CallOperation::set_response_style(slf.as_super(), Style::Iterator)?;
        Ok(slf.clone())
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Next)
    }

    /// Sends a request; done when it is within the flow-control windows.
    fn write(slf: &Bound<'_, Self>, request: Py<PyAny>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::Write(Some(request)))
    }

    /// Says that no more requests come. May be repeated.
    fn done_writing(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Call::operation(slf.as_super(), What::DoneWriting)
    }
}

/// What drives a call that is used as a coroutine: one awaitable for all its steps.
fn as_coroutine<'py>(call: &Bound<'py, Call>) -> PyResult<Bound<'py, Awaitable>> {
    let py = call.py();
    let me = call.get();
    if let Some(coroutine) = me.state.with(py, |s| s.coroutine.as_ref().map(|c| c.clone_ref(py))) {
        return Ok(coroutine.into_bound(py));
    }
    let coroutine = Call::operation(call, What::Response)?;
    let kept = coroutine.clone_ref(py);
    me.state.with(py, |state| state.coroutine = Some(kept));
    Ok(coroutine.into_bound(py))
}
