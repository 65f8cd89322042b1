//! One stop of one container.
//!
//! Two things run at once: the order (`terminate`), which returns when the engine has carried it out, and the watch
//! (`exited`), which tells how the main process ended. Each also ends the other's waiting when it cannot end by itself:
//!
//! * The watch is the engine's `wait`, opened before there is an instance, so that no end can come before it is
//!   registered; a program that is started again at once is not missed. Podman's `wait` looks only now and then
//!   and misses a restart: there the kernel is asked too, where it tells (Linux 6.15), and when the order has
//!   returned the watch ends anyway, soon after.
//! * When the daemon dies in the middle, a container of Docker's lives on, and the SIGKILL that was to end the stop
//!   never comes. If the main process is one of this machine's we have held it from the beginning: then we watch that,
//!   and `kill` reaches it.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Policy, Settings, Then};
use gracefully_core::signal::Signal;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Answer, Call, Client, Flavour, ORDER, QUESTION};
use super::host::HostProcess;
use super::stop::{self, Means, Removal, Target, Way};
use super::{api, convert, errors};
use crate::{Container, Error, Instance, Network, Result, Running, State, Terminate};

/// How long the watch may come after the order: Podman looks four times a second.
const WATCH_AFTER_ORDER: Duration = Duration::from_secs(1);

/// How long the engine may be late with its own SIGKILL before we look whether it is still there.
const KILL_LATE: Duration = Duration::from_secs(1);

/// How long a daemon that is late may take to say that it is alive: it may be busy with fifty other stops.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// How much earlier than the engine our clock may say that its time is up.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

/// A container of Docker's or Podman's during a stop.
#[derive(Debug)]
pub(super) struct DockerInstance {
    client: Arc<Client>,
    id: String,
    name: String,
    target: Target,
    /// The main process, if it is one of this machine's.
    process: Option<HostProcess>,
    network: Network,
    /// The engine's `wait`, until somebody reads it.
    waiting: Mutex<Option<Answer>>,
    exit: OnceCell<ExitStatus>,
    order: watch::Sender<Order>,
    findings: Mutex<Vec<Finding>>,
}

/// What has become of the order to end the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// There is none yet.
    None,
    /// The engine has it.
    Engine {
        /// When it will kill; `None`: never.
        kills_at: Option<Instant>,
        /// Its own default may be longer than we think.
        daemon_decides: bool,
    },
    /// We carry it out step by step.
    Steps,
    /// It has been carried out.
    Done,
    /// The daemon was lost; whether it finishes nobody knows.
    Lost,
}

impl DockerInstance {
    /// Takes hold of the container: of its process, if that is here, and of its next end.
    pub(super) async fn new(client: Arc<Client>, container: &Container) -> Result<Self> {
        let daemon = client.daemon().await?;
        let pid = container.pid.filter(|_| client.is_local());
        let process = pid.and_then(|pid| HostProcess::of_container(&container.id, pid));
        let waiting = match daemon.flavour {
            // dockerd sends the head of the answer when it has registered the wait.
            Flavour::Docker => {
                let opened = client.open(wait_call(&container.id, Condition::NotRunning));
                Some(client.within(Some(QUESTION), opened).await?)
            }
            // Podman sends everything at the end.
            Flavour::Podman => None,
        };
        Ok(Self {
            client,
            id: container.id.clone(),
            name: container.name.clone(),
            target: Target {
                daemon,
                state: container.state,
                settings: container.settings,
                auto_remove: container.auto_remove,
            },
            process,
            network: container.network.clone(),
            waiting: Mutex::new(waiting),
            exit: OnceCell::new(),
            order: watch::Sender::new(Order::None),
            findings: Mutex::new(Vec::new()),
        })
    }

    async fn carry_out(&self, order: &Terminate) -> Result<()> {
        let Way { unpause, means } = stop::way(order, &self.target);
        match stop::removal(order.then, &means, &self.target) {
            Removal::Kept => {}
            Removal::Possible => self.note_possible_removal(),
            Removal::Certain => return Err(would_remove()),
        }
        if unpause {
            match self.client.order(Call::post(self.path("unpause")), Some(QUESTION)).await {
                // Somebody was quicker; the order itself will tell if not.
                Ok(()) | Err(Error::Daemon { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match means {
            Means::Engine { seconds, signal, kills_after, daemon_decides } => {
                let kills_at = kills_after.map(|after| Instant::now() + after);
                self.order.send_replace(Order::Engine { kills_at, daemon_decides });
                let call = self.engine_call(order.then, seconds, signal);
                self.client.order(call, kills_after.map(|after| after + ORDER)).await
            }
            Means::Steps(signal) => {
                self.order.send_replace(Order::Steps);
                self.note_steps(signal);
                self.step_by_step(signal, order.then).await
            }
        }
    }

    async fn step_by_step(&self, signal: Signal, then: Then) -> Result<()> {
        let kill = Call::post(self.path("kill")).with("signal", Some(signal));
        match self.client.order(kill, Some(QUESTION)).await {
            Ok(()) => {}
            Err(error) if error.is_not_running() => {}
            Err(error) => return Err(error),
        }
        // The caller kills when time is up, so this ends.
        self.exited().await?;
        self.client.order(self.engine_call(then, Some(0), None), Some(ORDER)).await
    }

    /// The engine's own stop or restart.
    fn engine_call(&self, then: Then, seconds: Option<i64>, signal: Option<Signal>) -> Call {
        let verb = match then {
            Then::Stay => "stop",
            Then::Start => "restart",
        };
        Call::post(self.path(verb)).with("t", seconds).with("signal", signal)
    }

    async fn watch(&self) -> Result<ExitStatus> {
        tokio::select! {
            waited = self.engine_wait() => match (waited, &self.process) {
                // dockerd before 23 reads the exit code when it answers: 0 if a restart was quicker. The kernel keeps it.
                (Ok(status), process) => {
                    Ok(process.as_ref().and_then(HostProcess::exit_status).unwrap_or(status))
                }
                (Err(error), _) if error.is_not_found() => Ok(ExitStatus::Unknown),
                (Err(error), Some(process)) if errors::is_lost(&error) => {
                    self.lose(&error);
                    process.ended().await
                }
                (Err(error), _) => Err(error),
            },
            status = self.kernel_says() => Ok(status),
            () = self.soon_after_order() => self.look_up_exit().await,
        }
    }

    /// How it ended, from the kernel; never, if the kernel does not know or the engine's `wait` is good enough.
    async fn kernel_says(&self) -> ExitStatus {
        if let (Flavour::Podman, Some(process)) = (self.target.daemon.flavour, &self.process)
            && let Ok(status @ (ExitStatus::Code(_) | ExitStatus::Signal(_))) = process.ended().await
        {
            return status;
        }
        pending().await
    }

    async fn engine_wait(&self) -> Result<ExitStatus> {
        let opened = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = match opened {
            Some(answer) => answer,
            None => self.client.open(wait_call(&self.id, Condition::NotRunning)).await?,
        };
        read_wait(answer).await.map(ExitStatus::from_docker)
    }

    async fn soon_after_order(&self) {
        self.ordered(|order| order == Order::Done).await;
        sleep(WATCH_AFTER_ORDER).await;
    }

    /// How it ended, from what the engine has kept; a restart has overwritten that.
    async fn look_up_exit(&self) -> Result<ExitStatus> {
        match self.client.ask::<api::Inspect>(Call::get(self.path("json"))).await {
            Ok(inspect) => {
                let state = inspect.state.unwrap_or_default();
                let code = state.exit_code.filter(|_| !convert::status(&state).is_up());
                Ok(code.map_or(ExitStatus::Unknown, ExitStatus::from_docker))
            }
            Err(error) if error.is_not_found() => Ok(ExitStatus::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Has the engine's own SIGKILL come, or will it come although it is late?
    async fn engine_kills(&self, kills_at: Instant, daemon_decides: bool) -> bool {
        if Instant::now() + CLOCK_SLACK < kills_at {
            return false; // We are asked to hurry.
        }
        let finished = self.ordered(|order| !matches!(order, Order::Engine { .. }));
        if timeout(KILL_LATE, finished).await.is_ok() {
            return *self.order.borrow() == Order::Done;
        }
        // Its default may be longer than docker's usual one. A daemon that answers also kills.
        daemon_decides
            && timeout(ALIVE_WITHIN, self.client.order(Call::get("/_ping"), None))
                .await
                .is_ok_and(|it| it.is_ok())
    }

    /// Waits for the order to be in a state.
    async fn ordered(&self, wanted: impl Fn(Order) -> bool) {
        // The sender is ours, so it is never closed.
        let _ = self.order.subscribe().wait_for(|order| wanted(*order)).await;
    }

    fn lose(&self, error: &Error) {
        let before = self.order.send_replace(Order::Lost);
        if before != Order::Lost {
            self.note(
                Finding::new(
                    Code::Engine,
                    format!("{error}; the stop went on without it, on the process itself."),
                )
                .hint("Look at the container again when the daemon is back."),
            );
        }
    }

    fn note_possible_removal(&self) {
        let engine = match self.target.daemon.flavour {
            Flavour::Docker => "Docker before 23",
            Flavour::Podman => "Podman 4.3",
        };
        self.note(
            Finding::new(
                Code::Engine,
                format!("{engine} sometimes removes a container created with --rm when it is restarted."),
            )
            .hint("Create it without --rm."),
        );
    }

    fn note_steps(&self, signal: Signal) {
        let why = match self.target.daemon.flavour {
            Flavour::Docker => "The daemon's API is older than 1.42, where a stop takes no signal",
            Flavour::Podman => "Podman takes no signal for a stop, and sends none when there is no time",
        };
        self.note(Finding::new(
            Code::Engine,
            format!("{why}: {signal} was sent by itself, and the end awaited here."),
        ));
    }

    fn note(&self, finding: Finding) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }

    fn path(&self, verb: &str) -> String {
        format!("/containers/{}/{verb}", self.id)
    }

    /// The engine's refusals in the words that every engine's instance has for them.
    fn plain(&self, error: Error) -> Error {
        if error.is_not_found() {
            Error::NotFound { name: self.name.clone() }
        } else if error.is_not_running() {
            Error::NotRunning { id: self.id.clone() }
        } else {
            error
        }
    }
}

fn would_remove() -> Error {
    Error::Unsupported {
        what: "this engine would remove the container instead of restarting it, because it was created with --rm: restart it \
               with its own stop signal"
            .to_string(),
    }
}

#[async_trait]
impl Instance for DockerInstance {
    fn main_pid(&self) -> Option<u32> {
        self.process.as_ref().map(HostProcess::pid)
    }

    fn kills_by_itself(&self) -> bool {
        match *self.order.borrow() {
            Order::None | Order::Engine { .. } | Order::Done => true,
            Order::Steps | Order::Lost => false,
        }
    }

    fn check(&self, policy: &Policy) -> Result<()> {
        let at_once =
            Terminate { policy: *policy, kill_after: policy.timeout.value.limit(), then: policy.then };
        let Way { means, .. } = stop::way(&at_once, &self.target);
        match stop::removal(policy.then, &means, &self.target) {
            Removal::Kept | Removal::Possible => Ok(()),
            Removal::Certain => Err(would_remove()),
        }
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        match self.carry_out(order).await {
            Ok(()) => {
                self.order.send_replace(Order::Done);
                Ok(())
            }
            // The daemon had the order and is gone, or is silent. The program is still ours to watch and to end.
            Err(error @ (Error::Lost { .. } | Error::Timeout { .. })) if self.process.is_some() => {
                self.lose(&error);
                Ok(())
            }
            Err(error) => {
                self.order.send_replace(Order::None);
                Err(self.plain(error))
            }
        }
    }

    async fn exited(&self) -> Result<ExitStatus> {
        self.exit.get_or_try_init(|| self.watch()).await.copied()
    }

    async fn kill(&self) -> Result<()> {
        let order = *self.order.borrow();
        if let Order::Engine { kills_at: Some(kills_at), daemon_decides } = order
            && self.engine_kills(kills_at, daemon_decides).await
        {
            return Ok(());
        }
        // We are quicker than the engine. In a restart of its own, an order to kill the container could come when the next
        // program runs already; the process that we hold cannot be mistaken. Some may give orders, but may not do that.
        if let (Order::Engine { .. }, Some(process)) = (order, &self.process)
            && process.kill().is_ok()
        {
            return Ok(());
        }
        let call = self.client.order(Call::post(self.path("kill")), Some(ORDER));
        let Some(process) = &self.process else {
            return call.await.map_err(|error| self.plain(error));
        };
        // A daemon that is silent must not save the program.
        match timeout(KILL_LATE, call).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if !errors::is_lost(&error) => Err(self.plain(error)),
            Ok(Err(_)) | Err(_) => process.kill(),
        }
    }

    async fn start(&self) -> Result<()> {
        // The engine's own restart may be under way.
        self.ordered(|order| !matches!(order, Order::Engine { .. } | Order::Steps)).await;
        let order = *self.order.borrow();
        match order {
            Order::Done => Ok(()),
            _ => super::start(&self.client, &self.id).await,
        }
    }

    fn network(&self) -> Network {
        self.network.clone()
    }

    async fn running(&self) -> Result<Option<Running>> {
        let inspect: api::Inspect = self.client.ask(Call::get(self.path("json"))).await?;
        let container = convert::container(inspect, Settings::default());
        if container.state != State::Running {
            return Ok(None);
        }
        let main = container.pid.filter(|_| self.client.is_local());
        let main = main.and_then(|pid| HostProcess::of_container(&self.id, pid)).map(|main| main.pid());
        let healthy = container.health.map(|health| health == "healthy");
        Ok(Some(Running { main, network: container.network, healthy }))
    }

    fn findings(&self) -> Vec<Finding> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a `wait` waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// Not running; at once if it is not running now. Waiting to be restarted counts as running.
    NotRunning,
    /// Removed.
    Removed,
}

pub(super) fn wait_call(id: &str, condition: Condition) -> Call {
    let condition = match condition {
        Condition::NotRunning => "not-running",
        Condition::Removed => "removed",
    };
    Call::post(format!("/containers/{id}/wait")).with("condition", Some(condition))
}

/// The exit code in the answer to a `wait`.
pub(super) async fn read_wait(answer: Answer) -> Result<i64> {
    let waited: api::Waited = answer.json().await?;
    match waited.error.and_then(|error| error.message).filter(|message| !message.is_empty()) {
        Some(message) => Err(Error::Daemon { status: 500, message }),
        // Podman says -1 of a container that never ran, docker 0.
        None => Ok(waited.status_code.max(0)),
    }
}
