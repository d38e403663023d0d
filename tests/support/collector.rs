//! A collector of metrics and traces on loopback, which keeps what it is sent.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What a collector was sent: path, headers, body.
pub struct Export(pub String, pub String, pub Vec<u8>);

/// A collector that answers with this status, and what it is sent.
pub fn collector(status: &'static str) -> (String, Receiver<Export>) {
    slow_collector(status, Duration::ZERO)
}

/// The same, but it takes so long to answer.
pub fn slow_collector(status: &'static str, pause: Duration) -> (String, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, sender) = (connection.unwrap(), sender.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let head = head.to_ascii_lowercase();
                    let length = head.split_once("content-length: ").unwrap().1.lines().next().unwrap();
                    let mut body = vec![0; length.parse().unwrap()];
                    reader.read_exact(&mut body).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let _ = sender.send(Export(path, head, body)); // a test that has ended
                    #[allow(clippy::disallowed_methods)] // a slow collector is what a test asks for
                    std::thread::sleep(pause);
                    let _ = write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, receiver)
}
