//! The sink: takes its inbox empty at once, counts seconds, and owns the server.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sluice_stages::batch::Batch;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::silence::Silences;
use sluice_stages::stage::{Flow, Metric};
use sluice_stages::watch::Reported;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use super::options::ApiOptions;
use super::routes::stream::send_frame;
use super::server::{self, tls_acceptor};
use super::shared::Api;
use crate::history::HistoryReader;

/// How often streams are fed.
const TICK: Duration = Duration::from_secs(1);
/// How long connections may go on with what they are at once the pipeline has ended.
const GRACE: Duration = Duration::from_millis(250);

/// The sink, ready to run.
struct ApiSink {
    options: ApiOptions,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    silences: Silences,
    history: HistoryReader,
}

impl Component for ApiOptions {
    const KIND: &'static str = "api";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::AnyOf(&[Flow::Blocks, Flow::Samples, Flow::Alerts]);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "serves the REST API, the dashboard and the metrics of the pipeline";

    fn problems(&self) -> Vec<Problem> {
        self.found()
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let tls = self.tls.as_ref().map(tls_acceptor).transpose()?;
        let listener = TcpListener::bind(self.listen).map_err(|error| {
            BuildError::Other(format!(
                "can't listen on {}: {error}; give another `listen`, or end what uses the port",
                self.listen
            ))
        })?;
        listener
            .set_nonblocking(true)
            .map_err(|error| BuildError::Other(format!("can't listen on {}: {error}", self.listen)))?;
        let (silences, history) = (Silences::shared(context), HistoryReader::shared(context));
        Ok(Node::Sink(Box::new(ApiSink { options: self, listener, tls, silences, history })))
    }
}

impl Sink for ApiSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move { self.serve(inbox, context).await })
    }
}

impl ApiSink {
    async fn serve(self, inbox: Inbox, context: NodeContext) -> Result<(), NodeError> {
        let fatal = |error: std::io::Error| NodeError::Fatal(format!("can't listen: {error}"));
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(fatal)?;
        let address = listener.local_addr().map_err(fatal)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        tracing::info!(node = %context.name, "dashboard at {scheme}://{address}/performance");
        let api = Arc::new(Api::new(self.options, &context, self.silences, self.history));
        let server = server::serve(listener, self.tls, Arc::clone(&api));
        let feed = feed(&api, inbox, &context);
        tokio::pin!(server);
        tokio::select! {
            () = &mut server => return Err(NodeError::Fatal("the listener has ended".to_owned())),
            () = feed => {}
        }
        // What is being answered may end; streams are told to.
        api.closing.cancel();
        tokio::time::timeout(GRACE, server).await.ok();
        Ok(())
    }
}

/// Reads the inbox, the reports and the clock until the inbox ends.
async fn feed(api: &Api, mut inbox: Inbox, context: &NodeContext) {
    let mut reports = Some(api.watch.reports());
    let mut last_event = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = inbox.recv() => match received {
                Some((_, batch)) => on_batch(api, &batch),
                None => return,
            },
            report = next_report(&mut reports) => on_report(api, &report),
            _ = ticks.tick() => {
                on_tick(api, &mut last_event);
                context.metrics.show(|show| metrics(api, show));
            }
        }
    }
}

fn on_batch(api: &Api, batch: &Batch) {
    let mut live = api.live();
    batch.iter().for_each(|item| live.on_item(item));
}

fn on_report(api: &Api, report: &Reported) {
    api.live().on_report(report, &api.watch);
}

/// Counts a second, and feeds the streams if anybody reads them.
fn on_tick(api: &Api, last_event: &mut u64) {
    let now = api.now();
    api.live().on_tick(now, &api.watch);
    let after = std::mem::replace(last_event, api.live().events.newest());
    send_frame(api, after);
}

fn metrics(api: &Api, show: &mut dyn FnMut(Metric)) {
    show(Metric::new("api_streams", api.frames.receiver_count() as u64));
    show(Metric::new("api_discarded_readings_total", api.live().series.discarded));
}

/// The next report; never, once there are no more.
async fn next_report(reports: &mut Option<broadcast::Receiver<Reported>>) -> Reported {
    while let Some(open) = reports {
        match open.recv().await {
            Ok(report) => return report,
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events not shown"),
            Err(RecvError::Closed) => *reports = None,
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let options = ApiOptions { listen: address, ..ApiOptions::default() };
        let error = options.build(&mut BuildContext::new()).err().expect("in use").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("listen"), "{error}");
    }
}
