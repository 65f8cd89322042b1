//! The process that walks one stop on behalf of a container's monitor.
//!
//! The monitor of the local engine is small; what a stop takes besides a signal is not. So the monitor starts this
//! process when a client asks for a stop. It walks the sequence as the client does for docker, with the same
//! [`drive::walk`], on an instance whose orders go to the monitor. When it has reported it ends.
//!
//! The two speak over a socket that is our standard input (`gracefully_monitor::protocol`). If that ends, the monitor
//! is dead, and so is this stop: nobody would carry out our orders.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join;
use gracefully_core::diagnosis::Finding;
use gracefully_core::event::ExitStatus;
use gracefully_core::exit::USAGE;
use gracefully_engine::local::lines;
use gracefully_engine::{Error, Instance, Result, Terminate};
use gracefully_monitor::protocol::{Job, News, Order, raw};
use tokio::io::{AsyncBufRead, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::discovery::{Discovery, Gateways, Unreachable, everywhere};
use crate::drive::{self, Requested, Stop};

/// The conductor's main function.
pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(async { conduct(monitor()?).await })) {
        Ok(Some(())) => ExitCode::SUCCESS,
        // The monitor is dead, or we are nobody's conductor.
        Ok(None) | Err(_) => ExitCode::FAILURE,
    }
}

/// The monitor's socket.
fn monitor() -> Option<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok()?;
    let socket = StdStream::from(socket);
    socket.set_nonblocking(true).ok()?;
    UnixStream::from_std(socket).ok()
}

/// `None`: the monitor has left in the middle.
async fn conduct(monitor: UnixStream) -> Option<()> {
    let (from, mut to) = monitor.into_split();
    let mut from = BufReader::with_capacity(4096, from);
    let job: Job = lines::read(&mut from).await?;

    let (orders, mut ordered) = mpsc::unbounded_channel();
    let (tell, told) = watch::channel(Known { main: job.main, ..Known::default() });
    let (say, mut said) = mpsc::unbounded_channel();
    let walk = async move {
        let contained = Contained { id: job.target.id.clone(), known: told, say: say.clone() };
        let requested = Requested::before(job.requested_at, job.elapsed);
        // The client has opened them, too; but its environment is another.
        let discovery: Option<Arc<dyn Discovery>> = match Gateways::open(&job.gateways, job.is_resumed) {
            Ok(gateways) => gateways.map(|gateways| Arc::new(gateways) as _),
            Err(error) => Some(Arc::new(Unreachable(error.to_string()))),
        };
        let discovery = everywhere(discovery, job.main).await;
        let plan = drive::plan(job.policy, job.care, discovery.as_deref());
        let stop = Stop { target: job.target, plan, requested, discovery };
        let mut onlooker = |progress| drop(say.send(Order::Progress(raw(&progress))));
        let report = drive::walk(&contained, stop, &mut ordered, &mut onlooker).await;
        let _ = say.send(Order::Report(raw(&report)));
    };
    // It ends when the walk has, and everything is said.
    let talk = async {
        while let Some(order) = said.recv().await {
            lines::write(&mut to, &order).await.ok()?;
        }
        Some(())
    };
    tokio::select! {
        ((), talked) = join(walk, talk) => talked,
        () = listen(&mut from, &orders, &tell) => None,
    }
}

/// Returns when the monitor is gone.
async fn listen(
    from: &mut (impl AsyncBufRead + Unpin),
    orders: &mpsc::UnboundedSender<drive::Order>,
    known: &watch::Sender<Known>,
) {
    while let Some(news) = lines::read(from).await {
        match news {
            // A stop that is over does not listen any more.
            News::Stop { budget, then, again } => {
                let _ = orders.send(drive::Order::Stop { budget, then, again });
            }
            News::Abort => drop(orders.send(drive::Order::Abort)),
            News::Ended { exit, findings } => known.send_modify(|known| {
                (known.main, known.ended, known.findings) = (None, Some(Ok(exit)), findings);
            }),
            News::Started(main) => known.send_modify(|known| {
                (known.main, known.started) = (main, Some(Ok(())));
            }),
            News::NotStarted(why) => known.send_modify(|known| known.started = Some(Err(why))),
            News::Failed(why) => known.send_modify(|known| known.ended = Some(Err(why))),
        }
    }
}

/// What the monitor has told us.
#[derive(Debug, Default)]
struct Known {
    /// The PID of the main process, as long as it runs.
    main: Option<u32>,
    ended: Option<std::result::Result<ExitStatus, String>>,
    findings: Vec<Finding>,
    started: Option<std::result::Result<(), String>>,
}

/// The container, as the executor of stops sees it.
#[derive(Debug)]
struct Contained {
    id: String,
    known: watch::Receiver<Known>,
    say: mpsc::UnboundedSender<Order>,
}

impl Contained {
    fn order(&self, order: Order) -> Result<()> {
        if self.known.borrow().ended.is_some() {
            return Err(Error::NotRunning { id: self.id.clone() });
        }
        // If the monitor does not hear it we end.
        let _ = self.say.send(order);
        Ok(())
    }
}

#[async_trait]
impl Instance for Contained {
    fn main_pid(&self) -> Option<u32> {
        self.known.borrow().main
    }

    /// The monitor does, also if we are lost.
    fn kills_by_itself(&self) -> bool {
        true
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        // Rounded up: nobody is killed before the time.
        let kill_after = order.kill_after.map(|after| after.as_micros().div_ceil(1000));
        let kill_after_ms = kill_after.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        self.order(Order::Terminate { kill_after_ms })
    }

    async fn exited(&self) -> Result<ExitStatus> {
        let mut known = self.known.clone();
        let known = known.wait_for(|known| known.ended.is_some()).await;
        match known.ok().and_then(|known| known.ended.clone()) {
            Some(Ok(exit)) => Ok(exit),
            Some(Err(why)) => {
                Err(Error::System { what: "the monitor's work".to_owned(), source: io::Error::other(why) })
            }
            // The monitor is dead, and we end.
            None => std::future::pending().await,
        }
    }

    async fn kill(&self) -> Result<()> {
        self.order(Order::Kill)
    }

    async fn start(&self) -> Result<()> {
        let mut known = self.known.clone();
        let _ = self.say.send(Order::Start);
        let known = known.wait_for(|known| known.started.is_some()).await;
        match known.ok().and_then(|known| known.started.clone()) {
            Some(Ok(())) => Ok(()),
            Some(Err(message)) => Err(Error::Start { code: USAGE, message }),
            None => std::future::pending().await,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        self.known.borrow().findings.clone()
    }
}
