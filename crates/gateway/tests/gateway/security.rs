//! Keys, origins, exposure and TLS.

use std::time::Duration;

use oxgrpc_gateway::config::{ApiKey, Tls};
use oxgrpc_gateway::{Config, Gateway, StartError};
use oxgrpc_proto::virtufin::ListServicesRequest;
use oxgrpc_proto::virtufin::gateway_client::GatewayClient;
use serde_json::json;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{channel, client, config, gateway, get, http};

const SECRET: &str = "correct-horse";

fn with_key() -> Config {
    let mut config = config();
    config.api_keys.push(ApiKey { name: "ops".into(), secret: SECRET.into() });
    config
}

#[tokio::test]
async fn a_key_opens_every_route_and_nothing_else_does() {
    let gateway = Gateway::start(with_key()).await.unwrap();
    for (path, status) in [
        ("/v1/gateway/list-services", 401),
        ("/v1/state/a/b", 401),
        ("/v1/pubsub/subscribe?topic=a", 401),
        ("/metrics", 401),
        ("/nowhere", 401),
        ("/health", 200),
        ("/healthz", 200),
    ] {
        assert_eq!(get(&gateway, path).await.status, status, "{path}");
    }
    let asked = |key: &str| format!("GET /v1/gateway/list-services HTTP/1.1\nX-Api-Key: {key}");
    assert_eq!(http(&gateway, &asked(SECRET), b"").await.status, 200);
    for wrong in ["", "correct-hors", "correct-horse ales", "Correct-Horse"] {
        let answer = http(&gateway, &asked(wrong), b"").await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!(16)), "{wrong}");
        assert!(
            !answer.body.contains(SECRET) && (wrong.is_empty() || !answer.body.contains(wrong))
        );
    }

    let mut client = client(&gateway).await;
    let status = client.list_services(ListServicesRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.metadata().get("x-request-id").is_some());
    for header in ["x-api-key", "dapr-api-token"] {
        let mut call = Request::new(ListServicesRequest {});
        call.metadata_mut().insert(header, SECRET.parse().unwrap());
        client.list_services(call).await.unwrap();
    }
    let mut health = HealthClient::new(channel(&gateway).await);
    health.check(HealthCheckRequest::default()).await.unwrap();

    // gRPC-Web: the status comes in the headers.
    let web =
        "POST /virtufin.Gateway/ListServices HTTP/1.1\nContent-Type: application/grpc-web+proto";
    let answer = http(&gateway, web, b"\0\0\0\0\0").await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("16")));
    let answer = http(&gateway, &format!("{web}\nX-Api-Key: {SECRET}"), b"\0\0\0\0\0").await;
    assert_eq!(answer.header("grpc-status"), None);
    assert!(answer.body.contains("grpc-status:0"), "{}", answer.body);
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_on_every_route() {
    let gateway = gateway().await;
    let web =
        "POST /virtufin.Gateway/ListServices HTTP/1.1\nContent-Type: application/grpc-web+proto";
    let routes = [
        "GET /v1/gateway/list-services HTTP/1.1",
        "POST /v1/pubsub/publish HTTP/1.1",
        "GET /health HTTP/1.1",
        "GET / HTTP/1.1",
        "OPTIONS /v1/pubsub/publish HTTP/1.1",
        web,
    ];
    for route in routes {
        for wrong in [
            "Host: evil.example:5001",
            "Host: localhost\nOrigin: https://evil.example",
            "Host: localhost\nOrigin: null",
            "Host: localhost\nOrigin: http://localhost\nOrigin: https://evil.example",
            "Host: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors",
        ] {
            let answer = http(&gateway, &format!("{route}\n{wrong}"), b"").await;
            let refused = answer.status == 403 || answer.header("grpc-status") == Some("7");
            assert!(refused, "{route} {wrong}: {} {}", answer.head, answer.body);
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    let same = "GET /v1/gateway/list-services HTTP/1.1\nHost: 127.0.0.1:5001\nOrigin: http://127.0.0.1:5001";
    let answer = http(&gateway, same, b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("access-control-allow-origin").is_none(), "CORS is empty by default");
    gateway.stop().await;
}

#[tokio::test]
async fn hosts_and_origins_can_be_allowed() {
    let mut config = with_key();
    config.allowed_hosts.push("gateway.internal".into());
    config.cors_origins.push("https://app.example".into());
    let gateway = Gateway::start(config).await.unwrap();
    let allowed = format!(
        "GET /v1/gateway/list-services HTTP/1.1\nHost: Gateway.Internal:8443\nOrigin: https://app.example\n\
         X-Api-Key: {SECRET}"
    );
    let answer = http(&gateway, &allowed, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("grpc-status"));

    // A preflight carries no key.
    let preflight = "OPTIONS /virtufin.Gateway/InvokeJson HTTP/1.1\nHost: gateway.internal\n\
        Origin: https://app.example\nAccess-Control-Request-Method: POST\n\
        Access-Control-Request-Headers: content-type,x-grpc-web,x-user-agent,grpc-timeout,x-api-key";
    let answer = http(&gateway, preflight, b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("access-control-allow-headers").unwrap().contains("x-grpc-web"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_public_address_needs_keys_where_code_runs() {
    let mut config = config();
    config.runs_code = true;
    config.http = ([0, 0, 0, 0], 0).into();
    let error = Gateway::start(config.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Exposed { .. }));
    for way_out in ["--api-key", "--tls-client-ca", "--listen 127.0.0.1"] {
        assert!(error.to_string().contains(way_out), "{error}");
    }
    config.api_keys.push(ApiKey { name: "ops".into(), secret: SECRET.into() });
    Gateway::start(config.clone()).await.unwrap().stop().await;
    config.api_keys.clear();
    config.runs_code = false;
    Gateway::start(config.clone()).await.unwrap().stop().await;
    config.runs_code = true;
    config.http = ([127, 0, 0, 1], 0).into();
    Gateway::start(config).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (flag, set) in [
        ("--http-port", (|config: &mut Config| &mut config.http) as fn(&mut Config) -> &mut _),
        ("--grpc-port", |config: &mut Config| &mut config.grpc),
    ] {
        let mut config = config();
        *set(&mut config) = address;
        let error = Gateway::start(config).await.unwrap_err().to_string();
        assert!(error.contains(flag) && error.contains(&address.port().to_string()), "{error}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let mut config = with_key();
    config.tls = Some(Tls {
        certificate_chain: b"chain".to_vec(),
        private_key: b"private".to_vec(),
        client_authority: None,
    });
    let printed = format!("{config:?}");
    assert!(!printed.contains(SECRET) && printed.contains("ops"), "{printed}");
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(parameters, key), pem }
    }

    /// Returns a certificate and its key, PEM.
    fn issue(&self) -> (String, String) {
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn tls_and_mutual_tls() {
    let authority = Authority::new("ours");
    let (chain, key) = authority.issue();
    let mut config = config();
    config.tls = Some(Tls {
        certificate_chain: chain.into_bytes(),
        private_key: key.into_bytes(),
        client_authority: Some(authority.pem.clone().into_bytes()),
    });
    // Client certificates say who calls, so that other machines may reach it.
    config.grpc = ([0, 0, 0, 0], 0).into();
    config.runs_code = true;
    let gateway = Gateway::start(config.clone()).await.unwrap();
    let ports = [gateway.grpc_address().port(), gateway.http_address().port()];
    let call = async |port: u16, identity: Option<(String, String)>| {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(&authority.pem));
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://localhost:{port}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .timeout(Duration::from_secs(10));
        let mut client = GatewayClient::new(endpoint.connect_lazy());
        client.list_services(ListServicesRequest {}).await
    };
    for port in ports {
        call(port, Some(authority.issue())).await.unwrap();
        call(port, None).await.unwrap_err();
        call(port, Some(Authority::new("theirs").issue())).await.unwrap_err();
    }
    gateway.stop().await;

    config.tls.as_mut().unwrap().private_key = b"nonsense".to_vec();
    let error = Gateway::start(config).await.unwrap_err().to_string();
    assert!(error.contains("private key"), "{error}");
}
