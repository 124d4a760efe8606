//! The binary as its users meet it: a process that is started, signalled, killed, and judged by its exit code, its log
//! and its folder.

mod alerts;
mod backpressure;
mod environment;
mod kill;
mod prove;
mod recording;
mod secrets;
mod signals;
mod silences;
mod spool;
mod support;
