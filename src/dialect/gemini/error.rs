//! Errors of Gemini. The envelope is one of those that [`openai_chat::error`] reads; what only Google says is
//! added here.
//!
//! Source: Gemini API, "Troubleshooting guide" (statuses), Google API design guide, "Errors".

use http::HeaderMap;

use crate::dialect::openai_chat;
use crate::dialect::table::Variant;
use crate::dialect::{Fault, FaultKind};

/// Reads an error answer.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8], variant: &Variant) -> Fault {
    refine(openai_chat::error::read(status, headers, body, variant))
}

/// Reads an error that came in an answer of status 200.
pub(super) fn in_body(body: &[u8], variant: &Variant) -> Fault {
    refine(openai_chat::error::in_body(body, variant))
}

fn refine(mut fault: Fault) -> Fault {
    let text = fault.message.to_ascii_lowercase();
    fault.kind = match (fault.kind, fault.status) {
        (FaultKind::Caller, Some(400)) if text.contains("api key") || text.contains("api_key") => {
            FaultKind::Auth
        }
        (FaultKind::Caller, Some(400)) if text.contains("enable billing") => FaultKind::Billing,
        // "User location is not supported for the API use": no other key or moment helps.
        (FaultKind::Caller, Some(400)) if text.contains("user location is not supported") => {
            FaultKind::Permission
        }
        (FaultKind::ServerError, Some(504)) => FaultKind::ServerError,
        (kind, _) => kind,
    };
    fault
}
