//! Simulators that are reached without sockets: what would go over a connection is handed over. With paused time, hours
//! pass in seconds, and the same seed gives the same outcome.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::cells::upstream::{Body, Upstream};
use crate::dialect::{Fault, FaultKind};
use crate::simulator::{Broken, Handle};

/// The way to a simulator in memory.
pub struct InMemory(pub Handle);

// === impl InMemory ===

impl Upstream for InMemory {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Fault>> {
        let simulator = self.0.clone();
        Box::pin(async move {
            let response = simulator.answer(request).await.map_err(|broken| broke(&broken))?;
            Ok(response.map(|body| body.map_err(|broken| broke(&broken)).boxed_unsync()))
        })
    }
}

fn broke(broken: &Broken) -> Fault {
    let message = format!("the connection broke: {broken}");
    Fault { ambiguous: true, ..Fault::new(FaultKind::Network, message) }
}
