//! Clients that mean harm, or know no better.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_config::secret::Secret;
use sluice_stages::batch::Item;
use sluice_stages::sample::{Reading, Sample};
use sluice_stages::slot::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::TOKEN;
use super::served::{Answer, Served, parse};
use crate::api::openapi::document;
use crate::api::options::{ApiOptions, TlsFiles};

/// Short enough to wait for, long enough for a request on a busy machine.
const TIMEOUT: Duration = Duration::from_millis(400);
const JSON: (&str, &str) = ("Content-Type", "application/json");
const STREAM: &str = "GET /api/v1/stream?topics=metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Every operation of the description: path, method, what is said of it.
fn operations(has_token: bool) -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(document(has_token)).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let operations = item.as_object().expect("operations").iter();
        operations
            .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// `path` with something in the place of its parameters.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "7" } else { part }).collect::<Vec<_>>().join("/")
}

fn assert_problem(answer: &Answer, statuses: &[u16], what: &str) {
    assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    assert_eq!(answer.json()["status"], json!(answer.status), "{what}");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}");
}

async fn begin(served: &Served, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.expect("listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

/// The status line of what comes.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    std::str::from_utf8(&head[9..]).ok().and_then(|status| status.parse().ok()).expect("a status")
}

async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the connection ends in order");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn every_parameter_of_every_route_refuses_what_it_is_not() {
    let served = Served::start(ApiOptions { burst: 100_000, ..ApiOptions::default() });
    let mut tried = 0;
    for (path, method, operation) in operations(false) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
            let is_number = schema["type"].to_string().contains("integer");
            let wrong = match (is_number, &schema["maxLength"], parameter["in"].as_str()) {
                (true, ..) => {
                    vec!["x", "-1", "1.5", "1e3", "", "%00", "9007199254740992", "18446744073709551616"]
                }
                (false, Value::Null, Some("query")) => vec!["x", "", "%00", "%ff"],
                (false, _, Some("query")) => vec![],
                _ => vec!["%ff", "%00", "..%2f..%2fetc%2fpasswd", "'%20or%201=1"],
            };
            let too_long = "y".repeat(schema["maxLength"].as_u64().unwrap_or(0) as usize + 1);
            let in_query = parameter["in"] == "query";
            let long = (in_query && !schema["maxLength"].is_null()).then_some(too_long.as_str());
            for value in wrong.into_iter().chain(long) {
                let asked = if in_query {
                    format!("{}?{name}={value}", filled(&path))
                } else {
                    path.replace(&format!("{{{name}}}"), value)
                };
                let answer = served.send(&method, &asked, &[], "").await;
                assert_problem(&answer, &[400, 404], &format!("{method} {asked}"));
                tried += 1;
            }
        }
        let unknown = format!("{}?no_such_parameter=1", filled(&path));
        let headers = if method == "POST" { vec![JSON] } else { vec![] };
        assert_problem(&served.send(&method, &unknown, &headers, "{}").await, &[400, 404], &unknown);
    }
    assert!(tried > 100, "only {tried} were tried");
    served.end().await;
}

#[tokio::test]
async fn nothing_but_what_is_said_to_be_open_answers_without_the_token() {
    let options = ApiOptions { token: Some(Secret::new(TOKEN)), burst: 10_000, ..ApiOptions::default() };
    let served = Served::start(options);
    let wrong = format!("Bearer {}", "x".repeat(TOKEN.len()));
    let longer = format!("Bearer {TOKEN}0");
    let credentials =
        ["", "Bearer", "Bearer ", "Basic dTpw", TOKEN, wrong.as_str(), longer.as_str(), "Bearer \u{ff}"];
    for (path, method, operation) in operations(true) {
        let is_open = operation.get("security").is_some();
        for value in credentials {
            let headers: &[_] = if value.is_empty() { &[] } else { &[("Authorization", value)] };
            let answer = served.send(&method, &filled(&path), headers, "").await;
            let what = format!("{method} {path} with `{value}`");
            if is_open {
                assert_eq!(answer.status, 200, "{what}");
            } else {
                assert_problem(&answer, &[401], &what);
                assert!(
                    answer.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")),
                    "{what}"
                );
            }
        }
    }
    assert_problem(
        &served.get("/api/v1/nowhere").await,
        &[401],
        "what there is and isn't is not told either",
    );
    served.end().await;
}

#[tokio::test]
async fn no_name_but_this_machines_own_reaches_any_route() {
    let served =
        Served::start(ApiOptions { allowed_hosts: vec!["sluice.lan".to_owned()], ..ApiOptions::default() });
    for (path, method, _) in operations(false) {
        for host in
            ["evil.example", "evil.example:3002", "127.0.0.1.evil.example", "localhost.evil.example", ""]
        {
            let answer = served.send(&method, &filled(&path), &[("Host", host)], "").await;
            assert_problem(&answer, &[421], &format!("{method} {path} as `{host}`"));
        }
    }
    for host in ["localhost:3002", "127.0.0.1:1", "[::1]:3002", "SLUICE.lan:3002"] {
        assert_eq!(served.send("GET", "/api/v1/graph", &[("Host", host)], "").await.status, 200, "{host}");
    }
    let mut old = begin(&served, "GET /api/v1/graph HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&mut old).await, 421, "a request without a host has no name either");
    served.end().await;
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let served = Served::start(ApiOptions::default());
    let body = json!({
        "matchers": [{"name": "rule", "value": "lag"}],
        "duration_seconds": 60, "created_by": "a page", "comment": "clicked",
    })
    .to_string();
    let foreign = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "http://evil.example"),
        ("Origin", "http://localhost.evil.example"),
        ("Origin", "null"),
    ];
    for header in foreign {
        for (method, path) in [("POST", "/api/v1/silences"), ("DELETE", "/api/v1/silences/x")] {
            let answer = served.send(method, path, &[header, JSON], &body).await;
            assert_problem(&answer, &[403], &format!("{method} from {header:?}"));
        }
        assert_eq!(
            served.send("GET", "/performance", &[header], "").await.status,
            200,
            "a link may lead here"
        );
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let answer = served.send("POST", "/api/v1/silences", &[("Content-Type", kind)], &body).await;
        assert_problem(&answer, &[415], "what a form can send without being asked");
    }
    let asked = served.send("OPTIONS", "/api/v1/silences", &[foreign[2]], "").await;
    assert_problem(&asked, &[405], "a preflight");
    assert_eq!(asked.header("access-control-allow-origin"), None);
    assert_eq!(served.get("/api/v1/silences").await.json()["silences"], json!([]));
    for own in [("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost")] {
        assert_eq!(served.send("POST", "/api/v1/silences", &[own, JSON], &body).await.status, 201, "{own:?}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_body_is_bounded_whether_its_length_is_told_or_not() {
    let served = Served::start(ApiOptions { max_body_bytes: 1_000, ..ApiOptions::default() });
    let head = "POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let told = begin(&served, &format!("{head}Content-Length: 99999999999\r\n\r\n[")).await;
    assert_problem(&parse(&rest(told).await), &[413], "a length that is told");
    let chunks = format!("3e8\r\n{}\r\n", " ".repeat(1_000)).repeat(2);
    let untold = begin(&served, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")).await;
    assert_problem(&parse(&rest(untold).await), &[413], "a length that is not told");
    let deep = format!("{{\"matchers\":{}", "[".repeat(900));
    assert_problem(
        &served.send("POST", "/api/v1/silences", &[JSON], &deep).await,
        &[400, 422],
        "a deep body",
    );
    served.end().await;
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let served = Served::start(ApiOptions::default());
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    let large = format!("GET / HTTP/1.1\r\nX-A: {}\r\n\r\n", "b".repeat(100_000));
    let two_lengths = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for garbage in
        ["\u{16}\u{3}\u{1}\r\n\r\n", "GET\r\n\r\n", preface, two_lengths, many.as_str(), large.as_str()]
    {
        let mut stream = begin(&served, garbage).await;
        let mut bytes = Vec::new();
        // A reset is an end, too: more may have been sent than was read.
        stream.read_to_end(&mut bytes).await.ok();
        let answer = String::from_utf8_lossy(&bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(served.get("/api/v1/graph").await.status, 200);
    served.end().await;
}

#[tokio::test]
async fn a_client_that_dribbles_is_let_go() {
    let served = Served::start(ApiOptions { request_timeout: TIMEOUT, ..ApiOptions::default() });
    let mut dribble = begin(&served, "GET /api/v1/gr").await;
    let sent = async {
        while dribble.write_all(b"a").await.is_ok() {
            tokio::time::sleep(TIMEOUT / 20).await;
        }
    };
    tokio::time::timeout(TIMEOUT * 20, sent).await.expect("headers can't take for ever");
    let mut idle = begin(&served, "GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&mut idle).await, 200);
    tokio::time::timeout(TIMEOUT * 20, rest(idle)).await.expect("an idle connection is closed");
    let head = "POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let slow = begin(&served, &format!("{head}Connection: close\r\nContent-Length: 100\r\n\r\n{{")).await;
    assert_problem(&parse(&rest(slow).await), &[408], "a body that never ends");
    served.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_stream_makes_room_and_holds_nobody_up() {
    let options = ApiOptions { max_streams: 1, request_timeout: TIMEOUT / 4, ..ApiOptions::default() };
    let served = Served::start(options);
    let readings =
        (0..20_000).map(|at| Reading::new("lag_slots", 1.0).with("endpoint", format!("{at:0>100}")));
    let sample = Sample { at: Timestamp(1_000_000), readings: readings.collect() };
    served.feed.send(vec![Item::Sample(Arc::new(sample))]).await.expect("open");
    served.until("/api/v1/history", |names| names["metrics"] == json!(["lag_slots"])).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("small");
    let mut deaf = socket.connect(served.address).await.expect("listens");
    deaf.write_all(STREAM.as_bytes()).await.expect("sent");
    assert_eq!(status(&mut deaf).await, 200);
    assert_eq!(served.get("/api/v1/stream").await.status, 503, "there is room for one");
    let another = async {
        loop {
            let mut stream = begin(&served, STREAM).await;
            if status(&mut stream).await == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), another).await.expect("the deaf one is let go");
    let feeding = served.feed.send(vec![super::alert()]);
    tokio::time::timeout(Duration::from_secs(10), feeding).await.expect("nothing waits").expect("open");
    served.end().await;
}

#[tokio::test]
async fn a_stream_that_is_left_makes_room_at_once() {
    let served = Served::start(ApiOptions { max_streams: 2, ..ApiOptions::default() });
    for _ in 0..50 {
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = begin(&served, STREAM).await;
            while status(&mut stream).await != 200 {
                stream = begin(&served, STREAM).await;
            }
            streams.push(stream);
        }
    }
    served.end().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let options = ApiOptions { max_connections: 1, request_timeout: TIMEOUT, ..ApiOptions::default() };
    let served = Served::start(options);
    let mut silent = TcpStream::connect(served.address).await.expect("listens");
    let (answer, ended) = tokio::join!(served.get("/api/v1/graph"), silent.read_u8());
    assert!(ended.is_err(), "who says nothing is let go");
    assert_eq!(answer.status, 200);
    served.end().await;
}

#[tokio::test]
async fn with_tls_nothing_is_served_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    let options = ApiOptions { tls: Some(files), token: Some(Secret::new(TOKEN)), ..ApiOptions::default() };
    let served = Served::start(ApiOptions { request_timeout: TIMEOUT, ..options });

    let plain =
        begin(&served, "GET /performance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(!rest(plain).await.contains("HTTP/1.1 200"), "no page without TLS");
    let mut silent = TcpStream::connect(served.address).await.expect("listens");
    assert!(silent.read_u8().await.is_err(), "a handshake can't take for ever");

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    for (authorization, expected) in
        [(String::new(), 401), (format!("Authorization: Bearer {TOKEN}\r\n"), 200)]
    {
        let stream = TcpStream::connect(served.address).await.expect("listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector.connect(name, stream).await.expect("a handshake");
        let request = format!("GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        assert_eq!(status(&mut stream).await, expected);
    }
    served.end().await;
}
