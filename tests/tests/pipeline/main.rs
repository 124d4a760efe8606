//! Whole pipelines over real sockets: a simulated cluster serves on the loopback interface, a pipeline is declared in
//! TOML, and what is in the folder afterwards is all that counts.
//!
//! One binary, so that it is linked once; a file for each promise or danger.

mod backfill;
mod delivery;
mod failover;
mod hostile;
mod lies;
mod oracle;
mod real_blocks;
mod recording;
mod replay;
mod reproducible;
mod rows;
mod stop;
mod support;
mod victim;
mod watched;
