//! `MAX_MEMORY_MB`, `MAX_CPU_PERCENT`.

use std::fs;
use std::time::Duration;

use super::{Text, calm, serve, until_slots};
use crate::support::{Process, until};

/// What the variable allows: the least that it can.
const LIMIT_BYTES: f64 = 16_777_216.0;

/// Threads that encode.
fn encoding_threads(process: &Process) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).expect("Linux");
    let names =
        tasks.map_while(Result::ok).filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("encode-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn max_memory_mb_bounds_what_frames_take_when_a_disk_stalls() {
    for (value, is_bounded) in [("16", true), ("", false)] {
        let served = serve(calm(1, Duration::from_millis(8))).await;
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let mut text = Text::new(&served);
        text.settings = "memory_limit = \"1GiB\"".to_owned();
        text.add_files(&out, 10);
        let run = text.run(folder.path(), &[("MAX_MEMORY_MB", value)]);
        // A file where the sink wants a folder, once it has looked at what was there.
        run.process.wait_for("dashboard at http://");
        until("the place to be free", || {
            fs::remove_dir_all(out.join("transactions")).ok();
            fs::write(out.join("transactions"), "").is_ok()
        });
        run.process.wait_for("commit failed");
        until_slots(&served, 600);
        let peak = run.metric("sluice_memory_peak_bytes", "").await;
        assert_eq!(peak <= LIMIT_BYTES, is_bounded, "{peak} bytes");
        assert!(peak > LIMIT_BYTES / 2.0, "{peak} bytes are no load");
        fs::remove_file(out.join("transactions")).expect("it is there");
        run.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn max_cpu_percent_is_the_share_of_processors_that_encode() {
    let served = serve(calm(1, Duration::from_millis(50))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let cores = std::thread::available_parallelism().expect("known").get();
    for (value, expected) in [("1", 1), ("100", cores)] {
        let run = Text::new(&served).run(folder.path(), &[("MAX_CPU_PERCENT", value)]);
        run.next_slot();
        assert_eq!(encoding_threads(&run.process), expected, "{value} of {cores}");
        run.stop();
    }
}
