//! How fast a backfill goes, in virtual time: the planner, the choice of nodes and what each bears are the real ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::recovery::pool::order;
use crate::recovery::rpc::{Offer, Outcome, RpcOptions, Standing};

/// How often the source looks for what has become due.
const TICK: Duration = Duration::from_millis(50);
const SLOTS: u64 = 2_000;

/// A node with a limit, a way to it and a rate of failures.
struct Server {
    standing: Standing,
    rate: u32,
    burst: u32,
    latency: Duration,
    fails_every: u64,
    queue: VecDeque<Ask>,
    tokens: f64,
    filled_at: Timestamp,
    requests: u64,
    over_the_limit: u64,
}

impl Server {
    fn new(rate: u32, latency_millis: u64, fails_every: u64) -> Self {
        let options = RpcOptions {
            requests_per_second: rate,
            burst: 10,
            max_in_flight: 24,
            ..RpcOptions::new("http://localhost")
        };
        Self {
            standing: Standing::new(&options),
            rate,
            burst: 11,
            latency: Duration::from_millis(latency_millis),
            fails_every,
            queue: VecDeque::new(),
            tokens: 11.0,
            filled_at: at(0),
            requests: 0,
            over_the_limit: 0,
        }
    }

    /// A request arrives; whether it is answered.
    fn on_request(&mut self, now: Timestamp) -> bool {
        let earned = now.since(self.filled_at).as_secs_f64() * f64::from(self.rate);
        self.filled_at = now;
        self.tokens = (self.tokens + earned).min(f64::from(self.burst)) - 1.0;
        self.requests += 1;
        self.over_the_limit += u64::from(self.tokens < -1e-6);
        !self.requests.is_multiple_of(self.fails_every)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Send,
    Answer { sent_at: Timestamp, well: bool },
}

/// What happens when, numbered in the order in which it was decided: a step of a question at a node.
type Due = Reverse<(Timestamp, u64, Step, usize, Ask)>;

struct World {
    servers: Vec<Server>,
    node: Node,
    planner: Planner,
    steps: BinaryHeap<Due>,
    counted: u64,
    random: SmallRng,
    now: Timestamp,
    blocks: u64,
}

impl World {
    fn new(servers: Vec<Server>, seed: u64) -> Self {
        let bounds = Bounds { commit_slots: 250, max_in_flight: 24, max_retries: 5, max_holes: 100 };
        let ranges = vec![SlotRange { first: 0, last: SLOTS - 1 }];
        let random = SmallRng::seed_from_u64(seed);
        Self {
            servers,
            node: Node::new(0..SLOTS + 40),
            planner: Planner::new(bounds, ranges, at(0), random.clone()),
            steps: BinaryHeap::new(),
            counted: 0,
            random,
            now: at(0),
            blocks: 0,
        }
    }

    /// Runs it to the end and returns how long that took.
    fn run(&mut self) -> Duration {
        while !self.planner.is_done() {
            assert_eq!(self.planner.fatal(), None);
            self.ask();
            self.blocks += std::iter::from_fn(|| self.planner.next_block()).count() as u64;
            assert!(self.planner.take_events().is_empty(), "a hole");
            let next = self.now.after(TICK);
            match self.steps.peek() {
                Some(&Reverse((due, ..))) if due <= next => self.step(),
                _ => self.now = next,
            }
        }
        self.now.since(at(0))
    }

    fn ask(&mut self) {
        let bears = self.servers.iter().map(|server| server.standing.concurrency_limit()).sum();
        while let Some(ask) = self.planner.next_ask(self.now, Room { questions: bears, memory: true }) {
            let offers: Vec<Offer> =
                self.servers.iter().map(|server| server.standing.offer(self.now)).collect();
            let chosen = order(&offers, |count| self.random.random_range(0..count))[0];
            self.servers[chosen].standing.on_pending();
            self.servers[chosen].queue.push_back(ask);
        }
        for place in 0..self.servers.len() {
            while !self.servers[place].queue.is_empty() && self.servers[place].standing.try_begin() {
                let server = &mut self.servers[place];
                let ask = server.queue.pop_front().expect("it is not empty");
                let due = self.now.after(server.standing.turn(self.now));
                self.later(due, Step::Send, place, ask);
            }
        }
    }

    fn later(&mut self, due: Timestamp, step: Step, place: usize, ask: Ask) {
        self.counted += 1;
        self.steps.push(Reverse((due, self.counted, step, place, ask)));
    }

    fn step(&mut self) {
        let Reverse((due, _, step, place, ask)) = self.steps.pop().expect("it was looked at");
        self.now = due;
        let server = &mut self.servers[place];
        match step {
            Step::Send => {
                server.standing.on_sent();
                let well = server.on_request(due);
                let latency = server.latency.mul_f64(self.random.random_range(0.5..1.5));
                self.later(due.after(latency), Step::Answer { sent_at: due, well }, place, ask);
            }
            Step::Answer { sent_at, well } => {
                let outcome = if well { Outcome::Answered } else { Outcome::Failed };
                server.standing.on_outcome(due, due.since(sent_at), outcome);
                server.standing.on_over(true);
                let answer = if well { self.node.answer(ask) } else { failed(FailureKind::Silence) };
                self.planner.on_answer(due, ask, answer);
            }
        }
    }

    /// The share of what the nodes would have answered in that time that was asked.
    fn use_of_limits(&self, took: Duration) -> f64 {
        let asked: u64 = self.servers.iter().map(|server| server.requests).sum();
        let rate: u32 = self.servers.iter().map(|server| server.rate).sum();
        let burst: u32 = self.servers.iter().map(|server| server.burst).sum();
        asked as f64 / (took.as_secs_f64() * f64::from(rate) + f64::from(burst))
    }
}

fn use_of_limits(servers: Vec<Server>, seed: u64) -> f64 {
    let mut world = World::new(servers, seed);
    let took = world.run();
    assert_eq!(world.blocks, SLOTS + 1, "the last one proves the end");
    let over: Vec<u64> = world.servers.iter().map(|server| server.over_the_limit).collect();
    assert_eq!(over, vec![0; over.len()], "nothing is asked over a limit");
    world.use_of_limits(took)
}

#[test]
fn an_erring_node_is_asked_at_its_limit_and_never_over_it() {
    for (rate, latency, fails_every) in [(100, 5, 25), (100, 60, 25), (50, 250, 25), (50, 250, 10)] {
        let share = use_of_limits(vec![Server::new(rate, latency, fails_every)], 7);
        assert!(share >= 0.95, "{share} of {rate}/s at {latency} ms, one in {fails_every} failing");
    }
}

#[test]
fn a_rate_at_which_the_window_fills_while_a_failure_is_tried_again_is_used_for_the_most_part() {
    let share = use_of_limits(vec![Server::new(400, 30, 25)], 7);
    assert!(share >= 0.8, "{share} of 400/s");
}

#[test]
fn several_nodes_are_asked_each_at_its_own_limit() {
    let servers = vec![Server::new(100, 20, 25), Server::new(30, 150, 40), Server::new(60, 80, 1_000_000)];
    let share = use_of_limits(servers, 7);
    assert!(share >= 0.9, "{share} of 190/s");
}
