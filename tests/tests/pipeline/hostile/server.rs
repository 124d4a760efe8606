//! A server that speaks anything but gRPC, another way on each connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Ways to be of no use.
pub(super) const MANNERS: usize = 5;

/// Served until it is dropped.
pub(super) struct Hostile {
    /// Where it listens.
    pub(super) url: String,
    _tasks: JoinSet<()>,
}

/// Starts it.
pub(super) async fn start() -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut streams = JoinSet::new();
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            streams.spawn(answer(stream, number % MANNERS));
            number += 1;
        }
    });
    Hostile { url, _tasks: tasks }
}

async fn answer(mut stream: TcpStream, manner: usize) {
    let mut request = [0; 1024];
    // What became of a write does not matter: the client may have had enough.
    match manner {
        0 => {
            let asked = stream.read(&mut request).await.unwrap_or(0);
            if asked == 0 {
                return;
            }
            let page =
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>";
            stream.write_all(page.as_bytes()).await.ok();
        }
        1 => {
            let noise: Vec<u8> =
                (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            stream.write_all(&noise).await.ok();
        }
        2 => drop(stream),
        3 => {
            // A frame of HTTP/2 that claims to be longer than any may be.
            stream.write_all(&[0xff, 0xff, 0xff, 0x00, 0x00, 0, 0, 0, 1]).await.ok();
            while stream.read(&mut request).await.is_ok_and(|length| length > 0) {}
        }
        _ => {
            // Settings, and then silence.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok();
            while stream.read(&mut request).await.is_ok_and(|length| length > 0) {}
        }
    }
}
