//! What routing knows of a request.

use std::sync::Arc;

use crate::config::ProviderId;
use crate::dialect::Head;

/// The facts of a request on which its route depends.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The facts of the body.
    pub head: Head,
    /// A provider that the caller named.
    pub provider: Option<ProviderId>,
    /// The caller's session (Claude Code: `x-claude-code-session-id`).
    pub session: Option<Arc<str>>,
    /// The caller's agent (Claude Code: `x-claude-code-agent-id`), set for subagents.
    pub agent: Option<Arc<str>>,
    /// The caller's program: its `user-agent`, or `mcp` for calls of MCP tools.
    pub client: Option<Arc<str>>,
    /// Headers that rules may match: lower-case name, value. Never credentials.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The mark `warn` of a budget is passed that counts for the request: what costs less goes first.
    pub over_budget: bool,
}
