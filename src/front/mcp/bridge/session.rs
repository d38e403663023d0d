//! What a client's session consists of, as far as the next daemon must be told of it.

use std::collections::BTreeSet;

#[allow(deprecated, reason = "the clients of today set a level this way")]
use rmcp::model::*;
use rmcp::service::RoleClient;
use rmcp::transport::Transport;

use super::HANDSHAKE;
use super::link::{Http, HttpError};

/// How ids of the bridge's own messages begin.
const OWN: &str = "cproxy-bridge-";

/// What a new daemon must be told of this session.
#[derive(Default)]
pub(super) struct Session {
    pub hello: Option<JsonRpcRequest<ClientRequest>>,
    pub greeted: bool,
    pub subscribed: BTreeSet<String>,
    #[allow(deprecated, reason = "the clients of today set a level this way")]
    level: Option<SetLevelRequest>,
    /// Counts messages of the bridge's own.
    own: u64,
}

/// Whether a message is the bridge's own.
pub(super) fn is_own(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, JsonRpcMessage::Request(JsonRpcRequest { id: NumberOrString::String(id), .. })
        if id.starts_with(OWN))
}

// === impl Session ===

#[allow(deprecated, reason = "the clients of today subscribe and set levels this way")]
impl Session {
    /// Remembers what a new daemon must be told.
    pub fn heed(&mut self, request: &JsonRpcRequest<ClientRequest>) {
        match &request.request {
            ClientRequest::InitializeRequest(_) => {
                *self = Session { hello: Some(request.clone()), own: self.own, ..Session::default() };
            }
            ClientRequest::SubscribeRequest(subscribe) => {
                self.subscribed.insert(subscribe.params.uri.clone());
            }
            ClientRequest::UnsubscribeRequest(unsubscribe) => {
                self.subscribed.remove(&unsubscribe.params.uri);
            }
            ClientRequest::SetLevelRequest(level) => self.level = Some(level.clone()),
            _ => {}
        }
    }

    /// A fresh id for a message of the bridge's own.
    pub fn own_id(&mut self) -> RequestId {
        self.own += 1;
        NumberOrString::String(format!("{OWN}{}", self.own).into())
    }

    /// What the client is told when another daemon serves it: tools and resources may be others there.
    pub fn all_may_have_changed(&self) -> Vec<ServerNotification> {
        if !self.greeted {
            return Vec::new();
        }
        let tools =
            ToolListChangedNotification { method: Default::default(), extensions: Extensions::default() };
        let resources =
            ResourceListChangedNotification { method: Default::default(), extensions: Extensions::default() };
        let updated = self.subscribed.iter().map(|uri| {
            let params = ResourceUpdatedNotificationParam::new(uri.clone());
            ServerNotification::ResourceUpdatedNotification(ResourceUpdatedNotification::new(params))
        });
        let lists = [
            ServerNotification::ToolListChangedNotification(tools),
            ServerNotification::ResourceListChangedNotification(resources),
        ];
        lists.into_iter().chain(updated).collect()
    }

    /// Repeats the handshake with a new daemon, if the client has been through it, and then the subscriptions.
    pub async fn greet(&mut self, mut up: Http) -> Result<Http, String> {
        let (Some(hello), true) = (self.hello.clone(), self.greeted) else { return Ok(up) };
        let greeting = async {
            let send = |error: HttpError| error.to_string();
            let id = hello.id.clone();
            up.send(JsonRpcMessage::Request(hello)).await.map_err(send)?;
            loop {
                match Transport::<RoleClient>::receive(&mut up).await {
                    Some(JsonRpcMessage::Response(response)) if response.id == id => break,
                    Some(JsonRpcMessage::Error(error)) => return Err(error.error.message.into_owned()),
                    Some(_) => {}
                    None => return Err("the connection ended in the handshake".to_owned()),
                }
            }
            let initialized =
                InitializedNotification { method: Default::default(), extensions: Extensions::default() };
            up.send(JsonRpcMessage::notification(ClientNotification::InitializedNotification(initialized)))
                .await
                .map_err(send)?;
            let subscriptions = self.subscribed.clone().into_iter().map(|uri| {
                ClientRequest::SubscribeRequest(SubscribeRequest::new(SubscribeRequestParams::new(uri)))
            });
            let level = self.level.clone().map(ClientRequest::SetLevelRequest);
            for request in subscriptions.chain(level) {
                let id = self.own_id();
                up.send(JsonRpcMessage::request(request, id)).await.map_err(send)?;
            }
            Ok(())
        };
        match tokio::time::timeout(HANDSHAKE, greeting).await {
            Ok(Ok(())) => Ok(up),
            Ok(Err(error)) => Err(error),
            Err(_) => Err("the daemon did not answer the handshake".to_owned()),
        }
    }
}
