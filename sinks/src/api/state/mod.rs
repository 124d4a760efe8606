//! What the API knows beside what the [`Watch`](sluice_stages::watch::Watch) shows: recent slots, transactions, series,
//! alerts and events. Pure and bounded; the sink feeds it, routes read it under one short lock.

mod alerts;
mod events;
mod progress;
mod rates;
mod series;
mod slots;
mod transactions;

use sluice_stages::alert::AlertItem;
use sluice_stages::batch::Item;
use sluice_stages::slot::Timestamp;
use sluice_stages::stage::Event;
use sluice_stages::watch::{Reported, Watch};

pub(super) use alerts::{AlertBook, AlertFilter};
pub(super) use events::{EventLog, EventView};
pub(super) use progress::Progress;
pub(super) use rates::{EdgeRates, Rates};
pub(super) use series::{LiveSeries, POINTS_CAPACITY, PointView, SeriesView, texts};
pub(super) use slots::{SlotMap, SlotState, SlotView};
pub(super) use transactions::{TransactionIndex, TransactionView};

/// Everything that is remembered.
#[derive(Debug)]
pub(super) struct Live {
    /// Recent slots.
    pub(super) slots: SlotMap,
    /// Recent transactions.
    pub(super) transactions: TransactionIndex,
    /// Recent values of every series.
    pub(super) series: LiveSeries,
    /// Alerts that are not over, and those that were over last.
    pub(super) alerts: AlertBook,
    /// Recent events.
    pub(super) events: EventLog,
    /// What moved along each edge in the last seconds.
    pub(super) rates: Rates,
    /// How far the chain's tip has come.
    pub(super) progress: Progress,
}

impl Live {
    /// Nothing yet, with these bounds.
    pub(super) fn new(slots: usize, transactions: usize) -> Self {
        Self {
            slots: SlotMap::new(slots),
            transactions: TransactionIndex::new(transactions),
            series: LiveSeries::default(),
            alerts: AlertBook::default(),
            events: EventLog::default(),
            rates: Rates::default(),
            progress: Progress::default(),
        }
    }

    /// Takes in an item of the inbox.
    pub(super) fn on_item(&mut self, item: &Item) {
        match item {
            Item::Block(block) => {
                self.slots.on_block(block);
                self.transactions.on_block(block);
            }
            Item::Status(status) => self.slots.on_status(status),
            Item::Gap(gap) => self.slots.on_gap(gap.first, gap.last),
            Item::Sample(sample) => self.series.on_sample(sample),
            Item::Alert(alert) => match &**alert {
                AlertItem::Changed(alert) | AlertItem::Measured(alert) => self.alerts.on_alert(alert),
                AlertItem::Notice(_) => {}
            },
            Item::Begin(_)
            | Item::Update(_)
            | Item::Echo(_)
            | Item::Session(_)
            | Item::Claim(_)
            | Item::Dispute(_)
            | Item::Arrivals(_) => {}
        }
    }

    /// Takes in what a node reported.
    pub(super) fn on_report(&mut self, report: &Reported, watch: &Watch) {
        match &report.event {
            Event::GapFound { first, last } => self.slots.on_gap(*first, *last),
            Event::HoleOpened { slot, reason } => self.slots.on_hole(*slot, reason),
            Event::GapFilled { slot, way } => self.slots.on_filled(*slot, *way),
            Event::Discarded { slot, reason } => self.slots.on_discarded(*slot, reason),
            _ => {}
        }
        self.events.push(report, watch);
    }

    /// A second has passed.
    pub(super) fn on_tick(&mut self, now: Timestamp, watch: &Watch) {
        self.rates.take(now, watch);
        self.progress.observe(now, watch.sum("tip_slot"));
    }
}
