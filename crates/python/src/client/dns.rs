//! Questions for a name server and its answers, for `oxgrpc.aio._dns`, which carries them.

use oxgrpc_io::dns::{self, Answer, Family};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn family(is_v6: bool) -> Family {
    match is_v6 {
        true => Family::V6,
        false => Family::V4,
    }
}

/// A question for the addresses of a host.
#[pyfunction]
pub(crate) fn dns_query<'py>(
    py: Python<'py>,
    host: &str,
    is_v6: bool,
    id: u16,
) -> PyResult<Bound<'py, PyBytes>> {
    let octets = dns::query(host, family(is_v6), id).map_err(PyOSError::new_err)?;
    Ok(PyBytes::new(py, &octets))
}

/// Whether an answer is truncated, and the addresses that it gives; `None` if it answers something else.
#[pyfunction]
pub(crate) fn dns_answer(
    octets: &[u8],
    host: &str,
    is_v6: bool,
    id: u16,
) -> PyResult<Option<(bool, Vec<String>)>> {
    Ok(match dns::answer(octets, host, family(is_v6), id) {
        None => None,
        Some(Answer::Truncated) => Some((true, Vec::new())),
        Some(Answer::Addresses(addresses)) => {
            Some((false, addresses.iter().map(ToString::to_string).collect()))
        }
        Some(Answer::Refused(why)) => return Err(PyOSError::new_err(why)),
    })
}
