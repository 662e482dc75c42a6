//! Metadata between Python's pairs and the engine's octets.

use crate::names::names;
use oxgrpc_core::{InvalidMetadata, Metadata, is_binary};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

/// Reads metadata that is to be sent: `None`, or an iterable of pairs.
pub(crate) fn outgoing(metadata: Option<&Bound<'_, PyAny>>) -> PyResult<Metadata> {
    let mut out = Metadata::new();
    let Some(metadata) = metadata.filter(|metadata| !metadata.is_none()) else { return Ok(out) };
    for pair in metadata.try_iter()? {
        let pair = pair?;
        let (key, value) = match pair.cast::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
            _ => unpack(&pair)?,
        };
        push(&mut out, &key, &value)?;
    }
    Ok(out)
}

/// A pair that is no tuple: a list, or anything else with two items. Not a text of two letters, though grpcio takes it.
fn unpack<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let error = || {
        let kind = pair.get_type();
        PyTypeError::new_err(format!("metadata is made of (key, value) pairs, not {kind}"))
    };
    if pair.is_instance_of::<PyString>() || pair.is_instance_of::<PyBytes>() {
        return Err(error());
    }
    let mut items = pair.try_iter().map_err(|_| error())?;
    match (items.next(), items.next(), items.next()) {
        (Some(key), Some(value), None) => Ok((key?, value?)),
        _ => Err(error()),
    }
}

/// Fields that belong to HTTP are left out without a word, as those that the engine writes are. grpcio takes and sends
/// them, which HTTP/2 forbids (RFC 9113 §8.2.2; §8.3.1 for a `host` beside `:authority`), and other servers reset the call.
fn push(out: &mut Metadata, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let key_octets = octets(key)?;
    if is_binary(&key_octets) && !value.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err(format!(
            "Binary metadata key=\"{}\" expected bytes, got {}",
            String::from_utf8_lossy(&key_octets),
            value.get_type()
        )));
    }
    match out.push(&key_octets, &octets(value)?) {
        Ok(()) | Err(InvalidMetadata::ReservedKey) => Ok(()),
        Err(error) => Err(invalid(&error, key)),
    }
}

/// The octets of a `str` or `bytes`.
fn octets(text: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = text.cast::<PyString>() {
        return Ok(text.to_cow()?.as_bytes().to_vec());
    }
    match text.cast::<PyBytes>() {
        Ok(octets) => Ok(octets.as_bytes().to_vec()),
        Err(_) => Err(PyTypeError::new_err(format!("Expected str, not {}", text.get_type()))),
    }
}

/// Does not show the value: it may be a token, a line feed behind it what is wrong, and errors are logged.
fn invalid(error: &InvalidMetadata, key: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("Invalid metadata '{key}': {error}"))
}

/// The pairs of received metadata: text as `str`, `-bin` values as `bytes`.
fn pairs<'py>(
    py: Python<'py>,
    metadata: &Metadata,
) -> Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)> {
    let value = |key: &[u8], value: &[u8]| match is_binary(key) {
        true => PyBytes::new(py, value).into_any(),
        false => text(py, value).into_any(),
    };
    metadata.iter().map(|(key, octets)| (text(py, key), value(key, octets))).collect()
}

/// A client's view: `grpc.aio.Metadata`.
pub(crate) fn received(py: Python<'_>, metadata: &Metadata) -> PyResult<Py<PyAny>> {
    let pairs = PyTuple::new(py, pairs(py, metadata))?;
    names(py)?.metadata.bind(py).call1(pairs).map(Bound::unbind)
}

/// A handler's view: a tuple of named pairs, the client's user-agent in front, as in grpcio.
pub(crate) fn invocation(
    py: Python<'_>,
    metadata: &Metadata,
    user_agent: Option<&[u8]>,
) -> PyResult<Py<PyAny>> {
    let metadatum = names(py)?.metadatum.bind(py);
    let user_agent =
        user_agent.map(|agent| (PyString::new(py, "user-agent"), text(py, agent).into_any()));
    let pairs: PyResult<Vec<_>> = user_agent
        .into_iter()
        .chain(pairs(py, metadata))
        .map(|pair| metadatum.call1(pair))
        .collect();
    Ok(PyTuple::new(py, pairs?)?.into_any().unbind())
}

/// Text of a peer's. What is not UTF-8 is read as Latin-1, as grpcio does: nothing a peer sends may raise here.
pub(crate) fn text<'py>(py: Python<'py>, octets: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(octets) {
        Ok(text) => PyString::new(py, text),
        Err(_) => {
            PyString::new(py, &octets.iter().map(|&octet| char::from(octet)).collect::<String>())
        }
    }
}
