//! Methods and who handles them.

use crate::gil::GilCell;
use crate::names::names;
use oxgrpc_core::{Method, Methods};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Where a handler comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// The server's registry, which it belongs to.
    Registered,
    /// A generic handler or an interceptor gave it, for one call.
    Given,
    /// It is not known yet: interceptors are to be asked.
    Unknown,
}

/// A method's handler, taken out of an `RpcMethodHandler`.
pub(crate) struct Handler {
    pub(crate) path: Box<str>,
    pub(crate) request_streaming: bool,
    pub(crate) response_streaming: bool,
    pub(crate) deserializer: Option<Py<PyAny>>,
    pub(crate) serializer: Option<Py<PyAny>>,
    /// Called with the request, or the iterator of requests, and the context; gives a coroutine or an asynchronous
    /// generator.
    pub(crate) behavior: Py<PyAny>,
    pub(super) origin: Origin,
    /// The `RpcMethodHandler` itself, which interceptors are given.
    pub(super) source: Py<PyAny>,
    /// The keyword arguments of its tasks.
    task_options: GilCell<Option<Py<PyDict>>>,
}

impl Handler {
    /// Takes an `RpcMethodHandler` apart. A plain function is wrapped, so that it runs in the thread pool.
    ///
    /// Python runs: an attribute may be a property that registers other handlers, or lets another thread do so.
    pub(super) fn new(
        path: &str,
        handler: &Bound<'_, PyAny>,
        pool: &Py<PyAny>,
        origin: Origin,
    ) -> PyResult<Self> {
        let py = handler.py();
        let attribute = |name: &str| handler.getattr(name);
        let optional = |name: &str| -> PyResult<Option<Py<PyAny>>> {
            let value = handler.getattr(name)?;
            Ok((!value.is_none()).then(|| value.unbind()))
        };
        let behavior = names(py)?.asynchronous.bind(py).call1((handler, pool))?;
        Ok(Self {
            path: path.into(),
            request_streaming: attribute("request_streaming")?.is_truthy()?,
            response_streaming: attribute("response_streaming")?.is_truthy()?,
            deserializer: optional("request_deserializer")?,
            serializer: optional("response_serializer")?,
            behavior: behavior.unbind(),
            origin,
            source: handler.clone().unbind(),
            task_options: GilCell::new(None),
        })
    }

    /// Stands in for the handler of a call until interceptors have said who that is.
    pub(crate) fn unknown(py: Python<'_>, path: &str) -> Self {
        Self {
            path: path.into(),
            request_streaming: true,
            response_streaming: true,
            deserializer: None,
            serializer: None,
            behavior: py.None(),
            origin: Origin::Unknown,
            source: py.None(),
            task_options: GilCell::new(None),
        }
    }

    /// The keyword arguments of its tasks: made once, and with a name, because asyncio formats a new one for each task
    /// that has none.
    fn task_options<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let py = event_loop.py();
        let made = self.task_options.with(py, |options| Some(options.as_ref()?.clone_ref(py)));
        if let Some(made) = made {
            return Ok(made.into_bound(py));
        }
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), event_loop)?;
        options.set_item(intern!(py, "name"), &*self.path)?;
        if names(py)?.eager_tasks {
            options.set_item(intern!(py, "eager_start"), true)?;
        }
        let kept = options.clone().unbind();
        self.task_options.with(py, |place| *place = Some(kept));
        Ok(options)
    }

    /// For whom it belongs to: the server's registry, or a call.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.behavior)?;
        visit.call(&self.source)?;
        self.task_options
            .traverse(|options| options.as_ref().map_or(Ok(()), |options| visit.call(options)))?;
        for function in [&self.deserializer, &self.serializer].into_iter().flatten() {
            visit.call(function)?;
        }
        Ok(())
    }
}

/// Starts the tasks of a batch of calls.
pub(crate) struct TaskStarter<'py> {
    event_loop: Bound<'py, PyAny>,
    /// The program has its own kind of tasks: it gets them.
    has_factory: bool,
}

impl<'py> TaskStarter<'py> {
    pub(crate) fn new(event_loop: Bound<'py, PyAny>) -> PyResult<Self> {
        let factory = event_loop.call_method0(intern!(event_loop.py(), "get_task_factory"))?;
        Ok(Self { event_loop, has_factory: !factory.is_none() })
    }

    /// Runs a call's coroutine as a task: at once where asyncio can (CPython 3.12), from the loop otherwise.
    pub(crate) fn start(&self, handler: &Handler, coroutine: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let py = self.event_loop.py();
        if self.has_factory {
            let task = self.event_loop.call_method1(intern!(py, "create_task"), (coroutine,));
            return task.map(Bound::unbind);
        }
        let options = handler.task_options(&self.event_loop)?;
        names(py)?.task.call(py, (coroutine,), Some(&options))
    }
}

/// Who handles what.
#[derive(Default)]
pub(crate) struct Handlers {
    registered: Vec<Arc<Handler>>,
    methods: Arc<Methods>,
    /// Handlers that are asked at each call.
    generic: Vec<Py<PyAny>>,
    /// What runs the interceptors of a call, if there are any: they decide who handles it.
    chain: Option<Py<PyAny>>,
}

impl Handlers {
    /// Registers a method's handler under its path, in place of another.
    pub(crate) fn register(&mut self, handler: Handler) {
        let method = Method {
            index: self.registered.len() as u32,
            request_streaming: handler.request_streaming,
        };
        Arc::make_mut(&mut self.methods).insert(handler.path.as_bytes(), method);
        self.registered.push(Arc::new(handler));
    }

    pub(crate) fn is_registered(&self, path: &str) -> bool {
        self.methods.get(path.as_bytes()).is_some()
    }

    /// Adds a handler that is asked for the methods that are not registered.
    pub(crate) fn add_generic(&mut self, handler: Py<PyAny>) {
        Arc::make_mut(&mut self.methods).reports_unknown = true;
        self.generic.push(handler);
    }

    pub(crate) fn has_generic(&self) -> bool {
        !self.generic.is_empty()
    }

    /// Has interceptors asked at each call.
    pub(crate) fn intercept(&mut self, chain: Py<PyAny>) {
        self.chain = Some(chain);
    }

    pub(crate) fn is_intercepted(&self) -> bool {
        self.chain.is_some()
    }

    pub(crate) fn chain(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.chain.as_ref().map(|chain| chain.clone_ref(py))
    }

    /// The methods, for a connection: none of a server with interceptors, because what kind of call it is depends on them.
    pub(crate) fn methods(&self) -> Arc<Methods> {
        match self.chain {
            None => self.methods.clone(),
            Some(_) => {
                let mut none = Methods::default();
                none.reports_unknown = true;
                Arc::new(none)
            }
        }
    }

    /// The handler that is registered for a path.
    pub(crate) fn by_path(&self, path: &str) -> Option<Arc<Handler>> {
        self.registered(self.methods.get(path.as_bytes())?.index)
    }

    pub(crate) fn registered(&self, index: u32) -> Option<Arc<Handler>> {
        self.registered.get(index as usize).cloned()
    }

    pub(crate) fn generic(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.generic.iter().map(|handler| handler.clone_ref(py)).collect()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.registered.iter().try_for_each(|handler| handler.traverse(visit))?;
        self.generic.iter().chain(&self.chain).try_for_each(|handler| visit.call(handler))
    }
}

/// What is known of a call before it is handled (`grpc.HandlerCallDetails`).
pub(crate) fn call_details(
    py: Python<'_>,
    path: &str,
    metadata: &Py<PyAny>,
) -> PyResult<Py<PyAny>> {
    names(py)?.call_details.call1(py, (path, metadata))
}

/// Asks generic handlers, in their order, who handles a call.
pub(crate) fn ask<'py>(
    details: &Bound<'py, PyAny>,
    handlers: &[Py<PyAny>],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = details.py();
    for handler in handlers {
        let found = handler.bind(py).call_method1(intern!(py, "service"), (details,))?;
        if !found.is_none() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The handler of a single call, out of what a generic handler or an interceptor gave.
pub(crate) fn given(
    path: &str,
    found: &Bound<'_, PyAny>,
    registered: Option<Arc<Handler>>,
    pool: &Py<PyAny>,
) -> PyResult<Arc<Handler>> {
    match registered.filter(|handler| handler.source.is(found)) {
        Some(handler) => Ok(handler),
        None => Handler::new(path, found, pool, Origin::Given).map(Arc::new),
    }
}
