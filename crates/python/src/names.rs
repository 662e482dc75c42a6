//! Python names that the native module uses, looked up once.

use oxgrpc_core::Code;
use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// What is imported.
pub(crate) struct Names {
    /// `grpc.StatusCode`, by number.
    status_codes: Vec<Py<PyAny>>,
    /// `grpc.ChannelConnectivity`, by number.
    pub(crate) connectivities: Vec<Py<PyAny>>,
    pub(crate) rpc_error: Py<PyAny>,
    pub(crate) usage_error: Py<PyAny>,
    pub(crate) abort_error: Py<PyAny>,
    pub(crate) metadata: Py<PyAny>,
    pub(crate) metadatum: Py<PyAny>,
    pub(crate) eof: Py<PyAny>,
    pub(crate) call_details: Py<PyAny>,
    /// Makes a handler's behaviour asynchronous.
    pub(crate) asynchronous: Py<PyAny>,
    /// How call credentials are asked.
    pub(crate) plugin: Py<PyAny>,
    /// Functions that write to the log.
    pub(crate) log: Py<PyAny>,
    pub(crate) task: Py<PyAny>,
    /// `asyncio.SelectorEventLoop`.
    pub(crate) selector_loop: Py<PyAny>,
    pub(crate) cancelled_error: Py<PyAny>,
    pub(crate) invalid_state: Py<PyAny>,
    pub(crate) running_loop: Py<PyAny>,
    /// What asyncio's module holds, `_nest_patched` for example.
    pub(crate) asyncio: Py<PyDict>,
    pub(crate) policy_loop: Py<PyAny>,
    pub(crate) current_task: Py<PyAny>,
    pub(crate) ensure_future: Py<PyAny>,
    /// `types.CoroutineType`.
    pub(crate) coroutine: Py<PyAny>,
    /// The type of what an asynchronous generator's `__anext__` returns.
    pub(crate) asend: Py<PyAny>,
    /// Whether tasks can be started at once (CPython 3.12).
    pub(crate) eager_tasks: bool,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

/// The names. Only fails where the package is broken.
pub(crate) fn names(py: Python<'_>) -> PyResult<&'static Names> {
    NAMES.get_or_try_init(py, || Names::import(py))
}

impl Names {
    fn import(py: Python<'_>) -> PyResult<Self> {
        let name = |module: &str, name: &str| -> PyResult<Py<PyAny>> {
            Ok(py.import(module)?.getattr(name)?.unbind())
        };
        let members = |class: Py<PyAny>| -> PyResult<Vec<Py<PyAny>>> {
            class.bind(py).try_iter()?.map(|member| member.map(Bound::unbind)).collect()
        };
        Ok(Self {
            status_codes: members(name("oxgrpc._status", "StatusCode")?)?,
            connectivities: members(name("oxgrpc._status", "ChannelConnectivity")?)?,
            rpc_error: name("oxgrpc.aio._errors", "AioRpcError")?,
            usage_error: name("oxgrpc.aio._errors", "UsageError")?,
            abort_error: name("oxgrpc.aio._errors", "AbortError")?,
            metadata: name("oxgrpc.aio._metadata", "Metadata")?,
            metadatum: name("oxgrpc._metadatum", "_Metadatum")?,
            eof: name("oxgrpc.aio._errors", "EOF")?,
            call_details: name("oxgrpc._utilities", "HandlerCallDetails")?,
            asynchronous: name("oxgrpc.aio._migration", "asynchronous")?,
            plugin: py.import("oxgrpc._plugin")?.into_any().unbind(),
            log: py.import("oxgrpc._log")?.into_any().unbind(),
            task: name("asyncio", "Task")?,
            selector_loop: name("asyncio", "SelectorEventLoop")?,
            cancelled_error: name("asyncio", "CancelledError")?,
            invalid_state: name("asyncio", "InvalidStateError")?,
            asyncio: py.import("asyncio")?.dict().unbind(),
            running_loop: name("asyncio", "_get_running_loop")?,
            policy_loop: name("oxgrpc.aio._loop", "policy_loop")?,
            current_task: name("asyncio", "current_task")?,
            ensure_future: name("asyncio", "ensure_future")?,
            coroutine: name("types", "CoroutineType")?,
            asend: name("oxgrpc.aio._loop", "AsyncGeneratorStep")?,
            eager_tasks: py.version_info() >= (3, 12),
        })
    }

    /// `grpc.StatusCode` for a code.
    pub(crate) fn status_code(&self, code: Code) -> &Py<PyAny> {
        &self.status_codes[code as usize]
    }
}

/// Reads a status code: a `StatusCode`, or its number. Anything else is `Unknown`, as in grpcio.
pub(crate) fn code_of(code: &Bound<'_, PyAny>) -> Code {
    let number = code
        .extract::<u32>()
        .or_else(|_| code.getattr(intern!(code.py(), "value"))?.get_item(0)?.extract::<u32>());
    number.ok().and_then(Code::from_number).unwrap_or(Code::Unknown)
}

/// Writes to the log through `oxgrpc._log`. A log that fails must not take a connection with it.
pub(crate) fn log<'py, A>(py: Python<'py>, function: &str, arguments: A)
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let logged = names(py).and_then(|names| names.log.bind(py).call_method1(function, arguments));
    if let Err(error) = logged {
        error.write_unraisable(py, None);
    }
}

/// An exception with its traceback, for the log.
pub(crate) fn raised(py: Python<'_>, error: &PyErr) -> Py<PyBaseException> {
    error.clone_ref(py).into_value(py)
}
