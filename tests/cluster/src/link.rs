//! A TCP proxy in front of a server that does to it what networks do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pieces under way in one direction; a delayed link holds what came in its delay.
const PIECES: usize = 4_096;

/// What becomes of a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything passes.
    Fine,
    /// Connections break, and new ones break at once.
    Dead,
    /// Nothing passes, and nobody is told.
    Frozen,
    /// Everything passes, this much later.
    Slow(Duration),
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    link: watch::Sender<Link>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy in front of the server at `url`.
    ///
    /// # Panics
    /// If the url is not one of an address, as those of a [`crate::Running`] are, or loopback has no port left.
    pub async fn start(url: &str) -> Self {
        let target: SocketAddr =
            url.trim_start_matches("http://").parse().expect("the cluster serves at an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let link = watch::Sender::new(Link::Fine);
        let mut tasks = JoinSet::new();
        let links = link.subscribe();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, target, links.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, link, _tasks: tasks }
    }

    /// From now on connections fare like this.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn connection(client: TcpStream, target: SocketAddr, mut links: watch::Receiver<Link>) {
    let dead = *links.borrow() == Link::Dead;
    if dead {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Updates are small; without this they would be slow without anybody's order.
    client.set_nodelay(true).expect("a socket");
    server.set_nodelay(true).expect("a socket");
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, links.clone()) => {}
        () = pass(from_server, to_client, links.clone()) => {}
        _ = links.wait_for(|link| *link == Link::Dead) => {}
    }
}

/// One direction of a connection, to its end.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut links: watch::Receiver<Link>) {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if pieces.send((Instant::now(), buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async {
        while let Some((came, piece)) = under_way.recv().await {
            if links.wait_for(|link| *link != Link::Frozen).await.is_err() {
                break;
            }
            let link = *links.borrow_and_update();
            if let Link::Slow(delay) = link {
                tokio::time::sleep_until(came + delay).await;
            }
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
