//! The thread that watches the connections of one program and acts on them, from the request to stop it until its
//! connections, and those of its successor, are looked after.
//!
//! A thread of its own, because a look at many connections takes milliseconds of processor time, and because a thread can
//! go into another network namespace without taking anybody with it. It sleeps until something is due: the next look, a
//! deadline that must be moved on, a packet in the queue, a command.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use gracefully_core::traffic::{Connections, Cut, Gate, Traffic};
use gracefully_linux::{PidFd, process};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, Result, read, write};

use crate::budget::{Counted, LOOK, pause_after};
use crate::clock::{now, processor_time};
use crate::freeze::Freezer;
use crate::hold::{self, Hold, Refusal};
use crate::judge::Program;
use crate::limits::Limit;
use crate::target::Target;
use crate::watch::{Ended, Watch};

/// How long connections that were held are let go at the pace of the listener. After that all go.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

/// The same for those who come while the others are let go.
const LET_OTHERS_GO_WITHIN: Duration = Duration::from_millis(500);

/// A program whose connections are being looked after.
///
/// Dropping it lets everything go: new connections flow, shut valves open.
#[derive(Debug)]
pub struct Drain {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    /// Everything is let go.
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The connections were looked at.
    Looked(Traffic),
    /// Something cannot be done.
    Limited(Limit),
    /// The connections cannot be looked at. Nothing is done about them, and nothing more is told.
    Hidden(Limit),
    /// The answer to [`Drain::judge`]: how many connections were cut.
    Judged(u32),
    /// The answer to [`Drain::await_listeners`]: the new program listens wherever the old one did.
    Ready,
    /// The answer to [`Drain::finish`].
    Finished(Connections),
}

#[derive(Debug)]
enum Command {
    Observe,
    Hold { at_most: Duration },
    Refuse { at_most: Duration },
    SignalComes,
    Judge { killed: bool },
    AwaitListeners(Target),
    Release,
    Finish,
}

impl Drain {
    /// Begins to look after the connections of `target`. `tell` is called on the thread; a program whose connections
    /// cannot be looked at is told as [`Notice::Hidden`].
    pub fn begin(
        target: Target,
        mut tell: impl FnMut(Notice) + Send + 'static,
    ) -> std::result::Result<Self, Limit> {
        let (commands, received) = mpsc::channel();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.map_err(Limit::system)?);
        let woken = Arc::clone(&wake);
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        // Only the thread waits for the kernel: whoever has fifty programs to stop has one thread for everything else.
        let thread =
            std::thread::Builder::new().name("drain".to_owned()).spawn(move || match Agent::find(&target) {
                Ok((main, watch)) => {
                    Agent::new(target, main, watch, Box::new(tell)).run(&received, &woken, &is_done);
                }
                Err(limit) => tell(Notice::Hidden(limit)),
            });
        let thread = thread.map_err(|_| Limit::system(Errno::AGAIN))?;
        Ok(Self { commands, wake, done, thread: Some(thread) })
    }

    /// From now on tell [`Notice::Looked`].
    pub fn observe(&self) {
        self.command(Command::Observe);
    }

    /// From now on keep new connections waiting, and close idle ones. The kernel ends the waiting after `at_most`, whatever
    /// becomes of us.
    pub fn hold(&self, at_most: Duration) {
        self.command(Command::Hold { at_most });
    }

    /// From now on refuse new connections, and close idle ones. The kernel ends the refusing after `at_most`, whatever
    /// becomes of us.
    pub fn refuse(&self, at_most: Duration) {
        self.command(Command::Refuse { at_most });
    }

    /// The program is told to end: what it closes from now on, it may close for that.
    pub fn signal_comes(&self) {
        self.command(Command::SignalComes);
    }

    /// The program has ended, by itself or killed. Judge its connections, and tell [`Notice::Judged`].
    pub fn judge(&self, killed: bool) {
        self.command(Command::Judge { killed });
    }

    /// The program was started again as `target`. When it listens wherever the old one did, tell [`Notice::Ready`].
    pub fn await_listeners(&self, target: Target) {
        self.command(Command::AwaitListeners(target));
    }

    /// Let new connections through again, those that waited first.
    pub fn release(&self) {
        self.command(Command::Release);
    }

    /// Release everything and tell [`Notice::Finished`].
    pub fn finish(&self) {
        self.command(Command::Finish);
    }

    fn command(&self, command: Command) {
        // If the thread has ended, there is nobody to command.
        let _ = self.commands.send(command);
        let _ = write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.command(Command::Finish);
        if self.done.load(Ordering::Acquire) {
            // It only closes its sockets, for which the kernel takes 15 ms each. Nobody has to wait for that.
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Everything of the thread.
struct Agent {
    target: Target,
    main: PidFd,
    program: Program,
    watch: Watch,
    freezer: Option<Freezer>,
    gate: Shut,
    /// The program that was started again.
    successor: Option<Watch>,
    /// Who is to listen, and when to look whether it does.
    awaited: Option<(Target, Duration)>,
    /// What ended while the program was ending: outside and inside, as one request may have ended at one place only.
    last: [Vec<Ended>; 2],
    /// When to look next; `None`: nobody wants to know.
    look_at: Option<Duration>,
    tally: Connections,
    tell: Box<dyn FnMut(Notice) + Send>,
    _counted: Counted,
}

/// What happens to new connections.
#[derive(Debug)]
enum Shut {
    No,
    Held(Box<dyn Hold>),
    Refused(Box<Refusal>),
}

impl Shut {
    /// What becomes readable when there is work for [`turn`](Self::turn).
    fn readable(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::No => None,
            Self::Held(hold) => hold.readable(),
            Self::Refused(refusal) => refusal.readable(),
        }
    }

    /// When [`turn`](Self::turn) is due anyway.
    fn due(&self) -> Option<Duration> {
        match self {
            Self::No => None,
            Self::Held(hold) => hold.due(),
            Self::Refused(refusal) => refusal.due(),
        }
    }

    /// Does what is to be done now.
    fn turn(&mut self, now: Duration) -> Result<()> {
        match self {
            Self::No => Ok(()),
            Self::Held(hold) => hold.turn(now),
            Self::Refused(refusal) => refusal.turn(now),
        }
    }
}

impl Agent {
    /// Takes hold of the program and begins to watch it.
    fn find(target: &Target) -> std::result::Result<(PidFd, Watch), Limit> {
        let main = PidFd::open(target.main).map_err(|_| Limit::watch(Errno::SRCH))?;
        let watch = Watch::begin(target, now()).map_err(Limit::watch)?;
        Ok((main, watch))
    }

    fn new(target: Target, main: PidFd, watch: Watch, tell: Box<dyn FnMut(Notice) + Send>) -> Self {
        Self {
            target,
            main,
            program: Program::Lives,
            watch,
            freezer: None,
            gate: Shut::No,
            successor: None,
            awaited: None,
            last: Default::default(),
            look_at: None,
            tally: Connections::default(),
            tell,
            _counted: Counted::new(),
        }
    }

    fn run(mut self, commands: &Receiver<Command>, wake: &OwnedFd, done: &AtomicBool) {
        loop {
            self.sleep(wake);
            loop {
                match commands.try_recv() {
                    Ok(Command::Finish) | Err(TryRecvError::Disconnected) => return self.finish(done),
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.turn();
        }
    }

    /// Until something is due or a command comes.
    fn sleep(&self, wake: &OwnedFd) {
        let due = [
            self.look_at,
            self.awaited.as_ref().map(|(_, at)| *at),
            self.freezer.as_ref().and_then(Freezer::due),
            self.gate.due(),
        ];
        let limit = due.into_iter().flatten().min().map(|at| timespec(at.saturating_sub(now())));
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        if let Some(queue) = self.gate.readable() {
            fds.push(PollFd::from_borrowed_fd(queue, PollFlags::IN));
        }
        // It may be interrupted; then we look at once.
        let _ = poll(&mut fds, limit.as_ref());
        let _ = read(wake, &mut [0; 8]);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Observe => self.look_at = Some(now()),
            // Who listens nowhere has no clients.
            Command::Hold { .. } | Command::Refuse { .. } if self.watch.inside.ports().is_empty() => {}
            Command::Hold { at_most } => {
                let now = now();
                match hold::hold(&self.target, &mut self.watch, at_most, now) {
                    Ok(hold) => self.gate = Shut::Held(hold),
                    Err(tried) => (self.tell)(Notice::Limited(Limit::hold(&tried))),
                }
                self.begin_to_close();
            }
            Command::Refuse { at_most } => {
                match Refusal::new(&self.target, &self.watch, at_most) {
                    Ok(refusal) => {
                        self.gate = Shut::Refused(Box::new(refusal));
                        self.tally.gate = Some(Gate::Refused);
                    }
                    Err(errno) => (self.tell)(Notice::Limited(Limit::refuse(errno))),
                }
                self.begin_to_close();
            }
            Command::SignalComes => self.program = Program::Ending,
            Command::Judge { killed } => {
                self.look_at = None;
                self.end_closing();
                let program = if killed { Program::Killed } else { Program::Exited };
                let mut ended = std::mem::take(&mut self.last);
                for (ended, now) in ended.iter_mut().zip(self.watch.end_now().unwrap_or_default()) {
                    ended.extend(now);
                }
                self.count_ended(of_the_better_witness(ended, program), program);
                let cut = u32::try_from(self.tally.cut.len()).unwrap_or(u32::MAX);
                (self.tell)(Notice::Judged(cut));
            }
            Command::AwaitListeners(target) => self.awaited = Some((target, now())),
            Command::Release => self.release(),
            Command::Finish => {}
        }
    }

    /// Idle connections are closed from now on: their clients would come again and are let in, or turned away, at the gate.
    fn begin_to_close(&mut self) {
        match Freezer::new() {
            Ok(freezer) => self.freezer = Some(freezer),
            Err(errno) => (self.tell)(Notice::Limited(Limit::freeze(errno))),
        }
    }

    fn turn(&mut self) {
        let now = now();
        if let Err(errno) = self.gate.turn(now) {
            (self.tell)(Notice::Limited(Limit::system(errno)));
            self.gate = Shut::No;
        }
        if let Some(freezer) = &mut self.freezer
            && let Err(errno) = freezer.keep_shut(now)
        {
            (self.tell)(Notice::Limited(Limit::freeze(errno)));
            self.freezer = None;
        }
        if self.look_at.is_some_and(|at| at <= now) {
            if is_ending(&self.main) {
                self.look_at = None;
                return;
            }
            let began = processor_time();
            match self.look(now) {
                Ok(Some(traffic)) => (self.tell)(Notice::Looked(traffic)),
                Ok(None) => {
                    self.look_at = None;
                    return;
                }
                Err(errno) => {
                    (self.tell)(Notice::Limited(Limit::watch(errno)));
                    self.look_at = None;
                    return;
                }
            }
            let worthwhile = self.watch.next_look().unwrap_or_default();
            self.look_at = Some(worthwhile.max(now + pause_after(began)));
        }
        if let Some((target, at)) = &mut self.awaited
            && *at <= now
        {
            let began = processor_time();
            match listens_again(target, self.watch.inside.listening_at(), now) {
                Some(watch) => {
                    self.awaited = None;
                    self.successor = Some(watch);
                    (self.tell)(Notice::Ready);
                }
                None => *at = now + pause_after(began),
            }
        }
    }

    /// `None`: the program is ending, and its connections with it.
    fn look(&mut self, now: Duration) -> Result<Option<Traffic>> {
        let look = self.watch.look(now)?;
        if self.tally.looks == 0 {
            self.tally.open = look.busy + look.idle;
            self.tally.in_flight = look.busy;
        }
        self.tally.looks += 1;
        self.tally.drained += look.settled;
        if is_ending(&self.main) {
            self.last = self.watch.ended_at_both();
            return Ok(None);
        }
        let ended = self.watch.ended();
        self.count_ended(ended, self.program);
        let unfinished = match &mut self.freezer {
            Some(freezer) => freezer.act(&mut self.watch.inside, now)?,
            None => 0,
        };
        Ok(Some(Traffic { in_flight: look.busy.max(unfinished), new: look.new }))
    }

    /// Judges connections that ended in the middle of a request.
    fn count_ended(&mut self, ended: Vec<Ended>, program: Program) {
        let now = now();
        for ended in ended {
            let Ended { watched, why, .. } = ended;
            if ended.was_cut(program) {
                self.tally.cut.push(Cut {
                    peer: watched.peer.to_string(),
                    local: watched.local.to_string(),
                    age: now.saturating_sub(watched.since),
                    why,
                });
            } else {
                self.tally.drained += 1;
            }
        }
    }

    /// Lets everything go that waits, not faster than the program accepts: what does not fit into its queue is lost, and
    /// comes again a second later. Whoever comes meanwhile waits behind the others, else they would take their places.
    fn release(&mut self) {
        self.end_closing();
        let Shut::Held(mut hold) = std::mem::replace(&mut self.gate, Shut::No) else { return };
        let mut end = now() + LET_GO_WITHIN;
        let mut left = hold.waiting();
        while hold.turn(now()).is_ok() && hold.waiting() > 0 && now() < end {
            let room = match &mut self.successor {
                Some(watch) => watch.room(now()).unwrap_or(u32::MAX),
                None => u32::MAX,
            };
            let waiting = hold.waiting();
            if hold.let_go(room, now()).is_err() || hold.waiting() == 0 {
                break;
            }
            let gone = waiting - hold.waiting();
            if gone >= left {
                // Who comes now and always finds somebody before them is an ordinary load.
                end = end.min(now() + LET_OTHERS_GO_WITHIN);
            }
            left = left.saturating_sub(gone);
            let _ = poll(&mut [], Some(&timespec(LOOK)));
        }
        hold.open();
        // Those who have come in the last moment.
        let _ = hold.turn(now()).and_then(|()| hold.let_go(u32::MAX, now()));
        let tally = hold.tally();
        self.tally.gate = Some(Gate::Held {
            method: hold.method(),
            held: tally.held,
            longest: tally.longest,
            overflowed: tally.overflowed,
        });
    }

    /// Lets be what is not closed, and takes over what the freezer has counted.
    fn end_closing(&mut self) {
        let now = now();
        let Some(mut freezer) = self.freezer.take() else { return };
        freezer.give_up(&mut self.watch.inside, now);
        self.tally.closed_idle += freezer.closed_idle;
        self.tally.raced += freezer.raced;
    }

    fn finish(mut self, done: &AtomicBool) {
        // Where nobody listens any more, whoever comes is refused with the rules and without.
        let ended = matches!(self.gate, Shut::Refused(_)) && self.main.has_exited();
        let _refused = ended.then(|| std::mem::replace(&mut self.gate, Shut::No));
        self.release();
        done.store(true, Ordering::Release);
        self.tally.cpu = processor_time();
        (self.tell)(Notice::Finished(self.tally));
    }
}

/// Is the process about to end? Then its connections end with it.
fn is_ending(main: &PidFd) -> bool {
    main.has_exited() || process::stat(main.pid()).is_none_or(|stat| stat.exiting)
}

/// Of what ended outside and inside, which are two sides of the same requests, what tells of more that were cut. What the proxy
/// has finished meanwhile cannot be heard there, but where the program is.
fn of_the_better_witness([outside, inside]: [Vec<Ended>; 2], program: Program) -> Vec<Ended> {
    let cuts = |ended: &[Ended]| ended.iter().filter(|ended| ended.was_cut(program)).count();
    if cuts(&outside) >= cuts(&inside) && !outside.is_empty() { outside } else { inside }
}

/// The program that was started again, if it listens wherever the one before did.
fn listens_again(target: &Target, at: &[SocketAddr], now: Duration) -> Option<Watch> {
    // Its process may be changing hands just now.
    let watch = Watch::begin(target, now).ok()?;
    at.iter().all(|at| watch.inside.ports().contains(&at.port())).then_some(watch)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests;
