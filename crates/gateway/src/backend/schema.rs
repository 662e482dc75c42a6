//! A host's schema: fetched when it is first needed, and again when it may have changed.
//!
//! It is kept per host, not per service: while a backend is replaced host by host, both versions are called with their own.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use oxgrpc_schema::prost_reflect::MethodDescriptor;
use oxgrpc_schema::{MethodNotFound, ReflectionClient, ReflectionError, Schema};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Host;

/// A schema that is younger than this is not fetched again because of a name that it does not know.
const MIN_AGE: Duration = Duration::from_millis(100);

/// A schema as a host served it.
#[derive(Debug)]
pub(crate) struct HostSchema {
    schema: Schema,
    fetched: Instant,
    /// How many connections the host had lost when it was fetched.
    lost: u64,
    /// Methods by the names that callers use for them.
    methods: RwLock<HashMap<String, MethodDescriptor>>,
}

impl HostSchema {
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Finds a method; names that were found are remembered.
    pub(crate) fn method(&self, name: &str) -> Result<MethodDescriptor, MethodNotFound> {
        let known = self.methods.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(method) = known {
            return Ok(method);
        }
        let method = self.schema.find_method(name)?;
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        methods.insert(name.to_owned(), method.clone());
        Ok(method)
    }
}

#[derive(Debug, Default)]
pub(super) struct SchemaCache {
    current: RwLock<Option<Arc<HostSchema>>>,
    /// Held while a schema is fetched: those who come meanwhile wait for it instead of fetching another.
    fetching: tokio::sync::Mutex<()>,
}

impl Host {
    /// Returns the schema, fetched anew if the host was reconnected since.
    pub(crate) async fn schema(&self) -> Result<Arc<HostSchema>, Status> {
        match self.schema_at_hand() {
            Some(schema) if schema.lost == self.connections.lost() => Ok(schema),
            stale => self.fetch(stale).await,
        }
    }

    /// Returns a newer schema than `seen` where one can be had: something was asked for that it does not know.
    pub(crate) async fn newer_schema(
        &self,
        seen: &Arc<HostSchema>,
    ) -> Result<Arc<HostSchema>, Status> {
        if seen.fetched.elapsed() < MIN_AGE && seen.lost == self.connections.lost() {
            return Ok(self.schema_at_hand().unwrap_or_else(|| seen.clone()));
        }
        self.fetch(Some(seen.clone())).await
    }

    /// Returns the schema that was fetched last, without asking the host.
    pub(crate) fn schema_at_hand(&self) -> Option<Arc<HostSchema>> {
        self.schema.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, seen: Option<Arc<HostSchema>>) -> Result<Arc<HostSchema>, Status> {
        let _fetching = self.schema.fetching.lock().await;
        if let Some(current) = self.schema_at_hand()
            && seen.is_none_or(|seen| !Arc::ptr_eq(&seen, &current))
            && current.lost == self.connections.lost()
        {
            return Ok(current);
        }
        // The connection that is in use once the fetch is done; one that is lost during the fetch makes it stale.
        let fetch = self.fetch_once();
        let schema = match tokio::time::timeout(self.options.reflection_timeout, fetch).await {
            Ok(fetched) => fetched?,
            Err(_) => {
                return Err(Status::unavailable(format!(
                    "the schema of {} did not come within {:?}",
                    self.target(),
                    self.options.reflection_timeout
                )));
            }
        };
        let schema = Arc::new(schema);
        *self.schema.current.write().unwrap_or_else(PoisonError::into_inner) = Some(schema.clone());
        Ok(schema)
    }

    async fn fetch_once(&self) -> Result<HostSchema, Status> {
        let lost = self.connections.lost();
        let schema = match &self.descriptor_set {
            Some(path) => {
                let octets = tokio::fs::read(path).await.map_err(|error| {
                    Status::unavailable(format!("descriptor set {}: {error}", path.display()))
                })?;
                Schema::from_descriptor_set(&octets).map_err(|error| {
                    Status::unavailable(format!("descriptor set {}: {error}", path.display()))
                })?
            }
            None => {
                let channel = self.channel()?;
                match self.reflect(channel).await {
                    Ok(schema) => schema,
                    Err(error) => return Err(self.unavailable(&error)),
                }
            }
        };
        for gap in schema.gaps() {
            tracing::warn!(host = %self.target(), file = gap.file, reason = gap.reason, "schema has a gap");
        }
        Ok(HostSchema { schema, fetched: Instant::now(), lost, methods: RwLock::default() })
    }

    async fn reflect(&self, channel: tonic::transport::Channel) -> Result<Schema, ReflectionError> {
        ReflectionClient::connect(channel, &MetadataMap::new()).await?.schema(false).await
    }

    fn unavailable(&self, error: &ReflectionError) -> Status {
        match error {
            ReflectionError::Unsupported => Status::unavailable(format!(
                "{} has no reflection; enable it there, or give a descriptor set in the registry (grpc.descriptorSet)",
                self.target()
            )),
            ReflectionError::Failed(status) => {
                let reason = super::host::reason(status);
                if super::host::was_never_sent(status) {
                    self.mark_down(&reason);
                }
                Status::unavailable(format!("{} cannot be reached: {reason}", self.target()))
            }
        }
    }
}
