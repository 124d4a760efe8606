//! Asks the API of a running pipeline, for `sluice top` and `sluice tap`.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::{Client, Response, Url};
use serde::de::DeserializeOwned;

/// Where the examples' API listens.
const DEFAULT_URL: &str = "http://127.0.0.1:3002";
/// An API on this machine answers at once, one elsewhere within a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which API is asked.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// The address of the pipeline's `api` sink.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    url: Url,
    /// The API's token, if it asks for one.
    #[arg(long, env = "SLUICE_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

/// A client of one API.
pub(super) struct Api {
    client: Client,
    url: Url,
    token: Option<String>,
}

impl Api {
    pub(super) fn new(args: ApiArgs) -> anyhow::Result<Self> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        Ok(Self { client, url: args.url, token: args.token })
    }

    /// What the resource at `path` answers; health says how it is with a 503, too.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        let response = self.open(path, &[]).await?;
        response.json().await.with_context(|| format!("{} is no API of this version of Sluice", self.url))
    }

    /// Begins to read the resource at `path`.
    pub(super) async fn open(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Response> {
        let mut url = self.url.clone();
        // Http urls have paths.
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} is no http url", self.url))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.client.get(url).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.with_context(|| {
            format!("no answer from {}; does the pipeline run, and has it an `api` sink there?", self.url)
        })?;
        let status = response.status();
        if status.is_success() || path.last() == Some(&"health") {
            return Ok(response);
        }
        let problem: serde_json::Value = response.json().await.unwrap_or_default();
        bail!("{}: {}", status, problem["detail"].as_str().unwrap_or("no details"))
    }
}
