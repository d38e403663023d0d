//! The listener and its connections, and the handle through which a test watches and changes them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::journal::{Open, Recorded};
use super::script::Script;
use super::serve::{Loaded, Shared};
use super::steps::Broken;

/// The embedded upstream, bound and not yet running.
#[derive(Debug)]
pub struct Simulator {
    listener: TcpListener,
    handle: Handle,
}

/// Watches and changes a simulator while it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// A simulator that runs in a task of its own and stops when this is dropped.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    task: JoinHandle<()>,
}

// === impl Simulator ===

impl Simulator {
    /// Binds the address; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(addr: SocketAddr, script: Script) -> io::Result<Simulator> {
        let listener = TcpListener::bind(addr).await?;
        let handle = Handle { addr: listener.local_addr()?, shared: Shared::new(script) };
        Ok(Simulator { listener, handle })
    }

    /// A simulator that listens nowhere: it answers the requests that are handed to its handle.
    pub fn in_memory(script: Script) -> Handle {
        Handle { addr: SocketAddr::from(([127, 0, 0, 1], 0)), shared: Shared::new(script) }
    }

    /// Binds a free port on loopback and runs in a task of its own: what tests want.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(script: Script) -> io::Result<Running> {
        let simulator = Simulator::bind(SocketAddr::from(([127, 0, 0, 1], 0)), script).await?;
        let handle = simulator.handle();
        let task = tokio::spawn(simulator.run(std::future::pending()));
        Ok(Running { handle, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.handle.addr
    }

    /// A handle to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `shutdown` completes, then drops all connections. Dropping the future does the same.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(self.handle.shared.clone(), stream));
                    }
                    // Out of file descriptors, most likely: some will be free soon.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

// === impl Handle ===

impl Handle {
    /// Where the simulator listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a base URL, without a path and without a closing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers a request that comes without a connection. What would break one is an error, here or in the body. When
    /// this is dropped, or the body before its end, the client has left.
    ///
    /// # Errors
    /// When the script closes the connection in place of an answer.
    pub async fn answer(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Broken> + Send + use<>>, Broken> {
        let request = request.map(http_body_util::Full::new);
        self.shared.clone().serve(request, Arc::default()).await
    }

    /// Sets another script from the next request on; its counts of matches start anew.
    pub fn set_script(&self, script: Script) {
        self.shared.script.store(Arc::new(Loaded::new(script)));
    }

    /// The requests so far, oldest first; of very many, the latest.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.requests()
    }

    /// Forgets the requests so far; their numbers go on.
    pub fn forget(&self) {
        self.shared.journal.clear();
    }

    /// What is open now.
    pub fn open(&self) -> Open {
        self.shared.journal.open()
    }

    /// Waits until something holds of the simulator; false if it does not within `limit`.
    pub async fn wait_until(&self, limit: Duration, holds: impl Fn(&Handle) -> bool) -> bool {
        let mut changes = self.shared.journal.watch();
        let wait = async {
            while !holds(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

// === impl Running ===

impl Running {
    /// A handle to it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Its address as a base URL.
    pub fn url(&self) -> String {
        self.handle.url()
    }

    /// Stops it: the listener and all connections are closed when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // Without this a small event waits for the acknowledgement of the one before it.
    let _ = stream.set_nodelay(true);
    let _counted = shared.journal.connected();
    let reset = Arc::new(AtomicBool::new(false));
    let wire = Wire { stream, reset: reset.clone() };
    let service = service_fn(move |request| shared.clone().serve(request, reset.clone()));
    let mut http = hyper::server::conn::http1::Builder::new();
    let served = http.timer(TokioTimer::new()).keep_alive(true).serve_connection(TokioIo::new(wire), service);
    // An error is a client that left, or a fault of the script's: both are in the journal.
    let _ = served.await;
}

/// A connection that can be closed with a reset.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

// === impl Wire ===

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Acquire) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Acquire) {
            // No orderly end before a reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
