//! What Sluice is made of between the sockets and the sinks: updates, frames and the wire scan; sources; and the pure
//! stages merge, dedupe, gap detector, recovery, commitment, batcher and metrics tap.

pub mod batch;
pub mod block;
pub mod budget;
pub mod component;
pub mod edge;
pub mod frame;
pub mod node;
pub mod slot;
pub mod stage;
pub mod transaction;
pub mod wire;
pub mod yellowstone;
