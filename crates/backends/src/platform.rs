//! The gateway as its backends see it: where their state lies, and how their events travel.

use bytes::Bytes;
use oxgrpc_proto::virtufin::pubsub_client::PubsubClient;
use oxgrpc_proto::virtufin::state_client::StateClient;
use oxgrpc_proto::virtufin::{
    DeleteStateRequest, GetStateRequest, PublishRequest, PubsubSubscribeRequest,
    PubsubSubscribeResponse, SaveStateRequest,
};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

/// How long a call of state or a publication may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message of the gateway's that is accepted: its own limit, and what an envelope may add.
const MAX_MESSAGE_BYTES: usize = 5 << 20;

/// Where the gateway is, and how to be let in.
#[derive(Clone)]
pub struct GatewayAddress {
    /// `http://host:port` or `https://host:port` of the gateway's gRPC port.
    pub uri: String,
    /// The value of `x-api-key`, if the gateway asks for one.
    pub api_key: Option<String>,
    /// The authority that signed the gateway's certificate, PEM; `None` trusts the system's.
    pub authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for GatewayAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GatewayAddress").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// Adds the API key to every call.
#[derive(Clone)]
struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Authorization>;

/// Clients of the gateway on one channel, which connects on first use and reconnects by itself.
#[derive(Clone)]
pub(crate) struct Platform {
    /// The name under which this backend's state is kept.
    service: &'static str,
    state: StateClient<Authorized>,
    pubsub: PubsubClient<Authorized>,
}

impl Platform {
    pub(crate) fn new(
        service: &'static str,
        gateway: &GatewayAddress,
    ) -> Result<Self, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(gateway.uri.clone())?
            .connect_timeout(TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        if gateway.uri.starts_with("https:") {
            let tls = match &gateway.authority {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_enabled_roots(),
            };
            endpoint = endpoint.tls_config(tls)?;
        }
        let key = gateway.api_key.as_deref().and_then(|key| key.parse::<MetadataValue<_>>().ok());
        let key = key.map(|mut key| {
            key.set_sensitive(true);
            key
        });
        let channel = endpoint.connect_lazy();
        let authorization = Authorization(key);
        let state = StateClient::with_interceptor(channel.clone(), authorization.clone());
        let pubsub = PubsubClient::with_interceptor(channel, authorization);
        Ok(Self {
            service,
            state: state.max_decoding_message_size(MAX_MESSAGE_BYTES),
            pubsub: pubsub.max_decoding_message_size(MAX_MESSAGE_BYTES),
        })
    }

    /// Reads a value of this backend's state.
    pub(crate) async fn load(&self, key: &str) -> Result<Option<String>, Status> {
        let request = GetStateRequest { service: self.service.into(), key: key.into() };
        let found = self.state.clone().get_state(timed(request)).await?.into_inner();
        // A key without a value has no etag.
        Ok((!found.etag.is_empty()).then_some(found.value))
    }

    /// Writes a value of this backend's state.
    pub(crate) async fn save(&self, key: &str, value: String) -> Result<(), Status> {
        let request = SaveStateRequest {
            service: self.service.into(),
            key: key.into(),
            value,
            ..SaveStateRequest::default()
        };
        self.state.clone().save_state(timed(request)).await.map(drop)
    }

    /// Deletes a value of this backend's state.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), Status> {
        let request = DeleteStateRequest {
            service: self.service.into(),
            key: key.into(),
            ..DeleteStateRequest::default()
        };
        self.state.clone().delete_state(timed(request)).await.map(drop)
    }

    /// Publishes an event.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        data: impl Into<Bytes>,
        metadata: HashMap<String, String>,
    ) -> Result<(), Status> {
        let request = PublishRequest { topic: topic.into(), data: data.into(), metadata };
        let answer = self.pubsub.clone().publish_event(timed(request)).await?.into_inner();
        match answer.status {
            Some(status) if !status.success => Err(Status::unavailable(status.message)),
            _ => Ok(()),
        }
    }

    /// Publishes an event about what this backend does, without caring whether it arrives.
    pub(crate) async fn announce(&self, topic: &str, kind: String, data: serde_json::Value) {
        let metadata = [
            ("ce-type", kind),
            ("ce-source", format!("urn:com.virtufin.{}", self.service)),
            ("ce-datacontenttype", "application/json".into()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        if let Err(status) = self.publish(topic, data.to_string(), metadata).await {
            tracing::warn!(topic, %status, "an event could not be published");
        }
    }

    /// Subscribes to a topic; the subscription is live once this returns.
    pub(crate) async fn subscribe(
        &self,
        topic: &str,
    ) -> Result<Streaming<PubsubSubscribeResponse>, Status> {
        let request = PubsubSubscribeRequest { topic: topic.into() };
        let subscribing = async { self.pubsub.clone().subscribe(request).await };
        let answered = tokio::time::timeout(TIMEOUT, subscribing).await;
        let text = || format!("the gateway did not confirm the subscription of {topic:?} in time");
        Ok(answered.map_err(|_| Status::deadline_exceeded(text()))??.into_inner())
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// Returns the time as RFC 3339, UTC.
pub(crate) fn now() -> String {
    prost_types::Timestamp::from(SystemTime::now()).to_string()
}
