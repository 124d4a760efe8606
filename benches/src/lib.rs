//! What an update costs: Sluice beside a bare client, and its hot paths one by one.
//!
//! ```text
//!  cargo bench                                  all of it, some three minutes
//!  cargo bench --bench comparison               Sluice and a bare client, interleaved
//!  cargo bench --bench comparison -- --rounds 15 --slots 217 --only bare,parquet
//!  cargo bench --bench comparison -- --only parquet,monitored,watched --slots 541
//!                                               what watching a pipeline costs it
//!  cargo bench --bench micro -- dedupe          the hot paths whose name has "dedupe" in it
//!  cargo bench --bench proof                    a slot's proof at mainnet's number of hashes, beside Agave's
//!  cargo bench --bench audit                    what proving costs a pipeline at mainnet's pace
//! ```
//!
//! # The comparison
//!
//! ```text
//!  server process ──┬─ loopback ─→ bare      GeyserClient of yellowstone-grpc-proto: decodes and drops
//!   (all frames     ├─ loopback ─→ ingest-1  source, merge, dedupe, gap detector, commitment, tally
//!    encoded once)  ├─ loopback ⇉ ingest-3   the same with three endpoints
//!                   └─ loopback ─→ parquet   source, …, commitment, files
//! ```
//!
//! The [`feed`] is what a real server sends for slots of real mainnet transactions, each under a signature of its own,
//! as many in each slot as mainnet had in February 2026, with the statuses and block metas that make slots final. It is
//! encoded before the first round, so the [`server`] only copies bytes. Each client is a process of its own, all of the
//! same binary with the same allocator and the same runtime, and ends when it has seen everything. A round runs them one
//! after the other, so a machine that becomes slower does so for all.
//!
//! What is printed, over all rounds, as median and (least – most):
//!
//! * *updates per CPU-second*: updates served by one endpoint, by the processor time of the client's process from its
//!   start to its end, user and system. The server's is not in it. Time on the wall says little here: server and client
//!   share the cores.
//! * *ratio to bare*: of the same round.
//! * *peak memory*: the highest resident set of the process (`VmHWM`).
//! * *rows*: every transaction that came out is compared with what was served, by slot, index and signature
//!   ([`tally`]); files are read back for that. A round with a row too few or too many is `LOST`, and whoever had one
//!   has no score at all. The bare client only counts.
//!
//! Files are made of whole commit ranges of [`feed::COMMIT_SLOTS`] slots; the last slot of the feed only proves that
//! the range before it is whole.
//!
//! # What watching costs
//!
//! `monitored` is `parquet` with a `monitor`, the default rules of an `alert_evaluator`, a `history` in SQLite, and an
//! `api` that takes every block in, its stream read by one client as a dashboard does and a tap on the node that all
//! updates pass. `watched` has a thousand clients on its stream. The readers are a process of their own; what they read
//! is counted, and a round in which one of them misses seconds fails. Beside the processor time the time on the wall is
//! printed, in which readers and server have their share of the cores.
//!
//! # Profiling
//!
//! `--only ingest-1 --rounds 1 --perf record.data` runs each client under `perf record`; read it with `perf report`.

pub mod audit;
pub mod bare;
pub mod comparison;
pub mod contender;
pub mod feed;
pub mod pipeline;
pub mod read_back;
pub mod readers;
pub mod report;
pub mod server;
pub mod sink_run;
pub mod tally;
pub mod usage;
