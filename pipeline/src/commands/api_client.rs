//! Asks the API of a running pipeline, for `sluice top`, `sluice tap` and `sluice silence`.

use std::convert::Infallible;
use std::env::{self, VarError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_config::Secret;

/// Where the examples' API listens.
const DEFAULT_URL: &str = "http://127.0.0.1:3002";
/// The variable that holds the API's token, if no other is named.
const TOKEN_VARIABLE: &str = "SLUICE_API_TOKEN";
/// An API on this machine answers at once, one elsewhere within a round trip or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which API is asked.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// The address of the pipeline's `api` sink.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    url: Url,
    /// The variable that holds the API's token, if it asks for one. Default SLUICE_API_TOKEN.
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
    /// The token itself. Everybody on this machine can read the arguments of a process: better use a variable.
    #[arg(long, value_name = "TOKEN", value_parser = |text: &str| Ok::<_, Infallible>(Secret::new(text)), conflicts_with = "token_env")]
    token: Option<Secret>,
}

impl ApiArgs {
    fn token(&self) -> anyhow::Result<Option<Secret>> {
        if self.token.is_some() {
            return Ok(self.token.clone());
        }
        let name = self.token_env.as_deref().unwrap_or(TOKEN_VARIABLE);
        match env::var(name) {
            Ok(token) => Ok(Some(Secret::new(token)).filter(|token| !token.expose().is_empty())),
            Err(VarError::NotPresent) if self.token_env.is_none() => Ok(None),
            Err(VarError::NotPresent) => {
                bail!("the variable {name} is not set; `--token-env` names one that is")
            }
            Err(VarError::NotUnicode(_)) => bail!("the variable {name} holds no text"),
        }
    }
}

/// A client of one API.
pub(super) struct Api {
    client: Client,
    url: Url,
    token: Option<Secret>,
}

impl Api {
    pub(super) fn new(args: ApiArgs) -> anyhow::Result<Self> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        let token = args.token()?;
        Ok(Self { client, url: args.url, token })
    }

    /// What the resource at `path` answers; health says how it is with a 503, too.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.read(self.open(path, &[]).await?).await
    }

    /// What comes of `body` at `path`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path)?.json(body);
        self.read(self.send(request, false).await?).await
    }

    /// What becomes of the resource at `path`, which is to be no more.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        let request = self.request(Method::DELETE, path)?;
        self.read(self.send(request, false).await?).await
    }

    /// Begins to read the resource at `path`.
    pub(super) async fn open(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Response> {
        let request = self.request(Method::GET, path)?.query(query);
        self.send(request, path.last() == Some(&"health")).await
    }

    fn request(&self, method: Method, path: &[&str]) -> anyhow::Result<RequestBuilder> {
        let mut url = self.url.clone();
        // Http urls have paths.
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} is no http url", self.url))?
            .pop_if_empty()
            .extend(path);
        let request = self.client.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder, any_status: bool) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| {
            format!("no answer from {}; does the pipeline run, and has it an `api` sink there?", self.url)
        })?;
        let status = response.status();
        if status.is_success() || any_status {
            return Ok(response);
        }
        let problem: serde_json::Value = response.json().await.unwrap_or_default();
        bail!("{}: {}", status, problem["detail"].as_str().unwrap_or("no details"))
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> anyhow::Result<T> {
        response.json().await.with_context(|| format!("{} is no API of this version of Sluice", self.url))
    }
}
