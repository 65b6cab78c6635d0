//! A web server for a test, that answers as the path says and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::until;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// `GET /path HTTP/1.1`.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

/// What the server has seen so far.
#[derive(Default)]
struct Book {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
}

/// A running server; its threads end with the process.
pub(crate) struct Web {
    pub(crate) port: u16,
    book: Arc<Book>,
}

impl Web {
    /// Listens on loopback, in plain or with a certificate.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, book) = (listener.local_addr().unwrap().port(), Arc::new(Book::default()));
        let shared = Arc::clone(&book);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, tls, book) = (stream.unwrap(), tls.clone(), Arc::clone(&shared));
                std::thread::spawn(move || {
                    book.connections.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        None => serve(stream, &book),
                        Some(tls) => {
                            serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &book);
                        }
                    }
                    book.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, book }
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.book.asked.lock().unwrap().clone()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.book.connections.load(Ordering::SeqCst)
    }

    /// Waits until nobody is connected any more.
    pub(crate) fn until_all_are_gone(&self) {
        until("all connections are closed", Duration::from_secs(30), || {
            self.book.closed.load(Ordering::SeqCst) == self.connections()
        });
    }
}

fn serve(stream: impl Read + Write, book: &Book) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream) {
        let path = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let whole = asked.whole;
        let echo = format!(
            "{} {} [{}]",
            asked.line.trim_end_matches(" HTTP/1.1"),
            header(&asked.headers, "host").unwrap_or_default(),
            String::from_utf8_lossy(&asked.body)
        );
        book.asked.lock().unwrap().push(asked);
        if !whole || answer(stream.get_mut(), &path, &echo).is_err() {
            return;
        }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// `None`: the other side has closed between two requests.
fn read(stream: &mut impl BufRead) -> Option<Asked> {
    let mut asked = Asked { line: line(stream)?, ..Asked::default() };
    loop {
        let line = line(stream)?;
        match line.split_once(": ") {
            Some((name, value)) => asked.headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let length = header(&asked.headers, "content-length").map(|length| length.parse::<u64>().unwrap());
    asked.whole = match length {
        Some(length) => stream.take(length).read_to_end(&mut asked.body).is_ok_and(|read| read as u64 == length),
        None if header(&asked.headers, "transfer-encoding").is_some() => chunks(stream, &mut asked.body).is_some(),
        None => true,
    };
    Some(asked)
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).ok()?;
    (read > 0 && line.ends_with('\n')).then(|| line.trim_end().to_owned())
}

/// `None`: they came to no end.
fn chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let length = u64::from_str_radix(&line(stream)?, 16).ok()?;
        stream.by_ref().take(length).read_to_end(body).ok()?;
        line(stream)?;
        if length == 0 {
            return Some(());
        }
    }
}

fn answer(stream: &mut (impl Read + Write), path: &str, echo: &str) -> std::io::Result<()> {
    let full = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    match path {
        "/hang" => hang(stream),
        "/no-body" => stream.write_all(full("200 OK", "").as_bytes()),
        "/redirect" => stream.write_all(full("302 Found\r\nlocation: /elsewhere", "not here").as_bytes()),
        "/cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na part")?;
            Err(std::io::ErrorKind::Other.into())
        }
        "/slow" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na part")?;
            hang(stream)
        }
        "/no-http" => {
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")?;
            Err(std::io::ErrorKind::Other.into())
        }
        "/closes" => {
            stream.write_all(full("200 OK", "good bye").as_bytes())?;
            Err(std::io::ErrorKind::Other.into())
        }
        "/huge-header" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-huge: ")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        "/many-headers" => {
            let many = (0..1000).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
            stream.write_all(full(&format!("200 OK\r\n{}", many.trim_end()), "").as_bytes())
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"1000\r\n")?;
                stream.write_all(&[b'x'; 0x1000])?;
                stream.write_all(b"\r\n")?;
            }
        }
        "/hop-by-hop" => {
            let head = "200 OK\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nx-told: told";
            stream.write_all(full(head, "").as_bytes())
        }
        _ => stream.write_all(full("200 OK", echo).as_bytes()),
    }
}

/// Says nothing until the other side goes.
fn hang(stream: &mut impl Read) -> std::io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {}
    Err(std::io::ErrorKind::UnexpectedEof.into())
}
