//! The real client against real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)] // real sockets, real time

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::dialect::Phase;

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn client(address: SocketAddr) -> HttpUpstream {
    HttpUpstream::new(&format!("http://{address}"), &Timeouts::default()).unwrap()
}

fn request(address: SocketAddr) -> http::Request<Bytes> {
    http::Request::post(format!("http://{address}/v1/messages?beta=true"))
        .header("x-api-key", "k")
        .body(Bytes::from_static(b"{}"))
        .unwrap()
}

/// A server; each connection, with its number from 0, is handed to `serve`.
async fn server<F, S>(serve: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(usize, TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(counted.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    (address, count)
}

/// Reads one request with the body `{}`; its head, or `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(read).unwrap())
}

async fn text(response: http::Response<Body>) -> Result<String, Fault> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Lets the other tasks of this test run until they wait.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn connection_pooling_keeps_a_connection_and_uses_it_again() {
    let (address, connections) = server(|_, mut stream| async move {
        while let Some(head) = read_request(&mut stream).await {
            assert!(head.starts_with("POST /v1/messages?beta=true HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("host: {}\r\n", stream.local_addr().unwrap())), "{head}");
            assert!(head.contains("content-length: 2\r\n"), "{head}");
            stream.write_all(WHOLE).await.unwrap();
        }
    })
    .await;
    let client = client(address);
    for _ in 0..5 {
        assert_eq!(text(client.send(request(address)).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_at_once_have_connections_of_their_own() {
    let (address, connections) = server(|_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            settle().await;
            stream.write_all(WHOLE).await.unwrap();
        }
    })
    .await;
    let client = client(address);
    let both = tokio::join!(client.send(request(address)), client.send(request(address)));
    assert_eq!(text(both.0.unwrap()).await.unwrap(), "ok");
    assert_eq!(text(both.1.unwrap()).await.unwrap(), "ok");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_not_used() {
    let (address, connections) = server(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(WHOLE).await.unwrap(); // and closes
    })
    .await;
    let client = client(address);
    for _ in 0..3 {
        assert_eq!(text(client.send(request(address)).await.unwrap()).await.unwrap(), "ok");
        settle().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_the_request_is_replaced_once() {
    let (address, connections) = server(|number, mut stream| async move {
        if number < 2 {
            read_request(&mut stream).await;
            stream.write_all(WHOLE).await.unwrap();
        }
        read_request(&mut stream).await; // and closes without a word
    })
    .await;
    let client = client(address);
    for _ in 0..2 {
        assert_eq!(text(client.send(request(address)).await.unwrap()).await.unwrap(), "ok");
    }
    // The third request meets the end of the second connection, and then that of a fresh one: that is an answer.
    let fault = client.send(request(address)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Network);
    assert!(fault.ambiguous, "the server has read the request");
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_fault_after_what_came() {
    let (address, _) = server(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(CHUNKED).await.unwrap();
        stream.write_all(b"3\r\nabc\r\n").await.unwrap();
    })
    .await;
    let mut body = client(address).send(request(address)).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    let fault = body.frame().await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Network);
    assert!(fault.ambiguous);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn what_came_at_once_goes_on_at_once() {
    let (address, _) = server(|_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            let mut answer = CHUNKED.to_vec();
            for n in 0..32 {
                answer.extend_from_slice(format!("4\r\n {n:03}\r\n").as_bytes());
            }
            answer.extend_from_slice(b"0\r\n\r\n");
            stream.write_all(&answer).await.unwrap();
        }
    })
    .await;
    let mut body = client(address).send(request(address)).await.unwrap().into_body();
    let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(piece.len(), 32 * 4);
    assert!(body.is_end_stream(), "the end came with it");
}

#[tokio::test]
async fn an_upstream_notices_at_once_that_nobody_reads_any_more() {
    let (tell, mut told) = mpsc::channel(2);
    let (address, _) = server(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            if read_request(&mut stream).await.is_some() {
                stream.write_all(CHUNKED).await.unwrap();
                stream.write_all(b"3\r\nabc\r\n").await.unwrap();
                let ended = stream.read(&mut [0; 16]).await;
                tell.send(ended.unwrap_or(0)).await.unwrap();
            }
        }
    })
    .await;
    let mut body = client(address).send(request(address)).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let left = Instant::now();
    drop(body);
    assert_eq!(told.recv().await, Some(0));
    assert!(left.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn an_upstream_notices_at_once_that_nobody_waits_for_its_headers() {
    let (tell, mut told) = mpsc::channel(2);
    let (address, _) = server(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            read_request(&mut stream).await;
            tell.send(1).await.unwrap();
            tell.send(stream.read(&mut [0; 16]).await.unwrap_or(0)).await.unwrap();
        }
    })
    .await;
    let client = client(address);
    let mut sending = client.send(request(address));
    tokio::select! {
        biased;
        _ = &mut sending => panic!("no answer was given"),
        arrived = told.recv() => assert_eq!(arrived, Some(1)),
    }
    let left = Instant::now();
    drop(sending);
    assert_eq!(told.recv().await, Some(0));
    assert!(left.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn an_answer_that_is_complete_gives_its_connection_back_though_its_body_ends_later() {
    let (address, connections) = server(|_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(CHUNKED).await.unwrap();
            stream.write_all(b"3\r\nend\r\n").await.unwrap();
            settle().await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let client = client(address);
    for _ in 0..3 {
        let mut body = client.send(request(address)).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        read_out(body);
        settle().await;
        settle().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_large_request_arrives_whole() {
    let (address, _) = server(|_, mut stream| async move {
        let mut read = Vec::new();
        while !read.ends_with(b"end") {
            stream.read_buf(&mut read).await.unwrap();
        }
        let body = read.iter().filter(|&&byte| byte == b'~').count();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\n{body:08}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let mut body = vec![b'~'; 5_000_000];
    body.extend_from_slice(b"end");
    let large = request(address).map(|_| Bytes::from(body));
    assert_eq!(text(client(address).send(large).await.unwrap()).await.unwrap(), "05000000");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fault = client(address).send(request(address)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Network);
    assert!(!fault.ambiguous);
    assert!(fault.message.starts_with("could not connect: "), "{}", fault.message);
}

#[tokio::test]
async fn a_server_that_does_not_take_the_connection_is_given_up_in_time() {
    // TLS that never begins: the connection stands, but nothing comes.
    let (address, _) = server(|_, stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let timeouts = Timeouts { connect: Duration::from_millis(50), ..Timeouts::default() };
    let client = HttpUpstream::new(&format!("https://{address}"), &timeouts).unwrap();
    let mut request = request(address);
    *request.uri_mut() = format!("https://{address}/").parse().unwrap();
    let fault = client.send(request).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout(Phase::Connect));
    assert!(!fault.ambiguous);
}

#[tokio::test]
async fn a_request_to_another_server_is_not_sent() {
    let (address, connections) = server(|_, _| async {}).await;
    let other = "127.0.0.1:9".parse().unwrap();
    let fault = client(other).send(request(address)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Caller);
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_follows_it() {
    let (elsewhere, visits) = server(|_, _| async {}).await;
    let (address, _) = server(move |_, mut stream| async move {
        read_request(&mut stream).await;
        let answer = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/v1/messages\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let response = client(address).send(request(address)).await.unwrap();
    assert_eq!(response.status(), 307);
    settle().await;
    assert_eq!(visits.load(Ordering::SeqCst), 0, "a key must not follow a redirect");
}

/// Run by the test below, with a proxy in its environment.
#[tokio::test]
#[ignore = "needs HTTP_PROXY; run by another test"]
async fn asks_through_the_proxy_of_the_environment() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = HttpUpstream::new("http://upstream.invalid", &Timeouts::default()).unwrap();
    let request = http::Request::post("http://upstream.invalid/v1/messages").header("x-api-key", "k");
    let response = client.send(request.body(Bytes::from_static(b"{}")).unwrap()).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "ok");
    // What is on this machine is asked directly, whatever the environment says.
    let (address, visits) = server(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(WHOLE).await.unwrap();
    })
    .await;
    let direct = HttpUpstream::new(&format!("http://{address}"), &Timeouts::default()).unwrap();
    let request = http::Request::post(format!("http://{address}/")).body(Bytes::from_static(b"{}")).unwrap();
    assert_eq!(text(direct.send(request).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(visits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_proxy_variables_hold_but_not_for_this_machine() {
    let (asked, mut asks) = mpsc::channel(8);
    let (proxy, _) = server(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            let head = read_request(&mut stream).await.unwrap_or_default();
            let _ = asked.send(head.lines().next().unwrap_or_default().to_owned()).await;
            let _ = stream.write_all(WHOLE).await;
        }
    })
    .await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "cells::upstream::tests::asks_through_the_proxy_of_the_environment", "--ignored"]);
    for name in ["no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "https_proxy", "HTTPS_PROXY"]
    {
        child.env_remove(name);
    }
    let output = child.env("HTTP_PROXY", format!("http://{proxy}")).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(asks.recv().await.unwrap(), "POST http://upstream.invalid/v1/messages HTTP/1.1");
    assert!(asks.try_recv().is_err(), "the proxy was asked for one of the two");
}

mod tls {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server that speaks the protocols of `alpn`, and a client that trusts it.
    async fn secured(alpn: &[&str]) -> (HttpUpstream, String, Arc<AtomicUsize>, mpsc::Receiver<()>) {
        taking(alpn, 200).await
    }

    /// The same; over HTTP/2 it takes so many streams at once on one connection.
    async fn taking(
        alpn: &[&str],
        streams: u32,
    ) -> (HttpUpstream, String, Arc<AtomicUsize>, mpsc::Receiver<()>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(ring.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (tell, left) = mpsc::channel(8);
        let (address, connections) = server(move |_, stream| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| answer(request, tell.clone()));
                let io = TokioIo::new(stream);
                let _ = if two {
                    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.max_concurrent_streams(streams);
                    builder.serve_connection(io, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            }
        })
        .await;

        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut trust = rustls::ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let url = format!("https://localhost:{}", address.port());
        let connector = connect::Connector::new(
            &url.parse().unwrap(),
            Duration::from_secs(5),
            connect::Trust::Given(Arc::new(trust)),
        );
        let direct = direct::Direct::new(connector.unwrap());
        (HttpUpstream(Way::Direct(Arc::new(direct))), url, connections, left)
    }

    /// Says over what it was asked; at `/stream` it begins, never ends, and tells when nobody reads.
    async fn answer(
        request: http::Request<hyper::body::Incoming>,
        tell: mpsc::Sender<()>,
    ) -> Result<http::Response<Body>, Infallible> {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.try_send(());
            }
        }
        if request.uri().path() == "/stream" {
            let told = Told(tell);
            let stream = futures_util::stream::unfold((0, told), |(n, told)| async move {
                if n > 0 {
                    std::future::pending::<()>().await;
                }
                Some((Ok(http_body::Frame::data(Bytes::from_static(b"first"))), (n + 1, told)))
            });
            return Ok(http::Response::new(http_body_util::StreamBody::new(stream).boxed_unsync()));
        }
        let version = format!("{:?}", request.version());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let said = format!("{version} {}", String::from_utf8_lossy(&body));
        let body = http_body_util::Full::new(Bytes::from(said)).map_err(|never| match never {});
        Ok(http::Response::new(body.boxed_unsync()))
    }

    fn to(url: &str, path: &str) -> http::Request<Bytes> {
        http::Request::post(format!("{url}{path}")).body(Bytes::from_static(b"{}")).unwrap()
    }

    #[tokio::test]
    async fn where_the_server_offers_http2_all_requests_share_one_connection() {
        let (client, url, connections, _left) = secured(&["h2", "http/1.1"]).await;
        assert_eq!(text(client.send(to(&url, "/")).await.unwrap()).await.unwrap(), "HTTP/2.0 {}");
        let many = (0..20).map(|_| async { text(client.send(to(&url, "/")).await?).await });
        for answer in futures_util::future::join_all(many).await {
            assert_eq!(answer.unwrap(), "HTTP/2.0 {}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn beyond_the_servers_limit_of_streams_another_connection_is_opened() {
        let (client, url, connections, _left) = taking(&["h2"], 3).await;
        text(client.send(to(&url, "/")).await.unwrap()).await.unwrap();
        let mut open = Vec::new();
        for n in 0..10 {
            let asked = tokio::time::timeout(Duration::from_secs(5), client.send(to(&url, "/stream"))).await;
            let mut body = asked.expect("waits for a stream of another").unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first", "{n}");
            open.push(body);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 4, "ten streams, three on each");
    }

    #[tokio::test]
    async fn a_stream_over_http2_is_reset_when_nobody_reads_it_and_the_connection_stays() {
        let (client, url, connections, mut left) = secured(&["h2"]).await;
        let mut body = client.send(to(&url, "/stream")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        let now = Instant::now();
        drop(body);
        left.recv().await.unwrap();
        assert!(now.elapsed() < Duration::from_millis(100));
        assert_eq!(text(client.send(to(&url, "/")).await.unwrap()).await.unwrap(), "HTTP/2.0 {}");
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn http1_over_tls_is_spoken_where_the_server_knows_no_other() {
        let (client, url, connections, _left) = secured(&["http/1.1"]).await;
        for _ in 0..3 {
            assert_eq!(text(client.send(to(&url, "/")).await.unwrap()).await.unwrap(), "HTTP/1.1 {}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_server_that_is_not_trusted_gets_no_request() {
        let (_, url, _, _left) = secured(&["h2"]).await;
        let client = HttpUpstream::new(&url, &Timeouts::default()).unwrap();
        let fault = client.send(to(&url, "/")).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Network);
        assert!(!fault.ambiguous);
        assert!(fault.message.contains("certificate"), "{}", fault.message);
    }
}
