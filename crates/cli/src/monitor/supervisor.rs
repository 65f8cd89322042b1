//! The supervisor: the one task that knows everything about the container and writes it down.

use std::future::pending;
use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use gracefully_core::event::{ExitStatus, Progress};
use gracefully_core::policy::{Request, Then};
use gracefully_core::report::{Report, Target};
use gracefully_core::signal::Signal;
use gracefully_engine::local::protocol::{Answer, Ask, Launched};
use gracefully_engine::local::{self, Home, Inherited, Lock, LogWriter, Main, Record, Status, cgroup};
use gracefully_engine::{Error, Kind, LogStream, Result};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::drive::{self, Order, Stop};

use super::backoff::{self, Backoff};
use super::clients::{self, Answers, Question};
use super::contained::{Contained, Life, StartOrder};
use super::program::{BUFFER, Program};

/// How long a client may take to read its last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The exit code when nobody knows how it ended, as docker's.
const UNKNOWN: i64 = 255;

pub(super) struct Supervisor {
    home: Home,
    lock: Lock,
    client: std::fs::File,
    record: Record,
    log: LogWriter,
    buffer: Box<[u8]>,

    listener: UnixListener,
    conversations: JoinSet<()>,
    questions: (mpsc::UnboundedSender<Question>, mpsc::UnboundedReceiver<Question>),
    signals: Signals,

    program: Option<Program>,
    life: watch::Sender<Life>,
    /// Whoever ended it, or is about to, wants it to stay so: the restart policy does not count.
    stopped_on_purpose: bool,
    backoff: Backoff,
    restart_at: Option<Instant>,

    stop: Option<UnderWay>,
    starts: (mpsc::UnboundedSender<StartOrder>, mpsc::UnboundedReceiver<StartOrder>),
    /// They wait until the container is not running.
    waiting: Vec<(Answers, Answer)>,
}

/// A stop that is being carried out.
struct UnderWay {
    walk: JoinHandle<Report>,
    orders: mpsc::UnboundedSender<Order>,
    progress: mpsc::UnboundedReceiver<Progress>,
    /// For those who join later.
    told: Vec<Progress>,
    listeners: Vec<Answers>,
}

struct Signals {
    child: SignalStream,
    terminate: SignalStream,
    interrupt: SignalStream,
    hangup: SignalStream,
}

enum Happened {
    Output(LogStream, usize),
    ChildEnded,
    Connected(tokio::net::UnixStream),
    Asked(Question),
    Told(Progress),
    Walked(Box<Report>),
    StartOrdered(StartOrder),
    RestartDue,
    AskedBySignal,
    Nothing,
}

/// Whether there is anything left to look after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

impl Supervisor {
    pub(super) fn new(home: Home, inherited: Inherited) -> anyhow::Result<Self> {
        let Inherited { lock, client } = inherited;
        let record = home.record()?;
        let log = LogWriter::open(home.path(), record.lost_output);
        let listener = clients::listen(&home).context("cannot listen")?;
        let (life, _) = watch::channel(Life::Down(ExitStatus::Unknown));
        Ok(Self {
            home,
            lock,
            client,
            record,
            log,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            listener,
            conversations: JoinSet::new(),
            questions: mpsc::unbounded_channel(),
            signals: Signals::catch()?,
            program: None,
            life,
            stopped_on_purpose: false,
            backoff: Backoff::default(),
            restart_at: None,
            stop: None,
            starts: mpsc::unbounded_channel(),
            waiting: Vec::new(),
        })
    }

    /// Starts the program and looks after it until it has ended for good.
    pub(super) async fn supervise(mut self) -> anyhow::Result<()> {
        self.record.restarts = 0;
        match self.start().await {
            Ok(()) => self.tell_client(&Launched::Started),
            Err(error) => {
                let (code, message) = refusal(&error);
                self.tell_client(&Launched::Failed { code, message });
                return Ok(());
            }
        }
        loop {
            let happened = self.next().await;
            if self.handle(happened).await == Next::Leave {
                break;
            }
        }
        self.leave().await;
        Ok(())
    }

    async fn next(&mut self) -> Happened {
        let Signals { child, terminate, interrupt, hangup } = &mut self.signals;
        tokio::select! {
            // In this order, so that a program that never stops writing can still be stopped. What it has not got rid of
            // when it ends is read then.
            biased;
            _ = child.recv() => Happened::ChildEnded,
            happened = walked(&mut self.stop) => happened,
            Some(order) = self.starts.1.recv() => Happened::StartOrdered(order),
            Some(question) = self.questions.1.recv() => Happened::Asked(question),
            Ok((stream, _)) = self.listener.accept() => Happened::Connected(stream),
            Some(_) = self.conversations.join_next() => Happened::Nothing,
            _ = terminate.recv() => Happened::AskedBySignal,
            _ = interrupt.recv() => Happened::AskedBySignal,
            _ = hangup.recv() => Happened::Nothing,
            () = due(self.restart_at) => Happened::RestartDue,
            (stream, read) = output(&mut self.program, &mut self.buffer) => Happened::Output(stream, read),
        }
    }

    async fn handle(&mut self, happened: Happened) -> Next {
        match happened {
            Happened::Output(stream, read) => {
                self.log.write(stream, &self.buffer[..read]);
                // A pipe that always has something to read would keep this task running, and the kernel would not be
                // asked whether a client, a signal or a timer is due.
                tokio::task::yield_now().await;
            }
            Happened::ChildEnded => return self.on_child_ended(),
            Happened::Connected(stream) => {
                self.conversations.spawn(clients::serve(stream, self.questions.0.clone()));
            }
            Happened::Asked(Question { ask, answers }) => return self.on_question(ask, answers),
            Happened::AskedBySignal => self.on_stop(Request::default(), None),
            Happened::Told(progress) => self.on_progress(progress),
            Happened::Walked(report) => return self.on_walked(*report),
            Happened::StartOrdered(order) => {
                self.release_waiting();
                let started = self.start().await;
                // The executor waits for the answer.
                let _ = order.send(started);
            }
            Happened::RestartDue => return self.on_restart_due().await,
            Happened::Nothing => {}
        }
        Next::GoOn
    }
}

// === the program ===

impl Supervisor {
    async fn start(&mut self) -> Result<()> {
        self.restart_at = None;
        let (home, record) = (&self.home, &mut self.record);
        let launched = Program::launch(home, |main| {
            // Before the program is executed, so that it is never lost.
            record.status = Status::Running(Main::of(main));
            record.started = Some(SystemTime::now());
            record.error = None;
            home.save(record)
        })
        .await;
        match launched {
            Ok(program) => {
                self.stopped_on_purpose = false;
                self.life.send_replace(Life::Up(program.main.clone()));
                self.program = Some(program);
                Ok(())
            }
            Err(error) => {
                // What the launcher has left.
                local::reap(None);
                let (code, message) = refusal(&error);
                self.record.error = Some(message);
                self.ended(ExitStatus::Code(code), Status::Exited);
                Err(error)
            }
        }
    }

    /// One of our children has ended: the program, or what a launcher has left.
    fn on_child_ended(&mut self) -> Next {
        let main = self.program.as_ref().map(|program| program.main.pid());
        match local::reap(main) {
            Some(status) => self.on_exit(status),
            None => Next::GoOn,
        }
    }

    fn on_exit(&mut self, status: ExitStatus) -> Next {
        let Some(program) = self.program.take() else { return Next::GoOn };
        program.rest(&mut self.buffer, |stream, bytes| self.log.write(stream, bytes));
        if self.stop.is_some() {
            // The executor decides what comes next.
            self.ended(status, Status::Exited);
            return Next::GoOn;
        }
        self.restart_or_leave(status, program.started.elapsed())
    }

    fn restart_or_leave(&mut self, status: ExitStatus, run: Duration) -> Next {
        if !self.stopped_on_purpose && backoff::wants(self.record.spec.restart, status, self.record.restarts)
        {
            self.ended(status, Status::Restarting);
            self.restart_at = Some(Instant::now() + self.backoff.after(run));
            return Next::GoOn;
        }
        self.ended(status, Status::Exited);
        Next::Leave
    }

    async fn on_restart_due(&mut self) -> Next {
        self.record.restarts += 1;
        match self.start().await {
            Ok(()) => Next::GoOn,
            Err(error) => {
                let (code, _) = refusal(&error);
                self.restart_or_leave(ExitStatus::Code(code), Duration::ZERO)
            }
        }
    }

    /// Writes down that the program has ended, and tells those who wait for that.
    fn ended(&mut self, exit: ExitStatus, status: Status) {
        self.record.exit = Some(exit);
        self.record.finished = Some(SystemTime::now());
        self.record.status = status;
        self.save();
        self.life.send_replace(Life::Down(exit));
    }

    /// A record that cannot be written is put right by the next command that looks, when we are gone.
    fn save(&mut self) {
        self.record.lost_output = self.log.lost();
        if let Err(error) = self.home.save(&self.record) {
            let _ = writeln!(std::io::stderr(), "{:#}", anyhow::Error::from(error));
        }
    }
}

// === what clients ask ===

impl Supervisor {
    fn on_question(&mut self, ask: Ask, answers: Answers) -> Next {
        match ask {
            Ask::Stop(request) => self.on_stop(request, Some(answers)),
            Ask::Signal(signal) => return self.on_signal(signal, answers),
            Ask::Wait => self.waiting.push((answers, Answer::Exited(0))),
        }
        Next::GoOn
    }

    fn on_stop(&mut self, request: Request, listener: Option<Answers>) {
        if request.then == Then::Stay {
            self.stopped_on_purpose = true;
        }
        if let Some(stop) = &mut self.stop {
            // If it has just ended, its report answers this one too.
            let _ = stop.orders.send(Order::Stop { budget: request.timeout, then: request.then });
            stop.listeners.extend(listener.inspect(|listener| {
                for progress in &stop.told {
                    let _ = listener.send(Answer::Progress(progress.clone()));
                }
            }));
            return;
        }
        if self.restart_at.take().is_some() {
            // There is nobody to signal; the executor finds that out.
            self.record.status = Status::Exited;
            self.save();
        }
        self.stop = Some(self.walk(&request, listener));
    }

    /// Lets a task carry out a stop.
    fn walk(&self, request: &Request, listener: Option<Answers>) -> UnderWay {
        let target = Target {
            engine: Kind::Local.name().to_owned(),
            id: self.record.id.clone(),
            name: self.record.name.clone(),
        };
        let stop = Stop { target, plan: drive::plan(request, &self.record.settings()) };
        let contained = Contained {
            id: self.record.id.clone(),
            life: self.life.subscribe(),
            starts: self.starts.0.clone(),
        };
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let (tell, progress) = mpsc::unbounded_channel();
        let walk = tokio::spawn(async move {
            let mut onlooker = move |progress| drop(tell.send(progress));
            drive::walk(&contained, stop, &mut ordered, &mut onlooker).await
        });
        UnderWay { walk, orders, progress, told: Vec::new(), listeners: listener.into_iter().collect() }
    }

    fn on_progress(&mut self, progress: Progress) {
        let Some(stop) = &mut self.stop else { return };
        for listener in &stop.listeners {
            // Who does not listen any more does not hear it.
            let _ = listener.send(Answer::Progress(progress.clone()));
        }
        stop.told.push(progress);
    }

    fn on_walked(&mut self, mut report: Report) -> Next {
        while let Some(Ok(progress)) = self.stop.as_mut().map(|stop| stop.progress.try_recv()) {
            self.on_progress(progress);
        }
        let Some(stop) = self.stop.take() else { return Next::GoOn };
        report.findings.extend(self.log.finding());
        if let Ok(text) = serde_json::to_vec(&report)
            && let Err(error) = self.home.replace("report.json", &text)
        {
            let _ = writeln!(std::io::stderr(), "{:#}", anyhow::Error::from(error));
        }
        let answer = Answer::Report(Box::new(report));
        let listeners = stop.listeners.into_iter().map(|listener| (listener, answer.clone()));
        if self.program.is_none() {
            // They are told when nothing is left of it.
            self.waiting.extend(listeners);
            return Next::Leave;
        }
        for (listener, answer) in listeners {
            let _ = listener.send(answer);
        }
        Next::GoOn
    }

    fn on_signal(&mut self, signal: Signal, answers: Answers) -> Next {
        let Some(program) = &self.program else {
            if signal == Signal::KILL && self.restart_at.take().is_some() {
                self.record.status = Status::Exited;
                self.save();
                self.waiting.push((answers, Answer::Done));
                return Next::Leave;
            }
            let _ = answers.send(Answer::NotRunning);
            return Next::GoOn;
        };
        let stop_signal = self.record.settings().signal.map_or(Signal::TERM, |signal| signal.value);
        if signal == Signal::KILL || signal == stop_signal {
            self.stopped_on_purpose = true;
        }
        match local::send(&program.main, &self.record.id, signal) {
            Ok(()) if signal == Signal::KILL => self.waiting.push((answers, Answer::Done)),
            sent => {
                let _ = answers.send(match sent {
                    Ok(()) => Answer::Done,
                    Err(Error::NotRunning { .. }) => Answer::NotRunning,
                    Err(error) => Answer::Failed(format!("{:#}", anyhow::Error::from(error))),
                });
            }
        }
        Next::GoOn
    }

    /// Answers everybody who waits until the container is not running.
    fn release_waiting(&mut self) {
        let code = self.exit_code();
        for (waiting, answer) in self.waiting.drain(..) {
            let answer = if let Answer::Exited(_) = answer { Answer::Exited(code) } else { answer };
            // Who does not wait any more does not hear it.
            let _ = waiting.send(answer);
        }
    }

    fn exit_code(&self) -> i64 {
        self.record.exit.and_then(ExitStatus::code).map_or(UNKNOWN, i64::from)
    }
}

// === the end ===

impl Supervisor {
    /// Cleans up, then answers everybody: who hears that a container has ended finds nothing of it left.
    async fn leave(mut self) {
        let removed = if self.record.spec.auto_remove {
            local::remove_home(&self.home, &self.lock)
        } else {
            cgroup::remove(&self.record.id)
        };
        if let Err(error) = removed {
            let _ = writeln!(std::io::stderr(), "{:#}", anyhow::Error::from(error));
        }
        // Nobody connects any more; who has connected but not asked yet is told by the end of the connection.
        drop(std::fs::remove_file(self.home.path().join("control.sock")));
        self.questions.1.close();
        while let Ok(Question { ask, answers }) = self.questions.1.try_recv() {
            let answer = match ask {
                Ask::Wait => Answer::Exited(0),
                Ask::Stop(_) | Ask::Signal(_) => Answer::NotRunning,
            };
            self.waiting.push((answers, answer));
        }
        self.release_waiting();
        let code = self.exit_code();
        self.tell_client(&Launched::Ended(code));
        let mut conversations = std::mem::take(&mut self.conversations);
        let last_words = async { while conversations.join_next().await.is_some() {} };
        let _ = timeout(LAST_WORDS, last_words).await;
    }

    /// Nobody may be there any more to hear it.
    fn tell_client(&mut self, said: &Launched) {
        if let Ok(mut line) = serde_json::to_vec(said) {
            line.push(b'\n');
            let _ = self.client.write_all(&line);
        }
    }
}

impl Signals {
    /// From here on none of them ends us.
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// The exit code of `run`, and why.
fn refusal(error: &Error) -> (u8, String) {
    match error {
        Error::Start { code, message } => (*code, message.clone()),
        other => {
            let mut text = other.to_string();
            if let Some(cause) = std::error::Error::source(other) {
                text = format!("{text}: {cause}");
            }
            (gracefully_core::exit::USAGE, text)
        }
    }
}

async fn output(program: &mut Option<Program>, buffer: &mut [u8]) -> (LogStream, usize) {
    match program {
        Some(program) => program.output(buffer).await,
        None => pending().await,
    }
}

async fn walked(stop: &mut Option<UnderWay>) -> Happened {
    let Some(UnderWay { walk, progress, .. }) = stop else { return pending().await };
    tokio::select! {
        biased;
        Some(progress) = progress.recv() => Happened::Told(progress),
        report = walk => match report {
            Ok(report) => Happened::Walked(Box::new(report)),
            // It cannot be cancelled, and a panic ends the process.
            Err(_) => pending().await,
        },
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
