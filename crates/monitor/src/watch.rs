//! The loop of a monitor: waits for what happens, tells the [`Supervisor`], and does what that asks for.
//!
//! It waits for everything at once (poll(2)) and sleeps as long as nothing happens. In each round everybody who is ready
//! has one turn, so that a program that never stops writing starves no client.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::event::ExitStatus;
use gracefully_core::exit::USAGE;
use gracefully_core::policy::Request;
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use gracefully_linux::errno::Described;
use gracefully_linux::process::{exit_status, stat};
use gracefully_linux::signals::{SignalFd, block};
use gracefully_linux::{Errno, PidFd, standard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{WaitOptions, getpid, wait};
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup;
use crate::children::{self, Child, arguments, kill_all_but};
use crate::clients::Clients;
use crate::failure::Failure;
use crate::files::{self, write};
use crate::home::Home;
use crate::inherit::{Inherited, null};
use crate::log::{LogStream, LogWriter};
use crate::pipes::Pipes;
use crate::protocol::{Answer, Ask, Job, Launched, Order, line, value};
use crate::record::Main;
use crate::removal;
use crate::supervisor::{Action, Client, Event, Now, Supervisor};

/// How much output is read at once.
const BUFFER: usize = 16 * 1024;

/// How often we look whether a reader has made room in the log.
const ROOM_AGAIN: Duration = Duration::from_millis(10);

/// How much longer a record may be that tells how it ended.
const GROWS: usize = 512;

/// How long a client may take to read its last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A monitor at work.
pub(crate) struct Watch {
    home: Home,
    /// Held, not used: whoever looks at the container sees that it has a monitor.
    _lock: OwnedFd,
    starter: OwnedFd,
    gracefully: OwnedFd,
    null: OwnedFd,
    signals: SignalFd,
    clients: Clients,
    supervisor: Supervisor,
    events: VecDeque<Event>,
    log: LogWriter,
    buffer: Vec<u8>,
    launch: Option<Launch>,
    program: Option<Program>,
    conductor: Option<Child>,
}

/// A container that is being made.
struct Launch {
    launcher: Child,
    pipes: Pipes,
    /// PID 1, once there is one.
    main: Option<PidFd>,
    /// It may end before the launcher has said that it was started.
    ended: Option<ExitStatus>,
}

/// A program that has been executed.
struct Program {
    main: PidFd,
    pipes: Pipes,
}

/// Somebody who is ready.
#[derive(Clone, Copy)]
enum Ready {
    Signals,
    Conductor,
    Launcher,
    Listener,
    Client(Client),
    Output(LogStream),
}

/// What comes after an action.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Watch {
    /// From here on no signal but SIGKILL ends us.
    pub(crate) fn new(home: Home, inherited: Inherited) -> Result<Self, String> {
        let Inherited { lock, starter, gracefully } = inherited;
        let failed = |what: &'static str| move |errno| format!("{what}: {}", Described(errno));
        let record = home.record()?;
        let signals = [Signal::CHLD, Signal::TERM, Signal::INT, Signal::HUP];
        let signals = SignalFd::new(&signals).map_err(failed("cannot catch signals"))?;
        block(Signal::PIPE).map_err(failed("cannot block SIGPIPE"))?;
        let clients = Clients::listen(&home).map_err(failed("cannot listen"))?;
        let dir = fcntl_dupfd_cloexec(&home, 3).map_err(failed("cannot open the log"))?;
        Ok(Self {
            log: LogWriter::open(dir, record.lost_output),
            supervisor: Supervisor::new(record),
            home,
            _lock: lock,
            starter,
            gracefully,
            null: null().map_err(failed("cannot open /dev/null"))?,
            signals,
            clients,
            events: VecDeque::new(),
            buffer: Vec::with_capacity(BUFFER),
            launch: None,
            program: None,
            conductor: None,
        })
    }

    /// Starts the program and looks after it until it has ended for good.
    pub(crate) fn run(mut self) {
        self.supervisor.begin(now());
        while self.work_off() == Next::GoOn {
            let (ready, in_time) = self.wait();
            for ready in ready {
                self.attend(ready);
            }
            if !in_time {
                self.events.push_back(Event::Timer);
            }
        }
    }

    /// Lets the supervisor decide, and carries out what it asks for, until nothing is left to do.
    fn work_off(&mut self) -> Next {
        loop {
            while let Some(action) = self.supervisor.next_action() {
                if self.perform(action) == Next::End {
                    return Next::End;
                }
            }
            let Some(event) = self.events.pop_front() else { return Next::GoOn };
            self.supervisor.handle(now(), event);
        }
    }

    /// Waits until somebody is ready, or until the supervisor's deadline: then it is not in time any more.
    fn wait(&self) -> (Vec<Ready>, bool) {
        let mut all = Vec::from([
            (Ready::Signals, self.signals.as_fd(), PollFlags::IN),
            (Ready::Listener, self.clients.listener(), PollFlags::IN),
        ]);
        for (ready, child) in [
            (Ready::Conductor, self.conductor.as_ref()),
            (Ready::Launcher, self.launch.as_ref().map(|launch| &launch.launcher)),
        ] {
            all.extend(child.and_then(Child::socket).map(|socket| (ready, socket.as_fd(), PollFlags::IN)));
        }
        all.extend(self.clients.sockets().map(|(client, fd, flags)| (Ready::Client(client), fd, flags)));
        // Without room in the log the program waits, as for everybody who does not read what it writes.
        let has_room = self.log.has_room();
        for (stream, pipe) in
            self.program.iter().filter(|_| has_room).flat_map(|program| program.pipes.open())
        {
            all.push((Ready::Output(stream), pipe.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<PollFd<'_>> =
            all.iter().map(|&(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();

        let deadline = self.supervisor.deadline();
        let left = deadline.map(|deadline| deadline.saturating_sub(now().monotonic));
        let left = left.into_iter().chain((!has_room).then_some(ROOM_AGAIN)).min();
        // More than the kernel can count is for ever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let polled = poll(&mut fds, left.as_ref());
        let ready = all.iter().zip(&fds).filter(|(_, fd)| polled.is_ok() && !fd.revents().is_empty());
        let in_time = deadline.is_none_or(|deadline| now().monotonic < deadline);
        (ready.map(|(&(ready, ..), _)| ready).collect(), in_time)
    }

    fn attend(&mut self, ready: Ready) {
        match ready {
            Ready::Signals => {
                while let Some(signal) = self.signals.next() {
                    self.on_signal(signal);
                }
            }
            Ready::Conductor => self.listen_to_conductor(),
            Ready::Launcher => self.listen_to_launcher(),
            Ready::Listener => self.clients.accept(),
            Ready::Client(client) => {
                let asked = self.clients.serve(client);
                self.events.extend(asked.into_iter().map(|ask| Event::Asked(Some(client), ask)));
            }
            Ready::Output(stream) => {
                // It may have ended just before.
                let Some(program) = &mut self.program else { return };
                program.pipes.read(stream, &mut self.buffer);
                if !self.buffer.is_empty() {
                    self.log.write(now().wall, stream, &self.buffer);
                }
            }
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::CHLD => self.reap(),
            Signal::TERM | Signal::INT => {
                self.events.push_back(Event::Asked(None, Ask::Stop(Request::default())));
            }
            // The terminal of whoever has started us is gone.
            _ => {}
        }
    }
}

// === children ===

impl Watch {
    /// Reaps every child that has ended.
    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get().cast_unsigned();
                    self.on_child_ended(pid, exit_status(status.as_raw()));
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn on_child_ended(&mut self, pid: u32, status: ExitStatus) {
        if self.program.as_ref().is_some_and(|program| program.main.pid() == pid) {
            self.on_program_ended(status);
        } else if self.conductor.as_ref().is_some_and(|conductor| conductor.pid() == pid) {
            self.listen_to_conductor();
            self.on_conductor_lost();
        } else if let Some(launch) = &mut self.launch {
            if launch.main.as_ref().is_some_and(|main| main.pid() == pid) {
                launch.ended = Some(status);
            } else if launch.launcher.pid() == pid {
                // A launcher says its last word before it ends.
                self.listen_to_launcher();
                if self.launch.is_some() {
                    self.give_up_launch(USAGE, "the launcher ended without a word".to_string());
                }
            }
        }
    }

    fn on_program_ended(&mut self, status: ExitStatus) {
        let Some(program) = self.program.take() else { return };
        let log = &mut self.log;
        program.pipes.rest(&mut self.buffer, |stream, bytes| log.write(now().wall, stream, bytes));
        self.events.push_back(Event::Exited { status, lost: self.log.finding() });
    }

    fn start_launcher(&mut self) {
        let launched = Pipes::new().and_then(|(pipes, stdout, stderr)| {
            let us = children::number(getpid().as_raw_nonzero());
            let words = arguments("launch", &[self.home.path(), &us]);
            let launcher = Child::start(&self.gracefully, &words, &stdout, Some(&stderr))?;
            Ok(Launch { launcher, pipes, main: None, ended: None })
        });
        match launched {
            Ok(launch) => self.launch = Some(launch),
            Err(errno) => {
                let message = format!("starting the launcher failed: {}", Described(errno));
                self.events.push_back(Event::NotStarted { code: USAGE, message });
            }
        }
    }

    fn listen_to_launcher(&mut self) {
        // The conversation ends with the launch.
        while let Some(said) = self.launch.as_mut().and_then(|launch| launch.launcher.heard()) {
            match value(&said) {
                Some(Launched::Created(pid)) => self.on_created(pid),
                Some(Launched::Started) => self.on_started(),
                Some(Launched::Failed { code, message }) => self.give_up_launch(code, message),
                Some(Launched::Ended { .. }) | None => {
                    let said = String::from_utf8_lossy(&said);
                    self.give_up_launch(USAGE, format!("the launcher said {said:?}"));
                }
            }
        }
    }

    fn on_created(&mut self, pid: u32) {
        let Some(launch) = &mut self.launch else { return };
        match PidFd::open(pid) {
            Ok(main) => {
                self.events.push_back(Event::Created(Main::of(&main)));
                launch.main = Some(main);
            }
            Err(error) => self.give_up_launch(USAGE, format!("holding the container's process: {error}")),
        }
    }

    fn on_started(&mut self) {
        match self.launch.take() {
            Some(Launch { pipes, main: Some(main), ended, .. }) => {
                self.program = Some(Program { main, pipes });
                self.events.push_back(Event::Started);
                if let Some(status) = ended {
                    self.on_program_ended(status);
                }
            }
            launch => {
                self.launch = launch;
                self.give_up_launch(USAGE, "the launcher started what it had not made".to_string());
            }
        }
    }

    /// Ends whatever the launcher has made.
    fn abandon(&mut self) {
        if let Some(launch) = self.launch.take() {
            launch.launcher.kill();
        }
        kill_all_but(self.conductor.as_ref());
    }

    fn give_up_launch(&mut self, code: u8, message: String) {
        self.abandon();
        self.events.push_back(Event::NotStarted { code, message });
    }

    fn start_conductor(&mut self, job: &Job) {
        let words = arguments("conduct", &[self.home.path()]);
        match Child::start(&self.gracefully, &words, &self.null, None) {
            Ok(conductor) => {
                conductor.tell(&line(job));
                self.conductor = Some(conductor);
            }
            Err(errno) => {
                complain(&format!("cannot start a conductor: {}", Described(errno)));
                self.events.push_back(Event::ConductorLost);
            }
        }
    }

    fn listen_to_conductor(&mut self) {
        while let Some(said) = self.conductor.as_mut().and_then(Child::heard) {
            let Some(order) = value::<Order>(&said) else {
                complain(&format!("the conductor said {:?}", String::from_utf8_lossy(&said)));
                return self.on_conductor_lost();
            };
            if let Order::Report(_) = order {
                // It ends by itself.
                self.conductor = None;
            }
            self.events.push_back(Event::Ordered(order));
        }
        if self.conductor.as_ref().is_some_and(Child::is_silent) {
            self.on_conductor_lost();
        }
    }

    fn on_conductor_lost(&mut self) {
        if let Some(conductor) = self.conductor.take() {
            conductor.kill();
            self.events.push_back(Event::ConductorLost);
        }
    }
}

// === what the supervisor asks for ===

impl Watch {
    fn perform(&mut self, action: Action) -> Next {
        match action {
            Action::Save => {
                if let Err(failure) = self.save() {
                    complain(&failure.to_string());
                }
            }
            Action::Launch => self.start_launcher(),
            Action::Run => match self.save() {
                Ok(()) => {
                    if let Some(launch) = &self.launch {
                        launch.launcher.tell(b"\n");
                    }
                }
                Err(failure) => self.give_up_launch(USAGE, failure.to_string()),
            },
            Action::Abandon => self.abandon(),
            Action::Terminate(signal) => self.terminate(signal),
            Action::Send(signal, client) => self.send(signal, client),
            Action::Conduct(job) => self.start_conductor(&job),
            Action::Tell(news) => {
                if let Some(conductor) = &self.conductor {
                    conductor.tell(&line(&news));
                }
            }
            Action::Dismiss => {
                if let Some(conductor) = self.conductor.take() {
                    conductor.kill();
                }
            }
            Action::Answer(client, answer) => self.clients.answer(client, &answer),
            Action::Report(report) => {
                if let Err(failure) = self.home.replace("report.json", report.get().as_bytes()) {
                    complain(&failure.to_string());
                }
            }
            // Nobody may be there any more to hear it.
            Action::Starter(said) => drop(write(&self.starter, &line(&said))),
            Action::Leave => {
                self.leave();
                return Next::End;
            }
            Action::Quit => return Next::End,
        }
        Next::GoOn
    }

    fn save(&mut self) -> Result<(), Failure> {
        let record = self.supervisor.record();
        record.lost_output = self.log.lost();
        let text = record.to_json();
        self.home.replace(crate::record::FILE, &text)?;
        // How it ends must be written down also if its own output has filled the disk by then.
        let _ = files::reserve(&self.home, crate::record::FILE, text.len() + GROWS);
        Ok(())
    }

    fn terminate(&self, signal: Signal) {
        use gracefully_core::diagnosis::State;
        let Some(program) = &self.program else { return };
        if let Err(errno) = program.main.send(signal) {
            complain(&format!("sending {signal} failed: {}", Described(errno)));
        }
        // A program that has stopped itself takes no signal but SIGKILL until it is continued.
        if stat(program.main.pid()).is_some_and(|stat| stat.state == State::Stopped) {
            let _ = program.main.send(Signal::CONT);
        }
    }

    fn send(&mut self, signal: Signal, client: Option<Client>) {
        // It may have ended just before, which is told next.
        let sent = self.program.as_ref().map_or(Err(Errno::SRCH), |program| program.main.send(signal));
        let answer = match sent {
            // Who kills waits for the end.
            Ok(()) if signal == Signal::KILL => return,
            Ok(()) => Answer::Done,
            Err(Errno::SRCH) => Answer::NotRunning,
            Err(errno) => Answer::Failed(format!("sending {signal} failed: {}", Described(errno))),
        };
        if let Some(client) = client {
            self.clients.answer(client, &answer);
        }
    }

    /// Cleans up, then answers everybody: who hears that a container has ended finds nothing of it left.
    fn leave(&mut self) {
        let id = self.home.id();
        let removed = if self.supervisor.record().spec.auto_remove {
            let _held = self.log.hand_over();
            self.home.root().and_then(|root| removal::remove(root, id))
        } else {
            cgroup::remove(id)
        };
        if let Err(failure) = removed {
            complain(&failure.to_string());
        }
        // Who has connected but not asked yet is told by the end of the connection.
        self.clients.close(&self.home);
        for (client, ask) in self.clients.last_asks() {
            self.supervisor.handle(now(), Event::Asked(Some(client), ask));
        }
        for event in core::mem::take(&mut self.events) {
            if let Event::Asked(..) = event {
                self.supervisor.handle(now(), event);
            }
        }
        self.supervisor.last_words();
        while let Some(action) = self.supervisor.next_action() {
            self.perform(action);
        }
        self.wait_for_readers();
    }

    fn wait_for_readers(&mut self) {
        let end = now().monotonic + LAST_WORDS;
        self.clients.keep_those_with_unsent();
        while !self.clients.is_empty() && now().monotonic < end {
            let left = Timespec::try_from(end.saturating_sub(now().monotonic)).ok();
            let clients: Vec<Client> = self.clients.sockets().map(|(client, ..)| client).collect();
            let mut fds: Vec<PollFd<'_>> =
                self.clients.sockets().map(|(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
            let _ = poll(&mut fds, left.as_ref());
            for client in clients {
                self.clients.serve(client);
            }
            self.clients.keep_those_with_unsent();
        }
    }
}

/// Standard error is a file in the container's directory.
pub(crate) fn complain(text: &str) {
    let _ = write(standard::error(), format!("{text}\n").as_bytes());
}

fn now() -> Now {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    Now { monotonic: read(ClockId::Monotonic), wall: Timestamp::since_1970(read(ClockId::Realtime)) }
}
