//! The Yellowstone source, replays and RPC against servers on the loopback interface.

mod cluster;
mod scripted;
mod support;
