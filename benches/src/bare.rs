//! The yardstick: what the protocol's own crate does with an update, and nothing else.

use std::hint::black_box;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt};
use sluice_stages::yellowstone::{YellowstoneOptions, request};
use yellowstone_grpc_proto::geyser::geyser_client::GeyserClient;

/// The limit that Sluice has; tonic's own of 4 MiB is too low for blocks.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Subscribes, decodes `updates` updates and drops them.
///
/// # Errors
/// If the stream can't be had or ends early.
pub async fn run(url: &str, updates: u64) -> Result<()> {
    let client = GeyserClient::connect(url.to_owned()).await.context("can't connect")?;
    let request = request::subscribe(&YellowstoneOptions::new(url), None);
    let requests = stream::iter([request]).chain(stream::pending());
    let answer = client.max_decoding_message_size(MAX_MESSAGE_BYTES).subscribe(requests).await;
    let mut stream = answer.context("can't subscribe")?.into_inner();
    for _ in 0..updates {
        let update = stream.message().await?.context("the stream ended early")?;
        drop(black_box(update));
    }
    Ok(())
}
