//! TLS over real sockets: octets in any pieces, sockets that are full, ends of all kinds.

#![allow(clippy::unwrap_used)]

use oxgrpc_io::{
    ClientTls, Identity, ListenOptions, Listener, Roots, ServerTls, SessionCache, Socket, Stream,
};
use rcgen::{CertificateParams, KeyPair};
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

struct Credentials {
    client: ClientTls,
    server: ServerTls,
}

fn credentials() -> Credentials {
    let (key, certificate) = identity("server.test");
    let identity = Identity::from_pem(key.as_bytes(), certificate.as_bytes()).unwrap();
    let roots = Roots::from_pem(certificate.as_bytes()).unwrap();
    Credentials {
        client: ClientTls::new(roots, None).unwrap(),
        server: ServerTls::new(vec![identity], None).unwrap(),
    }
}

/// A key and a certificate that is signed with it.
fn identity(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}

fn sockets() -> (Socket, Socket) {
    let options = ListenOptions { reuse_port: false };
    let listener = Listener::bind("127.0.0.1:0", options).unwrap().remove(0);
    let client = Socket::connect(listener.address()).unwrap();
    let server = eventually(|| listener.accept().unwrap());
    eventually(|| client.finish_connect().ok());
    (client, server)
}

/// Repeats what has nothing to give yet.
fn eventually<T>(mut call: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if let Some(value) = call() {
            return value;
        }
        std::thread::yield_now();
    }
    panic!("nothing came");
}

fn streams(credentials: &Credentials) -> (Stream, Stream) {
    let (client, server) = sockets();
    let client = credentials.client.connect(client, "server.test").unwrap();
    (client, credentials.server.accept(server).unwrap())
}

/// Lets both ends say what they have to, until both have shaken hands.
fn shake(client: &mut Stream, server: &mut Stream) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while client.handshake().is_none() || server.handshake().is_none() {
        assert!(Instant::now() < until, "the handshake does not end");
        for end in [&mut *client, &mut *server] {
            end.flush()?;
            assert_eq!(end.read(&mut [0; 100])?, None);
        }
    }
    Ok(())
}

fn connected(credentials: &Credentials) -> (Stream, Stream) {
    let (mut client, mut server) = streams(credentials);
    shake(&mut client, &mut server).unwrap();
    (client, server)
}

fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Writes all of `content`, `pieces` slices of `piece` octets at once, and reads it at the other end, `room` at once.
fn carry(
    from: &mut Stream,
    to: &mut Stream,
    content: &[u8],
    piece: usize,
    pieces: usize,
    room: usize,
) -> Vec<u8> {
    let (mut sent, mut received) = (0, Vec::new());
    let mut buffer = vec![0; room];
    let until = Instant::now() + Duration::from_secs(30);
    while received.len() < content.len() {
        assert!(Instant::now() < until, "{} of {} came", received.len(), content.len());
        if sent < content.len() {
            let slices: Vec<IoSlice<'_>> =
                content[sent..].chunks(piece).take(pieces).map(IoSlice::new).collect();
            sent += from.write(&slices).unwrap().unwrap_or(0);
        } else {
            from.flush().unwrap();
        }
        if let Some(len) = to.read(&mut buffer).unwrap() {
            assert_ne!(len, 0);
            received.extend_from_slice(&buffer[..len]);
        }
    }
    received
}

#[test]
fn octets_go_both_ways_in_any_pieces() {
    let credentials = credentials();
    let (mut client, mut server) = connected(&credentials);
    let content = octets(300_000);
    for (piece, pieces, room) in
        [(1 << 20, 1, 1 << 18), (9, 3, 100_000), (16_384, 64, 7), (70_000, 2, 16_384), (1, 1, 50)]
    {
        let content = if piece < 10 { &content[..20_000] } else { &content[..] };
        assert_eq!(carry(&mut client, &mut server, content, piece, pieces, room), content);
        assert_eq!(carry(&mut server, &mut client, content, piece, pieces, room), content);
    }
}

#[test]
fn nothing_goes_out_before_the_handshake_has_ended() {
    let credentials = credentials();
    let (mut client, mut server) = streams(&credentials);
    // It waits for its peer, not for the socket.
    assert_eq!(client.write(&[IoSlice::new(b"early")]).unwrap(), None);
    assert!(!client.is_blocked());
    assert!(client.handshake().is_none());
    shake(&mut client, &mut server).unwrap();
    let handshake = server.handshake().unwrap();
    assert_eq!(handshake.version, "TLSv1.3");
    assert_eq!(handshake.server_name.as_deref(), Some("server.test"));
    assert!(!handshake.is_resumed && handshake.certificates.is_empty());
    assert_eq!(client.handshake().unwrap().certificates.len(), 1);
    assert_eq!(carry(&mut client, &mut server, b"late", 10, 1, 10), b"late");
}

#[test]
fn a_read_that_gives_nothing_may_have_taken_something() {
    let credentials = credentials();
    let (mut client, mut server) = streams(&credentials);
    assert!(!client.flush().unwrap());
    eventually(|| {
        assert_eq!(server.read(&mut [0; 10]).unwrap(), None);
        server.take_heard().then_some(())
    });
    assert!(!server.take_heard());
}

#[test]
fn a_full_socket_blocks_and_nothing_is_lost() {
    let credentials = credentials();
    let (mut client, mut server) = connected(&credentials);
    let content = octets(64 << 20);
    let mut sent = 0;
    while let Some(len) = client.write(&[IoSlice::new(&content[sent..])]).unwrap() {
        sent += len;
    }
    assert!(client.is_blocked() && client.has_pending());
    assert!(client.flush().unwrap());
    let mut buffer = vec![0; 1 << 18];
    let mut received = 0;
    while received < sent {
        if let Some(len) = server.read(&mut buffer).unwrap() {
            assert_eq!(buffer[..len], content[received..received + len]);
            received += len;
        }
        client.flush().unwrap();
    }
    assert!(!client.has_pending());
}

#[test]
fn what_does_not_fit_is_kept() {
    let credentials = credentials();
    let (mut client, mut server) = connected(&credentials);
    client.write(&[IoSlice::new(&octets(1000))]).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(eventually(|| server.read(&mut buffer).unwrap()), 10);
    assert!(server.has_buffered() && !server.is_drained(10, 10));
    let mut rest = [0; 2000];
    assert_eq!(server.read(&mut rest).unwrap(), Some(990));
    assert_eq!(rest[..990], octets(1000)[10..]);
    assert!(!server.has_buffered() && server.is_drained(990, 2000));
}

#[test]
fn an_end_with_and_without_a_goodbye() {
    let credentials = credentials();
    for says_goodbye in [true, false] {
        let (mut client, mut server) = connected(&credentials);
        // A socket that is closed with something unread resets its connection: the server's tickets are read.
        assert_eq!(carry(&mut server, &mut client, b"first", 10, 1, 10), b"first");
        client.write(&[IoSlice::new(b"last")]).unwrap();
        if says_goodbye {
            client.shut_down_write();
            // Once is enough, and nothing follows.
            client.shut_down_write();
            assert_eq!(client.write(&[IoSlice::new(b"more")]).unwrap(), None);
        } else {
            drop(client);
        }
        let mut buffer = [0; 10];
        assert_eq!(eventually(|| server.read(&mut buffer).unwrap()), 4);
        assert_eq!(&buffer[..4], b"last");
        assert_eq!(eventually(|| server.read(&mut buffer).unwrap()), 0);
    }
}

#[test]
fn an_end_in_the_handshake_is_an_error() {
    let credentials = credentials();
    let (client, mut server) = streams(&credentials);
    drop(client);
    let error = eventually(|| server.read(&mut [0; 10]).err());
    assert_eq!(error.to_string(), "TLS handshake failed: the peer closed the connection");
}

#[test]
fn what_is_not_tls_is_an_error_once_and_for_all() {
    let credentials = credentials();
    let (client, server) = sockets();
    let mut server = credentials.server.accept(server).unwrap();
    client.write(&[IoSlice::new(&[b'G'; 2000])]).unwrap();
    let error = eventually(|| server.read(&mut [0; 10]).err());
    assert_eq!(error.to_string(), "TLS handshake failed: what the client sends is not TLS");
    // An alert has told the client, and nothing more is tried.
    let mut buffer = [0; 100];
    assert_eq!(eventually(|| client.read(&mut buffer).unwrap()), 7);
    assert_eq!(buffer[0], 21);
    assert!(server.read(&mut [0; 10]).is_err());
    assert!(server.flush().is_err());
    assert!(server.write(&[IoSlice::new(b"x")]).is_err());
    server.say_goodbye();
}

#[test]
fn a_handshake_in_endless_small_records_ends() {
    let credentials = credentials();
    let (client, server) = sockets();
    let mut server = credentials.server.accept(server).unwrap();
    // The start of a message of 60,000 octets, in records of one octet.
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(60_000, 0);
    let records: Vec<u8> = message.iter().flat_map(|octet| [22, 3, 1, 0, 1, *octet]).collect();
    let mut sent = 0;
    let error = eventually(|| {
        if let Ok(Some(len)) = client.write(&[IoSlice::new(&records[sent..])]) {
            sent += len;
        }
        server.read(&mut [0; 10]).err()
    });
    assert_eq!(error.to_string(), "TLS handshake failed: a message of the peer's is too long");
}

#[test]
fn another_name_is_refused() {
    let credentials = credentials();
    let (client, server) = sockets();
    let mut client = credentials.client.connect(client, "other.test").unwrap();
    let mut server = credentials.server.accept(server).unwrap();
    let error = shake(&mut client, &mut server).unwrap_err().to_string();
    assert_eq!(
        error,
        "TLS handshake failed: the server's certificate is refused: it is not for other.test, but for server.test"
    );
    assert!(credentials.client.connect(sockets().0, "no name").is_err());
}

#[test]
fn sessions_go_on_from_a_cache() {
    let mut credentials = credentials();
    credentials.client = credentials.client.with_sessions(&SessionCache::new(4));
    let resumed: Vec<bool> = (0..3)
        .map(|_| {
            let (mut client, mut server) = connected(&credentials);
            // The server's tickets come behind its handshake, before what it sends.
            assert_eq!(carry(&mut server, &mut client, b"hello", 10, 1, 10), b"hello");
            server.handshake().unwrap().is_resumed
        })
        .collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn keys_and_certificates_that_cannot_be_used() {
    let (key, certificate) = identity("a.test");
    let (other_key, _) = identity("b.test");
    let error = |key: &str, certificate: &str| {
        Identity::from_pem(key.as_bytes(), certificate.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(error(&other_key, &certificate), "the private key is not the certificate's");
    assert!(error("", &certificate).contains("holds no key"));
    assert!(error(&key, "").contains("holds no certificate"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    assert!(error(encrypted, &certificate).contains("decrypt it first"));
    assert!(Roots::from_pem(b"").is_err());
    assert!(ServerTls::new(Vec::new(), None).is_err());
}
