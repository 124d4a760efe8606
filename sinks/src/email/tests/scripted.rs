//! A small SMTP server that answers mails as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Default)]
struct Seen {
    /// What is answered to mails; `250 OK` when there is nothing more.
    answers: VecDeque<&'static str>,
    mails: Vec<String>,
    recipients: Vec<String>,
    /// What is answered to recipients, by address, one after the other; `250 OK` when there is nothing more.
    recipient_answers: BTreeMap<&'static str, VecDeque<&'static str>>,
    /// Who was told 250 of each mail that was taken.
    delivered: Vec<Vec<String>>,
}

/// The server; gone when it is dropped.
pub(super) struct ScriptedServer {
    pub(super) port: u16,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl ScriptedServer {
    /// Answers mails with `answers`, one after the other; `hang` is no answer at all.
    pub(super) async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let seen = Seen { answers: answers.iter().copied().collect(), ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                // A client that has gone is no failure of the server's.
                sessions.spawn(async move { drop(serve(stream, &seen).await) });
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    /// All mails that came in, taken or not.
    pub(super) fn mails(&self) -> Vec<String> {
        lock(&self.seen).mails.clone()
    }

    /// Answers the recipient of this address with `answers`, one after the other.
    pub(super) fn answer_recipient(&self, address: &'static str, answers: &[&'static str]) {
        lock(&self.seen).recipient_answers.insert(address, answers.iter().copied().collect());
    }

    /// Who got the mails that were taken.
    pub(super) fn delivered(&self) -> Vec<Vec<String>> {
        lock(&self.seen).delivered.clone()
    }

    /// All recipients of all mails.
    pub(super) fn recipients(&self) -> Vec<String> {
        lock(&self.seen).recipients.clone()
    }
}

async fn serve(stream: TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 scripted ESMTP\r\n").await?;
    let (mut line, mut accepted) = (String::new(), Vec::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let word = line.split([' ', '\r']).next().unwrap_or_default().to_uppercase();
        let answer = match word.as_str() {
            "EHLO" => "250-scripted\r\n250 8BITMIME",
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let mut seen = lock(seen);
                let answers = seen.recipient_answers.get_mut(address.as_str());
                let answer = answers.and_then(VecDeque::pop_front).unwrap_or("250 OK");
                if answer.starts_with("250") {
                    accepted.push(address.clone());
                }
                seen.recipients.push(address);
                answer
            }
            "MAIL" | "NOOP" | "RSET" => "250 OK",
            "DATA" => read_mail(&mut stream, seen, std::mem::take(&mut accepted)).await?,
            "QUIT" => "221 bye",
            _ => "500 what?",
        };
        if answer == "hang" {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if word == "QUIT" || answer.starts_with("421") {
            return Ok(());
        }
    }
}

async fn read_mail(
    stream: &mut BufReader<TcpStream>,
    seen: &Mutex<Seen>,
    recipients: Vec<String>,
) -> std::io::Result<&'static str> {
    stream.write_all(b"354 go on\r\n").await?;
    let mut mail = String::new();
    while !mail.ends_with("\r\n.\r\n") && stream.read_line(&mut mail).await? > 0 {}
    let mut seen = lock(seen);
    seen.mails.push(mail);
    let answer = seen.answers.pop_front().unwrap_or("250 OK");
    if answer.starts_with("250") {
        seen.delivered.push(recipients);
    }
    Ok(answer)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
