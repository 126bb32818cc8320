//! A client that shows every byte: one connection for each request, nothing interpreted that is not asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::tcp::DEADLINE;

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body of text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status and body as text, for comparing both at once.
    pub fn pair(&self) -> (u16, String) {
        (self.status, self.text())
    }
}

/// `headers` are whole lines, each with its line end.
pub fn request(api: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    raw(api, &[head.as_bytes(), body].concat())
}

/// Sends these very bytes and reads until the server closes.
pub fn raw(api: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = open(api);
    socket.write_all(bytes).expect("the request is sent");
    let mut all = Vec::new();
    // A server may close before it has read everything; what it said first counts.
    if let Err(error) = socket.read_to_end(&mut all) {
        assert!(!all.is_empty(), "no answer: {error}");
    }
    parse(&all).0
}

pub fn open(api: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(api).expect("the API takes connections");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

/// Reads one answer and leaves the connection open.
pub fn read_one(socket: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = socket.read(&mut chunk).expect("an answer");
        assert!(count > 0, "the connection ended inside of an answer: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&chunk[..count]);
        if let Some(end) = find(&all, b"\r\n\r\n") {
            let (answer, _) = parse(&all);
            let length = answer.header("content-length").map_or(0, |text| text.parse().expect("a length"));
            if all.len() >= end + 4 + length {
                return answer;
            }
        }
    }
}

/// The first answer, and what follows it.
fn parse(all: &[u8]) -> (Answer, Vec<u8>) {
    let end =
        find(all, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(all)));
    let head = String::from_utf8(all[..end].to_vec()).expect("a head of text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let status: u16 = status.parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a header"))
        .collect();
    let rest = &all[end + 4..];
    if status == 100 {
        return parse(rest);
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunked(rest);
        return (answer, Vec::new());
    }
    let length = answer.header("content-length").map_or(rest.len(), |text| text.parse().expect("a length"));
    let length = length.min(rest.len());
    answer.body = rest[..length].to_vec();
    (answer, rest[length..].to_vec())
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("a size"), 16).expect("a size");
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        if size == 0 {
            break;
        }
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}
