use proptest::prelude::*;

use super::*;

const POLICY: GroupPolicy = GroupPolicy {
    mode: Mode::Failover,
    error_threshold: 5,
    reset_timeout: Duration::from_secs(30),
    max_lag: Duration::from_millis(500),
    failback_after: Duration::from_secs(30),
    quarantine: Duration::from_secs(600),
};

/// A slot's time.
const SLOT_MILLIS: u64 = 400;

fn at(millis: u64) -> Timestamp {
    Timestamp(0).after(Duration::from_millis(millis))
}

fn first(priority: u32) -> MemberPolicy {
    MemberPolicy { priority, role: EndpointRole::Active }
}

fn standby(priority: u32) -> MemberPolicy {
    MemberPolicy { priority, role: EndpointRole::Standby }
}

/// A group that is told of slots as endpoints would show them.
struct World {
    group: Group,
    now: u64,
    slot: Slot,
    /// How late each endpoint is in milliseconds; `None`: it shows nothing.
    late: Vec<Option<u64>>,
    open: Vec<bool>,
    shown: Vec<Slot>,
}

impl World {
    fn new(mode: Mode, members: &[MemberPolicy]) -> Self {
        let group = Group::new(GroupPolicy { mode, ..POLICY }, members, at(0));
        let count = members.len();
        let mut world = Self {
            group,
            now: 0,
            slot: 1_000,
            late: vec![Some(0); count],
            open: vec![false; count],
            shown: vec![0; count],
        };
        (0..count).for_each(|member| world.open(member));
        world.run(4_000);
        world
    }

    fn open(&mut self, member: usize) {
        let duty = self.duty(member);
        if !self.open[member] && duty != Duty::Rest {
            self.open[member] = true;
            self.shown[member] = 0;
            self.group.on_opened(at(self.now), member, duty == Duty::Active);
        }
    }

    fn fail(&mut self, member: usize) {
        self.open[member] = false;
        self.group.on_ended(at(self.now), member, FailureKind::Unavailable);
    }

    fn duty(&self, member: usize) -> Duty {
        self.group.orders().nth(member).expect("a member").duty
    }

    fn active(&self) -> Vec<usize> {
        (0..self.open.len()).filter(|&member| self.duty(member) == Duty::Active).collect()
    }

    /// Lets time pass in steps of 10 ms, and obeys orders.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += 10;
            for member in 0..self.open.len() {
                self.step(member);
            }
            self.group.on_tick(at(self.now));
        }
    }

    fn step(&mut self, member: usize) {
        let serving = self.group.members[member].order.duty == Duty::Active;
        if !self.open[member] {
            return;
        }
        if self.duty(member) == Duty::Rest {
            self.open[member] = false;
            return self.group.on_left(at(self.now), member);
        }
        let Some(late) = self.late[member] else { return };
        if serving && self.group.state(at(self.now), member) == EndpointState::Standby {
            self.group.on_serving(at(self.now), member);
        }
        let newest = self.slot + self.now.saturating_sub(late) / SLOT_MILLIS;
        if newest > self.shown[member] {
            self.shown[member] = newest;
            self.group.on_slot(at(self.now), member, newest);
        }
    }

    /// Runs until `done`; returns how long it took.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now;
        while !done(self) && self.now - began < 120_000 {
            self.run(10);
        }
        self.now - began
    }
}

#[test]
fn in_a_race_all_are_active_and_standbys_wait() {
    let world = World::new(Mode::Race, &[first(1), first(2), standby(1)]);
    assert_eq!(world.active(), [0, 1]);
    assert_eq!(world.duty(2), Duty::Standby);
}

#[test]
fn a_standby_takes_the_place_of_one_that_hangs_up_at_once() {
    let mut world = World::new(Mode::Race, &[first(1), first(1), standby(1)]);
    world.fail(1);
    assert!(world.active().contains(&2));
}

#[test]
fn a_standby_stays_until_the_regular_ones_have_settled() {
    let mut world = World::new(Mode::Race, &[first(1), standby(1)]);
    world.fail(0);
    assert!(world.active().contains(&1));
    world.run(2_000);
    world.open(0);
    let took = world.until(|world| world.duty(1) == Duty::Standby);
    assert!((30_000..34_000).contains(&took), "{took} ms");
}

#[test]
fn the_next_best_is_promoted_in_the_moment_of_a_failure() {
    let mut world = World::new(Mode::Failover, &[first(3), first(1), first(2)]);
    assert_eq!(world.active(), [1]);
    world.fail(1);
    assert_eq!(world.active(), [2]);
    world.fail(2);
    assert_eq!(world.active(), [0]);
}

#[test]
fn one_that_freezes_is_replaced_within_a_second() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    world.late[0] = None;
    let took = world.until(|world| world.active().contains(&1));
    assert!(took <= 1_000, "{took} ms");
    world.until(|world| world.active() == [1]);
    assert_eq!(world.active(), [1], "the frozen one no longer serves");
}

#[test]
fn one_that_lags_serves_until_its_successor_does() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    world.late[0] = Some(900);
    world.until(|world| world.active().contains(&1));
    assert_eq!(world.active(), [0, 1]);
    let overlap = world.until(|world| world.active() == [1]);
    assert!((SLOT_MILLIS..=3 * SLOT_MILLIS).contains(&overlap), "{overlap} ms");
}

#[test]
fn the_way_back_takes_a_settled_endpoint() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    world.fail(0);
    assert_eq!(world.active(), [1]);
    for _ in 0..3 {
        world.run(1_000);
        world.open(0);
        world.run(20_000);
        assert_eq!(world.active(), [1], "twenty seconds are not enough");
        world.fail(0);
    }
    world.open(0);
    let took = world.until(|world| world.active().contains(&0));
    assert!((30_000..33_000).contains(&took), "{took} ms");
    world.until(|world| world.active() == [0]);
    assert_eq!(world.active(), [0]);
}

#[test]
fn among_equals_the_faster_one_takes_over() {
    let mut world = World::new(Mode::Failover, &[first(1), first(1)]);
    assert_eq!(world.active(), [0]);
    world.late[0] = Some(200);
    world.until(|world| world.active() == [1]);
    assert_eq!(world.active(), [1]);
}

#[test]
fn a_hedge_joins_while_the_first_lags_and_leaves_when_it_has_settled() {
    let mut world = World::new(Mode::Hedged, &[first(1), first(2), first(3)]);
    assert_eq!(world.active(), [0]);
    world.late[0] = Some(700);
    let joined = world.until(|world| world.active() == [0, 1]);
    assert!(joined < 1_500, "{joined} ms");
    world.run(10_000);
    assert_eq!(world.active(), [0, 1], "the first is kept");
    world.late[0] = Some(0);
    let left = world.until(|world| world.active() == [0]);
    assert!((29_000..33_000).contains(&left), "{left} ms");
}

#[test]
fn one_that_fails_again_and_again_rests_and_is_tried_once() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    for _ in 0..POLICY.error_threshold {
        world.fail(0);
    }
    assert_eq!(world.duty(0), Duty::Rest);
    world.run(29_000);
    assert_eq!(world.duty(0), Duty::Rest);
    world.run(2_000);
    assert_eq!(world.duty(0), Duty::Standby, "the trial");
    world.fail(0);
    assert_eq!(world.duty(0), Duty::Rest, "one failure is enough");
    world.run(31_000);
    world.open(0);
    world.run(2_000);
    world.fail(0);
    assert_eq!(world.duty(0), Duty::Standby, "it had recovered");
}

#[test]
fn nobody_rests_when_everybody_has_failed() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    for _ in 0..10 {
        world.fail(0);
        world.fail(1);
    }
    assert_eq!(world.active().len(), 1);
    assert_ne!(world.duty(0), Duty::Rest);
    assert_ne!(world.duty(1), Duty::Rest);
    let mut alone = World::new(Mode::Race, &[first(1)]);
    (0..20).for_each(|_| alone.fail(0));
    assert_eq!(alone.active(), [0]);
}

#[test]
fn a_rate_limit_is_no_failure() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    for _ in 0..20 {
        world.group.on_ended(at(world.now), 1, FailureKind::RateLimited { retry_after: None });
    }
    assert_eq!(world.duty(1), Duty::Standby);
}

#[test]
fn one_that_lies_is_quarantined_and_comes_back() {
    let mut world = World::new(Mode::Race, &[first(1), first(1)]);
    (0..2).for_each(|_| world.group.on_offence(at(world.now), 0));
    assert_eq!(world.duty(0), Duty::Active);
    world.group.on_offence(at(world.now), 0);
    assert_eq!(world.active(), [1]);
    assert_eq!(world.group.state(at(world.now), 0), EndpointState::Quarantined);
    world.run(599_000);
    assert_eq!(world.duty(0), Duty::Rest);
    world.run(2_000);
    assert_eq!(world.duty(0), Duty::Active);
    world.open(0);
    world.run(2_000);
    world.group.on_offence(at(world.now), 0);
    assert_eq!(world.active(), [1], "on probation once is enough");
}

#[test]
fn the_last_one_is_used_whatever_was_proven_of_it() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    (0..9).for_each(|_| world.group.on_offence(at(world.now), 0));
    assert_eq!(world.active(), [1]);
    (0..9).for_each(|_| world.group.on_offence(at(world.now), 1));
    assert_eq!(world.active(), [1], "nobody else is there");
    world.fail(1);
    world.open(0);
    world.run(1_000);
    assert_eq!(world.active(), [0], "better than nothing");
    world.open(1);
    world.run(3_000);
    assert_eq!((world.active(), world.duty(0)), (vec![1], Duty::Rest), "not any longer");
}

#[test]
fn a_promoted_endpoint_begins_before_what_it_has_shown() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    let shown = world.shown[1];
    world.fail(0);
    let order = world.group.orders().nth(1).expect("a member");
    assert_eq!(order, Order { duty: Duty::Active, from_slot: Some(shown - OVERLAP_SLOTS) });
}

#[test]
fn a_slot_from_nowhere_makes_nobody_late() {
    let mut world = World::new(Mode::Failover, &[first(1), first(2)]);
    world.group.on_slot(at(world.now), 1, u64::MAX);
    world.run(2_000);
    assert_eq!(world.active(), [0]);
}

#[test]
fn however_often_the_choice_changes_one_stays_until_it_is_succeeded() {
    let mut world = World::new(Mode::Failover, &[first(3), first(1), standby(1)]);
    world.late[1] = None;
    world.run(1_100);
    world.late[0] = Some(501);
    for _ in 0..110 {
        world.run(10);
        assert!(world.active().len() <= 2, "{:?}", world.active());
    }
}

/// The grace of a fresh choice, and then some.
const SETTLED_MILLIS: u64 = 1_100;

/// Since when nothing was decided, and since when each member has been usable; to be looked at with each step.
#[derive(Debug, Default)]
struct Wait {
    duties: (Vec<Duty>, u64),
    usable_since: Vec<Option<u64>>,
}

impl Wait {
    /// Whether no choice is fresh, somebody has been usable all the while, and nobody who is usable is used.
    fn is_in_vain(&mut self, world: &World) -> bool {
        let members = 0..world.open.len();
        let duties: Vec<Duty> = members.clone().map(|member| world.duty(member)).collect();
        if self.duties.0 != duties {
            self.duties = (duties, world.now);
        }
        self.usable_since.resize(members.len(), None);
        let usable = |member: usize| world.group.is_usable(at(world.now), member);
        for member in members {
            let since = self.usable_since[member].take();
            self.usable_since[member] = usable(member).then(|| since.unwrap_or(world.now));
        }
        let is_long = |since: u64| world.now - since >= SETTLED_MILLIS;
        let is_used =
            |&member: &usize| usable(member) || world.group.policy.mode == Mode::Hedged && world.open[member];
        is_long(self.duties.1)
            && self.usable_since.iter().flatten().any(|&since| is_long(since))
            && !world.active().iter().any(is_used)
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Run(u64),
    Fail(usize),
    Open(usize),
    Late(usize, Option<u64>),
    Offence(usize),
}

fn act(members: usize) -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (10_u64..3_000).prop_map(Act::Run),
        3 => (0..members).prop_map(Act::Fail),
        4 => (0..members).prop_map(Act::Open),
        2 => (0..members, proptest::option::of(0_u64..2_000)).prop_map(|(member, late)| Act::Late(member, late)),
        1 => (0..members).prop_map(Act::Offence),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Race), Just(Mode::Failover), Just(Mode::Hedged)]
}

fn members() -> impl Strategy<Value = Vec<MemberPolicy>> {
    proptest::collection::vec((1_u32..4, any::<bool>()), 1..5).prop_map(|all| {
        let member = |(place, (priority, spare)): (usize, (u32, bool))| {
            if spare && place > 0 { standby(priority) } else { first(priority) }
        };
        all.into_iter().enumerate().map(member).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn somebody_is_always_active_and_nobody_leads_who_is_worse_than_one_that_is_there(
        mode in mode(),
        members in members(),
        acts in proptest::collection::vec(act(4), 0..60),
    ) {
        let (mut world, mut wait) = (World::new(mode, &members), Wait::default());
        for act in acts {
            let mut steps = SETTLED_MILLIS / 10;
            match act {
                Act::Run(millis) => steps += millis / 10,
                Act::Fail(member) if member < members.len() => world.fail(member),
                Act::Open(member) if member < members.len() => world.open(member),
                Act::Late(member, late) if member < members.len() => world.late[member] = late,
                Act::Offence(member) if member < members.len() => {
                    world.group.on_offence(at(world.now), member);
                }
                _ => {}
            }
            for _ in 0..steps {
                world.run(10);
                let active = world.active();
                prop_assert!(!active.is_empty());
                if mode == Mode::Failover {
                    prop_assert!(active.len() <= 2, "one that leads and one that leaves: {active:?}");
                }
                prop_assert!(!wait.is_in_vain(&world), "{:?}", world.group);
            }
            let now = at(world.now);
            // One that is quarantined is not up.
            let honest = (0..members.len()).any(|member| world.group.members[member].is_up(now));
            if honest && mode != Mode::Race {
                let leader = world.group.primary.expect("there is one");
                prop_assert!(!world.group.members[leader].is_quarantined(now));
            }
        }
    }

    #[test]
    fn leadership_never_goes_back_and_forth_faster_than_it_settles(
        acts in proptest::collection::vec(act(3), 0..60),
    ) {
        let mut world = World::new(Mode::Failover, &[first(1), first(2), first(3)]);
        for act in acts {
            let steps = if let Act::Run(millis) = act { millis / 10 } else { 1 };
            for _ in 0..steps {
                let leader = world.group.primary.expect("there is one");
                let was_well = world.group.is_usable(at(world.now), leader);
                match act {
                    Act::Run(_) => world.run(10),
                    Act::Fail(member) => world.fail(member),
                    Act::Open(member) => world.open(member),
                    Act::Late(..) | Act::Offence(_) => {}
                }
                let (now, next) = (at(world.now), world.group.primary.expect("there is one"));
                // The one that led was and is well, so this is a way back.
                if next < leader && was_well && world.group.is_usable(now, leader) {
                    let well = world.group.members[next].well_for(now).expect("it is well");
                    prop_assert!(well >= POLICY.failback_after);
                }
            }
        }
    }
}
