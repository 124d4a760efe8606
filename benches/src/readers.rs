//! Clients of an API's stream, as many as are wanted, and one of a tap.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What each frame has once.
const FRAME: &[u8] = b"event: metrics\n";
/// How long it may take until somebody listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two tries.
const RETRY: Duration = Duration::from_millis(10);

/// Reads until every stream has ended; how many frames the client that got the fewest got.
///
/// # Errors
/// If nobody listens in time, or a client is refused.
pub async fn read(api: SocketAddr, clients: usize, node: &str) -> Result<u64> {
    let mut reading = JoinSet::new();
    for _ in 0..clients {
        reading.spawn(frames(api, "/api/v1/stream".to_owned()));
    }
    let tapped = tokio::spawn(frames(api, format!("/api/v1/nodes/{node}/tap")));
    let mut least = u64::MAX;
    while let Some(read) = reading.join_next().await {
        least = least.min(read??);
    }
    tapped.await??;
    Ok(least)
}

/// Frames of one stream until its end.
async fn frames(api: SocketAddr, path: String) -> Result<u64> {
    let mut stream = connect(api).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("the request could not be sent")?;
    let (mut frames, mut bytes, mut is_first) = (0, vec![0; 64 << 10], true);
    // The end of one piece that could be the beginning of a frame's mark.
    let mut left = 0;
    loop {
        // The server ends streams when its pipeline does, in order or not.
        let length = stream.read(&mut bytes[left..]).await.unwrap_or(0);
        if length == 0 {
            return Ok(frames);
        }
        let end = left + length;
        ensure!(!is_first || bytes.starts_with(b"HTTP/1.1 200"), "{path} was refused");
        is_first = false;
        frames += bytes[..end].windows(FRAME.len()).filter(|window| *window == FRAME).count() as u64;
        left = end.min(FRAME.len() - 1);
        bytes.copy_within(end - left..end, 0);
    }
}

async fn connect(api: SocketAddr) -> Result<TcpStream> {
    let began = Instant::now();
    loop {
        match TcpStream::connect(api).await {
            Ok(stream) => return Ok(stream),
            Err(error) if began.elapsed() > PATIENCE => return Err(error).context("nobody listens"),
            Err(_) => sleep(RETRY).await,
        }
    }
}
