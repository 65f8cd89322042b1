//! A search over all orders of events, to a depth, for what must hold in each.

use std::println;

use super::*;

/// What the world may do to a monitor, as far as it can: only a conductor that lives orders, only what runs ends.
#[derive(Clone)]
struct World {
    desk: Desk,
    now: u64,
    conducted: bool,
    up: bool,
    launching: bool,
    gone: bool,
    /// In this stop.
    signals: u32,
    kills: u32,
    launches: u32,
    /// Nothing has begun since the last report.
    reported: bool,
    last_report: u64,
    survived_kill: bool,
    asked: u64,
    answered: Vec<Client>,
    path: Vec<&'static str>,
}

impl World {
    fn new(restart: Restart) -> Self {
        Self {
            desk: Desk::with(restart),
            now: 0,
            conducted: false,
            up: true,
            launching: false,
            gone: false,
            signals: 0,
            kills: 0,
            launches: 0,
            reported: false,
            last_report: 0,
            survived_kill: false,
            asked: 0,
            answered: Vec::new(),
            path: Vec::new(),
        }
    }

    /// Everything that may happen next.
    fn possible(&self) -> Vec<(&'static str, Option<Event>)> {
        let mut events: Vec<(&'static str, Option<Event>)> = vec![("time", None)];
        if self.asked < 3 {
            let then = if self.asked == 0 { Then::Start } else { Then::Stay };
            events.push(("stop", Some(Event::Asked(Some(self.asked), stop(Some(2), then)))));
        }
        if self.asked > 0 {
            events.push(("abort", Some(Event::Asked(Some(0), Ask::Abort))));
        }
        if self.conducted {
            events.push(("lost", Some(Event::ConductorLost)));
            events.push(("terminate", Some(terminate(1_000))));
            events.push(("kill", Some(Event::Ordered(Order::Kill))));
            if !self.up && !self.launching {
                events.push(("start", Some(Event::Ordered(Order::Start))));
            }
            let aborted = self.desk.supervisor.stop.as_ref().is_some_and(Stop::is_aborted);
            if !self.up || self.launches > 0 || aborted {
                events.push(("report", Some(reported())));
            }
        }
        if self.up {
            events.push(("exit", Some(exited(1))));
        }
        if self.launching {
            events.push(("started", Some(Event::Started)));
            events.push(("not-started", Some(Event::NotStarted { code: 127, message: "no".into() })));
        }
        events
    }

    fn step(&mut self, name: &'static str, event: Option<Event>) {
        self.path.push(name);
        match name {
            "stop" => self.asked += 1,
            "lost" | "report" => self.conducted = false,
            "exit" => self.up = false,
            "started" => (self.launching, self.up) = (false, true),
            "not-started" => self.launching = false,
            _ => {}
        }
        let event = event.unwrap_or_else(|| {
            // To the deadline, or a while if there is none.
            self.now = self.desk.deadline().map_or(self.now + 100, |at| at.max(self.now));
            Event::Timer
        });
        self.now += 1;
        // Only the monotonic clock decides: the time of day jumps by an hour, to and fro.
        let mut now = at(self.now);
        let hour = Duration::from_secs(3600);
        let jump = if self.path.len().is_multiple_of(2) { hour } else { Duration::ZERO };
        now.wall = Timestamp::since_1970(now.monotonic + jump);
        self.desk.supervisor.handle(now, event);
        while let Some(action) = self.desk.supervisor.next_action() {
            self.perform(&action);
        }
        if self.gone {
            self.desk.supervisor.last_words();
            while let Some(action) = self.desk.supervisor.next_action() {
                self.perform(&action);
            }
        }
        self.check();
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Terminate(_) => {
                assert!(self.up, "{:?}", self.path);
                let taken_back = self.desk.supervisor.stop.as_ref().is_some_and(Stop::is_aborted);
                assert!(!taken_back, "{:?}", self.path);
                self.signals += 1;
            }
            Action::Send(Signal::KILL, None) => {
                assert!(self.up, "{:?}", self.path);
                self.kills += 1;
            }
            Action::Launch => {
                assert!(!self.up && !self.launching, "started while it runs: {:?}", self.path);
                self.launching = true;
                let why = &self.desk.supervisor.program;
                self.launches += u32::from(matches!(why, Program::Launching { why: Start::Stop, .. }));
            }
            Action::Abandon => self.launching = false,
            Action::Conduct(_) => {
                assert!(!self.conducted, "two conductors: {:?}", self.path);
                (self.conducted, self.reported) = (true, false);
            }
            Action::Tell(_) => assert!(self.conducted, "{:?}", self.path),
            Action::Dismiss => self.conducted = false,
            Action::Report(report) => {
                self.last_report = self.now;
                self.survived_kill |= report.get().contains("not_killable");
                assert!(!self.reported, "two reports: {:?}", self.path);
                // The next one may be begun at once.
                (self.signals, self.kills, self.launches, self.reported) = (0, 0, 0, true);
            }
            Action::Answer(client, Answer::Report(_) | Answer::NotRunning) => self.answered.push(*client),
            Action::Leave | Action::Quit => self.gone = true,
            Action::Save | Action::Run | Action::Send(..) | Action::Answer(..) | Action::Starter(_) => {}
        }
    }

    fn check(&self) {
        assert!(self.signals <= 1 && self.kills <= 1 && self.launches <= 1, "{:?}", self.path);
    }

    /// Lets nothing more happen but what must: deadlines, and the end of what was killed.
    fn finish(&mut self) {
        let began = self.now;
        while self.desk.supervisor.stop.is_some() {
            let step: (&'static str, Option<Event>) = if self.kills == 1 && self.up {
                ("exit", Some(killed()))
            } else if self.launching {
                ("started", Some(Event::Started))
            } else {
                ("time", None)
            };
            self.step(step.0, step.1);
            let limit = 3_000 + GIVE_UP.as_millis() + Care::READY.as_millis() + 6_000;
            let took = self.now - began.max(self.last_report);
            assert!(u128::from(took) < limit, "a stop does not end: {:?}", self.path);
        }
        let asked: Vec<Client> = (0..self.asked).collect();
        let mut answered = self.answered.clone();
        answered.sort_unstable();
        // A request that was put off until the program runs is not there yet.
        let waiting = self.desk.supervisor.deferred.len();
        assert_eq!(answered.len() + waiting, asked.len(), "who asked is told, once: {:?}", self.path);
        // All but the first wanted it to stay down.
        let is_down = !self.up && !self.launching;
        let may_run = self.asked < 2 || waiting > 0 || self.survived_kill;
        assert!(is_down || may_run, "stopped, and it runs: {:?}", self.path);
    }
}

#[test]
fn in_every_order_of_events_a_stop_has_one_signal_one_kill_one_start_one_report_and_ends() {
    const DEPTH: usize = 7;
    let mut seen = 0_u64;
    for restart in [Restart::No, Restart::Always] {
        let mut worlds = vec![World::new(restart)];
        while let Some(world) = worlds.pop() {
            seen += 1;
            let mut end = world.clone();
            if !end.gone {
                end.finish();
            }
            if world.gone || world.path.len() == DEPTH {
                continue;
            }
            for (name, event) in world.possible() {
                let mut next = world.clone();
                next.step(name, event);
                worlds.push(next);
            }
        }
    }
    println!("{seen} orders of events");
    assert!(seen > 10_000, "the search is not shallow: {seen}");
}
