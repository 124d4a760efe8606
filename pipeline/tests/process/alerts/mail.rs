//! An SMTP server whose protocol is another project's (`mailin`); this file only moves its lines.

use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mailin::{Action, Handler, SessionBuilder};

/// The mails that came, whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Mails(Arc<Mutex<Vec<String>>>);

impl Mails {
    /// All so far.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One session of the server.
struct Mailbox {
    mails: Mails,
    data: Vec<u8>,
}

impl Handler for Mailbox {
    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.data.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> mailin::Response {
        let mail = String::from_utf8_lossy(&std::mem::take(&mut self.data)).into_owned();
        self.mails.0.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        mailin::response::OK
    }
}

/// Starts a server that lives as long as the test's process; returns its port and what it gets.
pub(super) fn serve() -> (u16, Mails) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let port = listener.local_addr().expect("it listens").port();
    let mails = Mails::default();
    let received = mails.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mails = received.clone();
            // A client that has gone is no failure of the server's.
            thread::spawn(move || session(stream, mails).ok());
        }
    });
    (port, mails)
}

fn session(stream: TcpStream, mails: Mails) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mailbox = Mailbox { mails, data: Vec::new() };
    let mut session = SessionBuilder::new("mail.example.org").build(IpAddr::from([127, 0, 0, 1]), mailbox);
    session.greeting().write_to(&mut out)?;
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let response = session.process(&line);
        line.clear();
        if !matches!(response.action, Action::NoReply) {
            response.write_to(&mut out)?;
        }
        if matches!(response.action, Action::Close) {
            break;
        }
    }
    Ok(())
}
