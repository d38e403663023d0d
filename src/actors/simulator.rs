//! The embedded simulator's actor; only there when no provider can be used.
//!
//! Owns: the server's task. Its address stays the same through restarts; nothing else of it survives.

use std::net::SocketAddr;

use crate::runtime::{Me, Worker};
use crate::simulator::{Script, Simulator};

/// The name under which it stands among the providers.
pub const NAME: &str = "simulator";

/// What the simulator's actor is told.
#[derive(Debug)]
pub enum SimulatorMessage {
    /// From its task: the server ended.
    Ended(String),
}

/// One incarnation.
pub struct Embedded;

impl Worker for Embedded {
    type Message = SimulatorMessage;
    type Seat = SocketAddr;

    fn start(address: &SocketAddr, me: &mut Me<SimulatorMessage>) -> Result<Embedded, String> {
        let (own, address) = (me.address().clone(), *address);
        me.spawn(async move {
            let reason = match Simulator::bind(address, Script::default()).await {
                Ok(simulator) => {
                    simulator.run(std::future::pending::<()>()).await;
                    "the server ended".to_owned()
                }
                Err(error) => format!("can't listen on {address}: {error}"),
            };
            let _ = own.cast(SimulatorMessage::Ended(reason)); // gone: then nobody needs it
        });
        Ok(Embedded)
    }

    fn handle(&mut self, message: SimulatorMessage, me: &mut Me<SimulatorMessage>) {
        match message {
            SimulatorMessage::Ended(reason) => me.fail(reason),
        }
    }

    fn name(message: &SimulatorMessage) -> &'static str {
        match message {
            SimulatorMessage::Ended(_) => "Ended",
        }
    }
}
