//! What proving costs a pipeline at mainnet's pace; what it prints is told by `sluice_benches::audit`.

use std::process::ExitCode;

/// The allocator of the binary `sluice`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_benches::audit::main()
}
