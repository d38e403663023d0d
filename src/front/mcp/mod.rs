//! The MCP front.
