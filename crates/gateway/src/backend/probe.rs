//! Asks a host for its health: at intervals, and when it has lost a connection.

use std::sync::Weak;
use std::time::Duration;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::host::{Health, Host};

const SERVING_INTERVAL: Duration = Duration::from_secs(5);
const DOWN_INTERVAL: Duration = Duration::from_millis(500);
const MAX_DOWN_INTERVAL: Duration = Duration::from_secs(5);

/// Probes a host until nobody holds it any more.
pub(super) async fn probe(host: Weak<Host>) {
    let mut down_interval = DOWN_INTERVAL;
    loop {
        let Some(alive) = host.upgrade() else { return };
        let connections = alive.connections.clone();
        let changed = connections.changed.notified();
        ask(&alive).await;
        let wait = if alive.health() == Health::Serving {
            down_interval = DOWN_INTERVAL;
            SERVING_INTERVAL
        } else {
            let wait = down_interval;
            down_interval = (down_interval * 2).min(MAX_DOWN_INTERVAL);
            wait
        };
        // A host that nobody holds ends here, not after the interval.
        drop(alive);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Connections that fail while they are opened are counted too; they must not make a busy loop.
            () = changed => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn ask(host: &Host) {
    let channel = match host.channel() {
        Ok(channel) => channel,
        Err(status) => return host.mark_down(status.message()),
    };
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(host.options.reflection_timeout);
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => match answer.get_ref().status() {
            ServingStatus::NotServing => host.mark_down("it reports NOT_SERVING"),
            _ => host.mark_serving(),
        },
        // It answers, and has no health service, or does not know the name of the whole server.
        Err(status) if answered(status.code()) => host.mark_serving(),
        Err(status) => host.mark_down(&super::host::reason(&status)),
    }
}

fn answered(code: Code) -> bool {
    !matches!(code, Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown)
}
