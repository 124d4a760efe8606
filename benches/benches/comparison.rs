//! Sluice beside a bare client; what it prints and how it is run is told by the package's documentation.

use std::process::ExitCode;

/// The allocator of the binary `sluice`, for all contenders.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_benches::comparison::main()
}
