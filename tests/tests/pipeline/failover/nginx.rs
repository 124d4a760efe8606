//! Endpoints behind nginx, an HTTP/2 and TLS server that nobody here wrote: it is reloaded and killed, and cuts off what is
//! silent or old, as proxies of providers do. Skipped where there is no nginx or openssl.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;

use super::{SLOTS, TAIL_SLOTS};
use crate::support::{Lossless, assert_same, audited, files, run_until, serve, small_ledger, until};

/// Time of a slot: slow enough for several reloads, which take nginx some tenths of a second.
const SLOT_TIME: Duration = Duration::from_millis(60);
/// Slots of a file.
const COMMIT_SLOTS: u64 = 50;
/// Slots between two things that happen to an nginx.
const PERIOD_SLOTS: u64 = 30;

/// An nginx in front of one endpoint.
struct Nginx<'f> {
    folder: &'f Path,
    url: String,
    child: Option<Child>,
}

impl<'f> Nginx<'f> {
    /// Whether this machine has what it takes.
    fn is_there() -> bool {
        let answers = |program: &str, argument: &str| {
            let mut command = Command::new(program);
            command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        answers("nginx", "-v") && answers("openssl", "version")
    }

    /// A folder with its configuration and a certificate of its own.
    fn new(folder: &'f Path, target: &str) -> Self {
        fs::create_dir_all(folder).expect("writable");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("loopback has ports").local_addr().expect("bound").port();
        let target = target.trim_start_matches("http://");
        let root = folder.display();
        let mut text = String::new();
        write!(
            text,
            "daemon off;\nmaster_process on;\nworker_processes 1;\nworker_shutdown_timeout 1s;\nuser root;\n\
             pid {root}/pid;\nerror_log {root}/error.log warn;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {root}/body;\nproxy_temp_path {root}/proxy;\n\
             fastcgi_temp_path {root}/fastcgi;\nuwsgi_temp_path {root}/uwsgi;\nscgi_temp_path {root}/scgi;\n\
             server {{\nlisten 127.0.0.1:{port} ssl http2;\n\
             ssl_certificate {root}/certificate.pem;\nssl_certificate_key {root}/key.pem;\n\
             keepalive_requests 20;\nkeepalive_time 4s;\nclient_max_body_size 0;\nclient_body_timeout 3s;\n\
             location / {{\ngrpc_pass grpc://{target};\ngrpc_read_timeout 2s;\ngrpc_send_timeout 2s;\n}}\n}}\n}}\n"
        )
        .expect("a string takes everything");
        fs::write(folder.join("nginx.conf"), text).expect("writable");
        let request = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n[name]\nCN = localhost\n\
                       [extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
        fs::write(folder.join("request.conf"), request).expect("writable");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-config"]).arg(folder.join("request.conf"));
        openssl.arg("-keyout").arg(folder.join("key.pem")).arg("-out").arg(folder.join("certificate.pem"));
        let made = openssl.stderr(Stdio::null()).status().expect("it was there");
        assert!(made.success(), "openssl makes a certificate");
        let mut nginx = Self { folder, url: format!("https://localhost:{port}"), child: None };
        nginx.start();
        nginx
    }

    fn start(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder).arg("-c").arg(self.folder.join("nginx.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("it was there"));
    }

    /// New workers take over; the old ones say goodbye to their clients.
    fn reload(&self) {
        let Some(child) = &self.child else { return };
        let sent = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "it runs");
    }

    /// Ends the whole of it at once, its workers first.
    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let workers =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        child.kill().ok();
        child.wait().ok();
        for worker in workers.split_whitespace() {
            Command::new("kill").args(["-KILL", worker]).stderr(Stdio::null()).status().ok();
        }
    }
}

impl Drop for Nginx<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The files of a run with endpoints behind these urls; `look` is called with the newest slot.
async fn files_with(
    folder: &Path,
    certificates: Option<&Path>,
    served: &sluice_cluster::server::Running,
    urls: Vec<String>,
    mut look: impl FnMut(u64),
) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut pipeline = Lossless::new(served, folder, COMMIT_SLOTS);
    pipeline.urls = urls;
    let ca = certificates.map(|path| format!("tls = {{ ca_file = \"{}\" }}\n", path.display()));
    pipeline.source = format!(
        "transactions = true\nentries = true\naccounts = true\nconnect_timeout = \"1s\"\n{}",
        ca.unwrap_or_default()
    );
    let last = pipeline.start_slot + SLOTS - 1;
    let (_, result) = run_until(pipeline.plan(), |watch| {
        look(watch.sum("tip_slot").saturating_sub(pipeline.start_slot));
        pipeline.is_committed(last)
    })
    .await;
    result.expect("drained without an error");
    assert_eq!(audited(folder).slots, SLOTS);
    files(folder)
}

async fn cluster() -> sluice_cluster::server::Running {
    let config = Config {
        endpoints: 2,
        faults: Profile::None,
        slot_time: SLOT_TIME,
        finalized_after: 8,
        mixed_servers: false,
        ..Config::default()
    };
    serve(small_ledger(SLOTS + TAIL_SLOTS), config, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_in_front_that_is_reloaded_killed_and_impatient_changes_no_file() {
    if !Nginx::is_there() {
        return eprintln!("skipped: there is no nginx or no openssl here");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let served = cluster().await;
    let urls = served.grpc_urls().to_vec();
    let quiet = files_with(&folder.path().join("quiet"), None, &served, urls, |_| ()).await;
    served.shutdown().await.expect("the cluster served to its end");

    let served = cluster().await;
    let places = [folder.path().join("first"), folder.path().join("second")];
    let mut proxies: Vec<Nginx<'_>> =
        places.iter().zip(served.grpc_urls()).map(|(place, url)| Nginx::new(place, url)).collect();
    let certificates = folder.path().join("certificates.pem");
    let read = |place: &std::path::PathBuf| fs::read_to_string(place.join("certificate.pem")).expect("made");
    fs::write(&certificates, places.each_ref().map(read).concat()).expect("writable");
    let listens =
        |nginx: &Nginx<'_>| std::net::TcpStream::connect(nginx.url.trim_start_matches("https://")).is_ok();
    until("both to listen", None, || proxies.iter().all(listens)).await;
    let urls = proxies.iter().map(|nginx| nginx.url.clone()).collect();
    let (mut next, mut turn) = (PERIOD_SLOTS, 0);
    let stormy = files_with(&folder.path().join("stormy"), Some(&certificates), &served, urls, |slot| {
        if slot < next {
            return;
        }
        next += PERIOD_SLOTS;
        turn += 1;
        let place = turn % 2;
        match turn {
            // One at a time; a killed one comes back a period later.
            3 | 6 => proxies[place].kill(),
            4 | 7 => {
                proxies[1 - place].start();
                proxies[place].reload();
            }
            _ => proxies[place].reload(),
        }
    })
    .await;
    assert!(turn > 4, "{turn} things happened");
    drop(proxies);
    served.shutdown().await.expect("the cluster served to its end");
    assert_same(&quiet, &stormy, "behind nginx");
}
