//! The tasks of a webhook.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sluice_stages::alert::AlertItem;
use sluice_stages::batch::{Batch, Item};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::slot::{Hash, Slot};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::WebhookOptions;
use super::compose::{AlertFormat, Composer};
use super::http::{self, HttpReceiver};
use super::intake::{self, IntakeQueue};
use super::lane::{RecordLane, lock};
use crate::delivery::alert_record::Teller;
use crate::delivery::batches::Batches;
use crate::delivery::counters::Counters;
use crate::delivery::courier::{Courier, Service, expire_after};
use crate::delivery::cursor::{Cursor, CursorFile, Position};
use crate::delivery::dead_letters::DeadLetters;
use crate::delivery::encoding::Encoding;
use crate::delivery::filters::Filters;
use crate::delivery::notices::{self, NoticeQueue};
use crate::delivery::record::{Lines, RecordKind, Recorder};
use crate::delivery::record_message::{BegunBlocks, Mark, RecordMessage};
use crate::delivery::signing::Signer;
use crate::delivery::state_folder::StateFolder;
use crate::delivery::template::Template;
use crate::delivery::waiting::{Kept, Waiting};
use crate::delivery::waiting_file::WaitingFile;

/// Messages that wait for the courier: enough to keep it busy while the next one is put together.
const QUEUED_MESSAGES: usize = 4;

/// The sink, ready to run.
pub(super) struct WebhookSink {
    options: WebhookOptions,
    receiver: HttpReceiver,
    template: Option<Template>,
    state: Option<WebhookState>,
}

/// What the sink keeps in its state folder, and what was there when it was built.
pub(super) struct WebhookState {
    pub(super) file: CursorFile,
    pub(super) position: Option<Position>,
    pub(super) folder: StateFolder,
    pub(super) letters: DeadLetters,
}

impl WebhookSink {
    /// A sink with these options, which have no problems.
    pub(super) fn try_new(
        options: WebhookOptions,
        client: reqwest::Client,
        state: Option<WebhookState>,
    ) -> Result<Self, String> {
        let url = options.parsed_url().ok_or("the url is none")?;
        let receiver = HttpReceiver {
            client,
            place: url.origin().ascii_serialization(),
            url,
            headers: http::headers(&options.headers).map_err(|name| format!("`{name}` is not a header"))?,
            signer: Signer::try_new(&options.signing_secrets).map_err(|(_, error)| error.to_string())?,
            timeout: options.retry.timeout,
        };
        let template = options.template.as_deref().map(Template::try_new).transpose()?;
        Ok(Self { options, receiver, template, state })
    }
}

impl Sink for WebhookSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move { Shell::start(*self, context).run(inbox).await })
    }
}

/// Where alerts go.
enum AlertLane {
    Notices(NoticeQueue),
    Intake(IntakeQueue),
}

/// The task that reads the inbox, and its ends of the others.
struct Shell {
    options: WebhookOptions,
    context: NodeContext,
    filters: Filters,
    encoding: Encoding,
    batches: Batches,
    cursor: Arc<Mutex<Cursor>>,
    messages: mpsc::Sender<RecordMessage>,
    alerts: AlertLane,
    counters: Arc<Counters>,
    expired: CancellationToken,
    /// Couriers.
    tasks: JoinSet<()>,
    /// What ends with this task: the display of the counters, the watch on the time.
    attendants: JoinSet<()>,
    /// No other process writes to the state folder.
    _lock: Option<File>,
}

impl Shell {
    fn start(sink: WebhookSink, context: NodeContext) -> Self {
        let WebhookSink { options, receiver, template, state } = sink;
        let (mut file, mut position, mut letters, mut waiting, mut lock) = (None, None, None, None, None);
        if let Some(WebhookState { file: cursor, position: at, folder, letters: dead }) = state {
            (file, position, letters) = (Some(cursor), at, Some(dead));
            (waiting, lock) = (Some((folder.waiting_file, folder.waiting)), Some(folder.lock));
        }
        let service = Service::new(&context, Arc::new(receiver), &options.retry, letters);
        let (counters, expired) = (Arc::clone(&service.counters), service.expired.clone());
        let (messages, queue) = mpsc::channel(QUEUED_MESSAGES);
        let cursor = Arc::new(Mutex::new(Cursor::resume(position.as_ref())));
        let next_slot = position.as_ref().map_or(0, |position| position.next_slot);
        counters.next_slot.store(next_slot, Ordering::Relaxed);
        let begun = BegunBlocks::new(position.as_ref().map(Position::begun_then).unwrap_or_default());
        let mut tasks = JoinSet::new();
        let lane = RecordLane {
            node: Arc::clone(&service.node),
            queue,
            courier: Courier::new(service.clone(), options.give_up_after),
            cursor: Arc::clone(&cursor),
            file,
            begun: position.as_ref().map(|position| position.begun.clone()).unwrap_or_default(),
            stored: position,
            counters: Arc::clone(&counters),
        };
        tasks.spawn(lane.run());
        let alerts = start_alerts(&options, template, waiting, &context, &service, &mut tasks);
        let attendants = service.attend(&context, options.drain_timeout);
        let filters = Filters::new(&options.filters);
        let encoding = Encoding::new(Recorder::new(&options.records, filters.clone()));
        let batches = Batches::new(options.limits(), begun);
        Self {
            options,
            context,
            filters,
            encoding,
            batches,
            cursor,
            messages,
            alerts,
            counters,
            expired,
            tasks,
            attendants,
            _lock: lock,
        }
    }

    async fn run(mut self, mut inbox: Inbox) -> Result<(), NodeError> {
        loop {
            let due = self.batches.due();
            let now = self.context.clock.now();
            let waited = async {
                match due {
                    Some(due) => tokio::time::sleep(due.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = inbox.recv() => match received {
                    Some((_, batch)) => self.accept(batch).await?,
                    None => break,
                },
                () = waited => {
                    let message = self.batches.take();
                    self.send(message).await?;
                }
            }
        }
        let message = self.batches.take();
        self.send(message).await?;
        self.end().await
    }

    async fn accept(&mut self, batch: Batch) -> Result<(), NodeError> {
        for item in batch {
            match item {
                Item::Begin(slot) => self.begin(slot),
                Item::Block(block) => self.accept_block(block).await?,
                Item::Sample(sample) => {
                    let mut lines = Lines::default();
                    if let Some(recorder) = self.encoding.recorder() {
                        recorder.record_sample(&sample, &mut lines);
                    }
                    self.push(&lines, None).await?;
                }
                Item::Alert(alert) => self.accept_alert(&alert),
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&self, slot: Slot) {
        if lock(&self.cursor).begin(slot) {
            let node = &self.context.name;
            tracing::error!(
                node,
                slot,
                "the pipeline begins behind what was delivered; the slots between are not delivered"
            );
        }
    }

    async fn accept_block(&mut self, block: Arc<sluice_stages::block::Block>) -> Result<(), NodeError> {
        let makes = self.encoding.recorder().is_some_and(Recorder::makes_any_of_blocks);
        if !makes || !lock(&self.cursor).accept(block.slot(), block.blockhash()) {
            return Ok(());
        }
        let mark = Mark { parent_slot: block.meta.parent_slot, slot: block.slot() };
        let blockhash = block.blockhash();
        let lines = self.encoding.record(block).await?;
        self.push(&lines, Some((mark, blockhash))).await
    }

    fn accept_alert(&self, alert: &AlertItem) {
        if !self.options.records.contains(&RecordKind::Alerts) {
            return;
        }
        match (&self.alerts, alert) {
            (AlertLane::Notices(queue), AlertItem::Notice(notice)) => {
                if let Some(notice) = self.filters.narrow(notice) {
                    queue.push(notice.into_owned());
                }
            }
            (AlertLane::Intake(queue), AlertItem::Changed(alert)) => {
                if self.filters.matches_severity(alert.severity) {
                    queue.push(alert.clone());
                }
            }
            (AlertLane::Intake(queue), AlertItem::Measured(alert)) => queue.refresh(alert),
            (AlertLane::Notices(_), AlertItem::Changed(_) | AlertItem::Measured(_))
            | (AlertLane::Intake(_), AlertItem::Notice(_)) => {}
        }
    }

    async fn push(&mut self, lines: &Lines, block: Option<(Mark, Hash)>) -> Result<(), NodeError> {
        let mut messages = Vec::new();
        self.batches.push(self.context.clock.now(), lines, block, &mut messages);
        for message in messages {
            self.send(Some(message)).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Option<RecordMessage>) -> Result<(), NodeError> {
        let Some(message) = message else { return Ok(()) };
        self.messages
            .send(message)
            .await
            .map_err(|_| NodeError::Fatal("the courier ended before its time".to_owned()))
    }

    /// Waits for the couriers, for as long as the drain may take.
    async fn end(self) -> Result<(), NodeError> {
        let Self { options, context, messages, alerts, counters, expired, mut tasks, mut attendants, .. } =
            self;
        drop((messages, alerts));
        attendants.spawn(expire_after(options.drain_timeout, expired));
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|_| NodeError::Fatal("a courier panicked".to_owned()))?;
        }
        context.metrics.show(|show| counters.metrics(show));
        Ok(())
    }
}

fn start_alerts(
    options: &WebhookOptions,
    template: Option<Template>,
    waiting: Option<(WaitingFile, Kept)>,
    context: &NodeContext,
    service: &Service,
    tasks: &mut JoinSet<()>,
) -> AlertLane {
    let teller = Teller { pipeline: context.watch.pipeline().to_owned(), channel: context.name.clone() };
    let courier = Courier::new(service.clone(), Some(options.notice_give_up_after));
    if options.format == AlertFormat::AlertmanagerV2 && template.is_none() {
        return AlertLane::Intake(intake::start(teller, options.external_url.clone(), courier, tasks));
    }
    let (file, kept) = waiting.unzip();
    let most = Some(options.max_notices_per_minute);
    let waiting = Waiting::new(&context.name, options.max_queued_notices, most, kept.unwrap_or_default());
    let composer = Composer {
        format: options.format,
        template,
        content_type: options.content_type.clone(),
        teller,
        external_url: options.external_url.clone(),
    };
    AlertLane::Notices(notices::start(waiting, file, Arc::new(composer), courier, tasks))
}
