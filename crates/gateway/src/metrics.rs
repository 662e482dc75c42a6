//! Prometheus metrics of one gateway.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxgrpc_schema::Schema;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::pubsub::Counts;

/// The metrics, and the names of the routes that may appear in them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    in_progress: Family<PortLabels, Gauge>,
    backends: Family<BackendLabels, Gauge>,
    bus: BusMetrics,
    routes: HashSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    port: &'static str,
    route: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    port: &'static str,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    service: String,
    host: String,
}

/// From half a millisecond to half a minute.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

/// Standard services, which are not in our own files.
const STANDARD: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Metrics {
    pub(crate) fn new(own: &Schema) -> Arc<Self> {
        let mut registry = Registry::with_prefix("oxgrpc_gateway");
        let requests = Family::<RequestLabels, Counter>::default();
        let seconds =
            Family::<RouteLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let in_progress = Family::<PortLabels, Gauge>::default();
        let backends = Family::<BackendLabels, Gauge>::default();
        let bus = BusMetrics::default();
        registry.register("requests", "Requests that have ended", requests.clone());
        registry.register("request_seconds", "How long requests took", seconds.clone());
        registry.register("requests_in_progress", "Requests that run now", in_progress.clone());
        registry.register(
            "backend_up",
            "1 if a backend's host answers, 0 if it is down",
            backends.clone(),
        );
        bus.register(&mut registry);
        let routes = own
            .services(true)
            .iter()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| oxgrpc_schema::path(&method).to_string())
            .chain(STANDARD.map(str::to_owned))
            .collect();
        Arc::new(Self { registry, requests, seconds, in_progress, backends, bus, routes })
    }

    /// Returns what a path is called in metrics: anything that callers invent is `other`.
    pub(crate) fn route(&self, path: &str) -> String {
        if self.routes.contains(path) { path.to_owned() } else { "other".to_owned() }
    }

    pub(crate) fn begin(&self, port: &'static str) -> InProgress {
        let gauge = self.in_progress.get_or_create_owned(&PortLabels { port });
        gauge.inc();
        InProgress(gauge)
    }

    pub(crate) fn end(&self, port: &'static str, route: &str, code: &str, took: Duration) {
        let labels = RequestLabels { port, route: route.to_owned(), code: code.to_owned() };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { port, route: route.to_owned() };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Returns the metrics in the text format. Gauges that mirror other state are set first.
    pub(crate) fn text(&self, registry: &crate::registry::Registry, bus: Counts) -> String {
        self.backends.clear();
        for backend in registry.backends() {
            for host in backend.hosts() {
                let labels = BackendLabels {
                    service: backend.entry().name.clone(),
                    host: host.target().to_string(),
                };
                self.backends.get_or_create(&labels).set(i64::from(!host.is_down()));
            }
        }
        self.bus.set(bus);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// What the bus counts, mirrored.
#[derive(Debug, Default)]
struct BusMetrics {
    subscriptions: Gauge,
    received: Counter,
    delivered: Counter,
    dropped: Counter,
}

impl BusMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("subscriptions", "Live subscriptions", self.subscriptions.clone());
        registry.register(
            "events_received",
            "Events received from publishers",
            self.received.clone(),
        );
        registry.register(
            "events_delivered",
            "Events put into subscribers' queues",
            self.delivered.clone(),
        );
        registry.register(
            "events_dropped",
            "Events dropped because a subscriber's queue was full",
            self.dropped.clone(),
        );
    }

    fn set(&self, counts: Counts) {
        self.subscriptions.set(i64::try_from(counts.subscriptions).unwrap_or(i64::MAX));
        self.received.inner().store(counts.received, Ordering::Relaxed);
        self.delivered.inner().store(counts.delivered, Ordering::Relaxed);
        self.dropped.inner().store(counts.dropped, Ordering::Relaxed);
    }
}

/// A request that runs.
pub(crate) struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}
