//! `virtufin.Pubsub`, on whichever bus.

use std::sync::Arc;

use async_trait::async_trait;
use oxgrpc_proto::virtufin::pubsub_server::Pubsub;
use oxgrpc_proto::virtufin::{
    PublishRequest, PublishResponse, PublishSystemEventRequest, PubsubSubscribeRequest,
    PubsubSubscribeResponse, PubsubSubscribeSystemRequest, StatusResponse, UnsubscribeRequest,
    UnsubscribeResponse,
};
use tonic::{Request, Response, Status};

use super::stream::{MessageStream, live};
use super::{Bus, Interest, attributes};

/// The topic of system events.
pub const SYSTEM_TOPIC: &str = "system";

/// Serves `virtufin.Pubsub`.
#[derive(Clone)]
pub struct PubsubService {
    bus: Arc<dyn Bus>,
}

impl PubsubService {
    /// Serves a bus.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus }
    }

    async fn publish(&self, event: super::Event) -> Result<Response<PublishResponse>, Status> {
        self.bus.publish(event).await?;
        Ok(Response::new(PublishResponse { status: Some(succeeded(String::new())) }))
    }

    async fn subscribe_to(
        &self,
        topic: &str,
    ) -> Result<Response<MessageStream<PubsubSubscribeResponse>>, Status> {
        let subscription = self.bus.subscribe(Interest::topic(topic)).await?;
        live(subscription, attributes::message)
    }
}

fn succeeded(message: String) -> StatusResponse {
    StatusResponse { success: true, status: "OK".into(), message }
}

#[async_trait]
impl Pubsub for PubsubService {
    async fn publish_event(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let (call, _, PublishRequest { topic, data, metadata }) = request.into_parts();
        self.publish(attributes::event(topic, data, metadata, &call)?).await
    }

    type SubscribeStream = MessageStream<PubsubSubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<PubsubSubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.subscribe_to(&request.get_ref().topic).await
    }

    async fn unsubscribe(
        &self,
        request: Request<UnsubscribeRequest>,
    ) -> Result<Response<UnsubscribeResponse>, Status> {
        let id = request.into_inner().subscription_id;
        let status = if self.bus.unsubscribe(&id) {
            succeeded(String::new())
        } else {
            StatusResponse {
                success: false,
                status: "NOT_FOUND".into(),
                message: format!("no subscription {id:?} is live here"),
            }
        };
        Ok(Response::new(UnsubscribeResponse { status: Some(status) }))
    }

    async fn publish_system_event(
        &self,
        request: Request<PublishSystemEventRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let (call, _, PublishSystemEventRequest { data, metadata }) = request.into_parts();
        self.publish(attributes::event(SYSTEM_TOPIC.into(), data, metadata, &call)?).await
    }

    type SubscribeSystemEventsStream = MessageStream<PubsubSubscribeResponse>;

    async fn subscribe_system_events(
        &self,
        _: Request<PubsubSubscribeSystemRequest>,
    ) -> Result<Response<Self::SubscribeSystemEventsStream>, Status> {
        self.subscribe_to(SYSTEM_TOPIC).await
    }
}
