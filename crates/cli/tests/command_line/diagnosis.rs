//! Wrong set-ups: each names its cause and the flag that cures it, and the cured command works.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::program::{Ended, Program};
use crate::server::{Running, Setup, plain, pretend, serve};

/// An authority and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

async fn serve_tls(authority: &Authority, name: &str, mutual: bool) -> Running {
    let (certificate, key) = authority.sign(name);
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    if mutual {
        tls = tls.client_ca_root(Certificate::from_pem(&authority.pem));
    }
    serve(Setup { reflection: true, tls: Some(tls) }).await
}

/// The failure names its cause and its cure.
#[track_caller]
fn assert_told(ended: &Ended, cause: &str, cure: &str) {
    assert_eq!(ended.code, 3, "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(cause), "{ended:?}");
    assert!(lines[1].starts_with(" hint: ") && lines[1].contains(cure), "{ended:?}");
    assert!(!ended.stderr.to_lowercase().contains("deadline"), "{ended:?}");
}

#[tokio::test]
async fn nothing_listens() {
    let program = Program::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = program.run(&["list", "--plaintext", &free.to_string()]).await;
    assert_told(&ended, "nothing listens", "start the server");
    let ended = program.run(&["list", "--plaintext", "unix:nowhere"]).await;
    assert_told(&ended, "does not exist", "start the server");
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    let ended = Program::new().run(&["list", "--plaintext", "nowhere.invalid:1"]).await;
    assert_told(&ended, "nowhere.invalid cannot be resolved", "check the name");
}

#[tokio::test]
async fn plaintext_to_tls() {
    let (authority, program) = (Authority::new(), Program::new());
    let server = serve_tls(&authority, "localhost", false).await;
    let ended = program.run(&["list", "--plaintext", &server.at_localhost()]).await;
    assert_told(&ended, "wants TLS", "leave out --plaintext");
    let ca = program.file("ca.pem", &authority.pem);
    program.run(&["list", "--cacert", &ca, &server.at_localhost()]).await.ok();
}

#[tokio::test]
async fn plaintext_to_tls_that_closes_without_a_word() {
    let server = pretend(|mut stream| async move {
        // All of it is read, or closing would reset the connection and lose the alert.
        let mut hello = [0; 4096];
        if stream.read(&mut hello).await.is_ok() && hello[0] == 0x16 {
            // An alert: handshake_failure.
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        }
    })
    .await;
    let ended = Program::new().run(&["list", "--plaintext", &server.at()]).await;
    assert_told(&ended, "wants TLS", "leave out --plaintext");
}

#[tokio::test]
async fn tls_to_plaintext() {
    let (server, program) = (plain().await, Program::new());
    let ended = program.run(&["list", &server.at()]).await;
    assert_told(&ended, "does not speak TLS", "--plaintext");
    program.run(&["list", "--plaintext", &server.at()]).await.ok();
}

#[tokio::test]
async fn tls_to_plaintext_that_closes_without_a_word() {
    // As grpc-go does: nothing is sent until the preface has come.
    let server = pretend(|mut stream| async move {
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).await.is_ok() && preface.starts_with(b"PRI * HTTP/2.0") {
            let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await;
    let ended = Program::new().run(&["list", &server.at()]).await;
    assert_told(&ended, "does not speak TLS", "--plaintext");
}

#[tokio::test]
async fn a_client_certificate_is_wanted() {
    let (authority, program) = (Authority::new(), Program::new());
    let server = serve_tls(&authority, "localhost", true).await;
    let ca = program.file("ca.pem", &authority.pem);
    let at = server.at_localhost();
    let ended = program.run(&["list", "--cacert", &ca, &at]).await;
    assert_told(&ended, "wants a client certificate", "--cert FILE and --key FILE");

    let (certificate, key) = authority.sign("client");
    let (cert, key) = (program.file("cert.pem", certificate), program.file("key.pem", key));
    program.run(&["list", "--cacert", &ca, "--cert", &cert, "--key", &key, &at]).await.ok();

    let (certificate, key) = Authority::new().sign("stranger");
    let (cert, key) = (program.file("cert.pem", certificate), program.file("key.pem", key));
    let ended = program.run(&["list", "--cacert", &ca, "--cert", &cert, "--key", &key, &at]).await;
    assert_told(&ended, "refused the client certificate", "must be signed");
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let (authority, program) = (Authority::new(), Program::new());
    let server = serve_tls(&authority, "elsewhere.example", false).await;
    let ca = program.file("ca.pem", &authority.pem);
    let at = server.at_localhost();
    let ended = program.run(&["list", "--cacert", &ca, &at]).await;
    assert_told(&ended, "not for `localhost`", "--servername NAME");
    assert!(ended.stderr.contains("elsewhere.example"), "{ended:?}");
    for flag in ["--servername", "--authority"] {
        program.run(&["list", "--cacert", &ca, flag, "elsewhere.example", &at]).await.ok();
    }
}

#[tokio::test]
async fn an_unknown_authority() {
    let (authority, program) = (Authority::new(), Program::new());
    let server = serve_tls(&authority, "localhost", false).await;
    let at = server.at_localhost();
    let ended = program.run(&["list", &at]).await;
    assert_told(&ended, "is not trusted", "--cacert FILE");
    assert!(ended.stderr.contains("--insecure"), "{ended:?}");
    let other = program.file("other.pem", Authority::new().pem);
    let ended = program.run(&["list", "--cacert", &other, &at]).await;
    assert_told(&ended, "other.pem does not hold the authority", "--cacert FILE");
    program.run(&["list", "--insecure", &at]).await.ok();
}

#[tokio::test]
async fn a_certificate_that_is_over() {
    let program = Program::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let authority = Authority::new();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap().pem();
    let identity = Identity::from_pem(certificate, key.serialize_pem());
    let tls = Some(ServerTlsConfig::new().identity(identity));
    let server = serve(Setup { reflection: true, tls }).await;
    let ca = program.file("ca.pem", &authority.pem);
    let ended = program.run(&["list", "--cacert", &ca, &server.at_localhost()]).await;
    assert_told(&ended, "certificate expired", "--insecure");
}

/// Answers each request in HTTP/1, whatever its version.
async fn http1(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    if stream.read(&mut [0; 1024]).await.is_ok_and(|octets| octets > 0) {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn an_http1_server() {
    let program = Program::new();
    let server = pretend(http1).await;
    for line in [&["list", "--plaintext", &server.at()][..], &["list", &server.at()]] {
        assert_told(&program.run(line).await, "is an HTTP/1 server", "gRPC port");
    }
    // One that has no answer but to its own version.
    let server = pretend(|mut stream| async move {
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_ok() && request.starts_with(b"GET ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let ended = program.run(&["list", "--plaintext", &server.at()]).await;
    assert_told(&ended, "is an HTTP/1 server", "gRPC port");
}

#[tokio::test]
async fn an_http1_server_over_tls() {
    let (authority, program) = (Authority::new(), Program::new());
    let (certificate, key) = authority.sign("localhost");
    let ca = program.file("ca.pem", &authority.pem);
    for alpn in [vec![b"http/1.1".to_vec()], Vec::new()] {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn;
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let server = pretend(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    http1(stream).await;
                }
            }
        })
        .await;
        let ended = program.run(&["list", "--cacert", &ca, &server.at_localhost()]).await;
        assert_told(&ended, "is an HTTP/1 server", "gRPC port");
    }
}

#[tokio::test]
async fn a_port_that_never_answers() {
    let program = Program::new();
    let server = pretend(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    for more in [&["--plaintext"][..], &[]] {
        let at = server.at();
        let line = [&["list", &at, "--connect-timeout", "0.3"], more].concat();
        assert_told(&program.run(&line).await, "sent nothing", "--connect-timeout");
    }
}

#[tokio::test]
async fn a_failure_to_connect_is_an_object_as_well() {
    let (server, program) = (plain().await, Program::new());
    let ended = program.run(&["call", &server.at(), "Notes/Echo", "-o", "json"]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.stderr, "");
    let report = ended.json();
    assert_eq!(report["error"]["kind"], "connection");
    assert!(report["error"]["hint"].as_str().unwrap().contains("--plaintext"));
    assert!(report["status"].is_null());
    assert!(report["timings"]["connect_ms"].is_number());
}
