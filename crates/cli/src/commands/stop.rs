//! `stop` and `restart`.
//!
//! Every target is looked up and stopped on its own, at most 50 at once. A container that is named twice is stopped
//! once, and has one verdict.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};
use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::event::Progress;
use gracefully_core::phase::Phase;
use gracefully_core::plan::Plan;
use gracefully_core::policy::{Care, Policy, Request, Then};
use gracefully_core::report::{Report, Target, Verdict};
use gracefully_core::{diagnosis, exit};
use gracefully_engine::{Conductor, Container, Kind, State};
use gracefully_linux::family;
use tokio::sync::mpsc;

use self::reports::Reports;
use super::{Failures, each, signal};
use crate::args::{How, Restarting, Stop, Targets, Told};
use crate::discovery::{Discovery, Gateways, everywhere};
use crate::display::{preview, verdict, why_failed};
use crate::drive::{self, Requested};
use crate::interrupt::{FORCED, FORCED_AFTER, Interrupt, Interrupts};
use crate::lookup::Found;
use crate::parallel::{AT_ONCE, in_order};
use crate::settings::Settings;

mod reports;

/// How long a stop that was aborted before its signal may take to put things right again.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn stop(settings: &Settings, args: Stop) -> anyhow::Result<u8> {
    let request = request(settings, &args.how, &args.targets, Then::Stay)?;
    if args.dry_run {
        return dry_run(settings, &args.targets.targets, request).await;
    }
    carry_out(settings, &args.targets.targets, &args.told, request, Order::AtOnce).await
}

pub(super) async fn restart(settings: &Settings, args: Restarting) -> anyhow::Result<u8> {
    let mut request = request(settings, &args.how, &args.targets, Then::Start)?;
    request.care.ready = args.ready_timeout.unwrap_or(request.care.ready);
    if args.dry_run {
        return dry_run(settings, &args.targets.targets, request).await;
    }
    let order = args.rolling.map_or(Order::AtOnce, |at_once| Order::Rolling(at_once.get()));
    carry_out(settings, &args.targets.targets, &args.told, request, order).await
}

/// In which order several targets are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// All at once, as many as there may be.
    AtOnce,
    /// So many at once, and none after one that failed.
    Rolling(usize),
}

fn request(settings: &Settings, how: &How, targets: &Targets, then: Then) -> anyhow::Result<Request> {
    if how.time.is_some() {
        // Docker says this on stdout, in front of the names; scripts are better off without.
        settings.console.note("Flag --time has been deprecated, use --timeout instead");
    }
    anyhow::ensure!(
        how.time.is_none() || how.timeout.is_none(),
        "conflicting options: cannot specify both --timeout and --time"
    );
    anyhow::ensure!(
        how.drain.is_none() || !how.no_drain,
        "conflicting options: cannot specify both --drain and --no-drain"
    );
    anyhow::ensure!(
        how.gateways.is_empty() || targets.targets.len() == 1,
        "conflicting options: --gateway is about one container; for several, give each its label gracefully.gateway"
    );
    let care = Care {
        settle: how.settle,
        drain: if how.no_drain { None } else { how.drain.or(Care::default().drain) },
        new: how.new,
        full_timeout: how.full_timeout,
        ..Care::default()
    };
    // What is wrong with a URL is said before anybody is looked for.
    Gateways::open(&how.gateways, false)?;
    Ok(Request {
        timeout: how.timeout.or(how.time),
        signal: signal(how.signal.as_deref())?,
        then,
        care,
        gateways: how.gateways.clone(),
    })
}

/// Stops all targets and tells how it went.
async fn carry_out(
    settings: &Settings,
    targets: &[String],
    told: &Told,
    request: Request,
    order: Order,
) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let console = &settings.console;
    let mut reports = Reports::open(told.report.as_deref())?;
    let mut failures = Failures::default();
    let mut forced = false;
    let mut told_about = HashSet::new();

    let at_once = match order {
        Order::AtOnce => AT_ONCE,
        Order::Rolling(at_once) => at_once,
    };
    let going = Rc::new(Going {
        settings,
        request,
        order,
        orders: RefCell::default(),
        leaving: Cell::new(false),
        failed: Cell::new(false),
    });
    let shared = RefCell::new(HashMap::new());
    let jobs = targets.iter().map(|target| one(&going, &shared, target));
    let all = in_order(jobs, at_once, |place, result: Ended| {
        let name = &targets[place];
        let report = match result {
            Ok(report) => report,
            Err(why) => return failures.add(why),
        };
        let failed = report.as_ref().and_then(|report| failure(going.request.then, report));
        if failed.is_none() && !reports.on_stdout() {
            console.line(name);
        }
        let Some(report) = report else { return };
        if let Some(why) = failed {
            failures.add(format!("{name}: {why}"));
        }
        forced |= report.verdict == Verdict::Forced;
        if told_about.insert((report.target.engine.clone(), report.target.id.clone())) {
            console.note(&verdict(name, &report).join("\n"));
            if let Err(why) = reports.add(console, &report) {
                failures.add(format!("{why:#}"));
            }
        }
    });
    let mut all = Box::pin(all);
    let interrupt = tokio::select! {
        biased;
        () = &mut all => None,
        interrupt = interrupts.next() => Some(interrupt),
    };
    if let Some(interrupt) = interrupt {
        return Ok(leave(&going, interrupt, &mut interrupts, all).await);
    }
    drop(all);
    Ok(match failures.tell(settings) {
        exit::OK if forced && told.strict => exit::NOT_GRACEFUL,
        code => code,
    })
}

/// Why it did not come to what was asked for.
fn failure(asked: Then, report: &Report) -> Option<String> {
    match (report.verdict, asked, report.then) {
        (Verdict::Failed, ..) => Some(why_failed(report)),
        (_, Then::Start, Then::Stay) => {
            Some("stopped, but not started again: a stop was asked for meanwhile".to_owned())
        }
        (_, Then::Stay, _) | (_, Then::Start, Then::Start) => None,
    }
}

/// How one target ended: the report, or nothing if it was not running; or why it could not be stopped.
type Ended = Result<Option<Rc<Report>>, String>;

/// The stops under way, by container.
type Stops<'a> = RefCell<HashMap<(Kind, String), Shared<LocalBoxFuture<'a, Ended>>>>;

/// What all stops of this command have in common.
struct Going<'a> {
    settings: &'a Settings,
    request: Request,
    order: Order,
    /// To whom an abort has to be told.
    orders: RefCell<Vec<Orders>>,
    /// Nothing new is begun.
    leaving: Cell<bool>,
    /// One has failed.
    failed: Cell<bool>,
}

/// The way to one stop.
struct Orders {
    to: mpsc::UnboundedSender<drive::Order>,
    /// Has the stop signal been sent? Then it is too late for an abort.
    signalled: Arc<AtomicBool>,
}

/// Stops one target, or joins the stop that is under way because the container was named before.
async fn one<'a>(going: &Rc<Going<'a>>, stops: &Stops<'a>, name: &'a str) -> Ended {
    if going.leaving.get() {
        return Ok(None);
    }
    if going.failed.get() && going.order != Order::AtOnce {
        return Err(format!("{name}: left alone, because one before it did not come up"));
    }
    let ended = try_one(going, stops, name).await;
    let failed = match &ended {
        Ok(report) => report.as_ref().is_some_and(|report| report.verdict == Verdict::Failed),
        Err(_) => true,
    };
    going.failed.set(going.failed.get() || failed);
    ended
}

async fn try_one<'a>(going: &Rc<Going<'a>>, stops: &Stops<'a>, name: &'a str) -> Ended {
    let found = going.settings.engines.find(name).await.map_err(|why| why.to_string())?;
    let key = (found.engine.kind(), found.container.id.clone());
    let begin = || {
        let going = going.clone();
        async move { stop_one(&going, name, found).await.map(|report| report.map(Rc::new)) }
            .boxed_local()
            .shared()
    };
    let stop = stops.borrow_mut().entry(key).or_insert_with(begin).clone();
    stop.await
}

async fn stop_one(going: &Going<'_>, name: &str, found: Found) -> Result<Option<Report>, String> {
    let asked = Asked::of(&going.request, &found.container).await?;
    let report = conduct(going, name, &found, &asked).await.map_err(|error| found.in_words(&error))?;
    let Found { engine, container } = &found;
    let removed = container.auto_remove || container.state == State::Removing;
    if going.request.then == Then::Stay && removed {
        match engine.wait_removed(container).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(found.in_words(&error)),
        }
    }
    Ok(report)
}

/// Stops it, or starts it if a restart finds it not running. No report: there was nothing to stop.
async fn conduct(
    going: &Going<'_>,
    name: &str,
    found: &Found,
    asked: &Asked,
) -> gracefully_engine::Result<Option<Report>> {
    if let Some(conductor) = conductor(found).await? {
        match end(going, name, found, conductor, asked).await {
            // It ended between the look-up and now.
            Err(error) if error.is_not_running() => {}
            ended => return ended.map(Some),
        }
    }
    let Found { engine, container } = found;
    match going.request.then {
        Then::Stay => Ok(None),
        Then::Start => engine.start(container).await.map(|()| None),
    }
}

/// Who carries out a stop; `None`: there is nothing to stop.
async fn conductor(found: &Found) -> gracefully_engine::Result<Option<Conductor>> {
    let Found { engine, container } = found;
    // The embedded engine shows a container as dead if its record cannot be read. It may well run: the engine says so.
    let unknown = container.state == State::Dead && engine.kind() == Kind::Local;
    if !container.state.is_up() && !unknown {
        return Ok(None);
    }
    match engine.conductor(container).await {
        Ok(conductor) => Ok(Some(conductor)),
        Err(error) if error.is_not_running() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets them carry it out.
async fn end(
    going: &Going<'_>,
    name: &str,
    found: &Found,
    conductor: Conductor,
    asked: &Asked,
) -> gracefully_engine::Result<Report> {
    let mut line = going.settings.console.watch(name);
    let (to, mut orders) = mpsc::unbounded_channel();
    let signalled = Arc::new(AtomicBool::new(false));
    going.orders.borrow_mut().push(Orders { to, signalled: signalled.clone() });
    let mut onlooker = |progress: Progress| {
        if matches!(progress, Progress::Began(phase) if phase >= Phase::Terminate) {
            signalled.store(true, Ordering::Relaxed);
        }
        line.show(&progress);
    };
    match conductor {
        Conductor::Monitor(control) => {
            let abort = async {
                // This command gives no other order.
                if orders.recv().await.is_none() {
                    pending::<()>().await;
                }
            };
            control.stop(&asked.request, abort, &mut onlooker).await
        }
        Conductor::Caller(instance) => {
            let requested = Requested::now();
            let (target, discovery) = (target(found), asked.discovery(instance.main_pid()).await);
            let plan = asked.plan(found, discovery.as_deref());
            instance.check(&plan.policy)?;
            let stop = drive::Stop { target, plan, requested, discovery };
            Ok(drive::walk(&*instance, stop, &mut orders, &mut onlooker).await)
        }
    }
}

/// Leaves in the middle of stops. Those whose signal is not sent yet are aborted, and the programs go on as if never
/// asked; the others are finished by their engines.
async fn leave(
    going: &Going<'_>,
    first: Interrupt,
    interrupts: &mut Interrupts,
    all: impl Future<Output = ()> + Unpin,
) -> u8 {
    going.leaving.set(true);
    let mut to_abort = false;
    for orders in &*going.orders.borrow() {
        // A stop that has ended does not listen any more.
        let listening = orders.to.send(drive::Order::Abort).is_ok();
        to_abort |= listening && !orders.signalled.load(Ordering::Relaxed);
    }
    if !to_abort {
        return first.code();
    }
    let further = async {
        for _ in 1..FORCED_AFTER {
            interrupts.next().await;
        }
    };
    tokio::select! {
        () = all => first.code(),
        () = tokio::time::sleep(ABORT_WITHIN) => first.code(),
        () = further => {
            going.settings.console.error(FORCED);
            exit::FAILURE
        }
    }
}

/// Prints what would be done.
async fn dry_run(settings: &Settings, targets: &[String], request: Request) -> anyhow::Result<u8> {
    each(settings, targets, async |name| {
        let found = settings.engines.find(name).await.map_err(|why| why.to_string())?;
        let asked = Asked::of(&request, &found.container).await?;
        let conductor = conductor(&found).await.map_err(|error| found.in_words(&error))?;
        let pid = conductor.as_ref().and_then(|conductor| main_pid(conductor, &found));
        let discovery = asked.discovery(pid).await;
        let plan = asked.plan(&found, discovery.as_deref());
        if let Some(Conductor::Caller(instance)) = &conductor {
            instance.check(&plan.policy).map_err(|error| found.in_words(&error))?;
        }
        let family = pid.and_then(family::family);
        let mut findings =
            family.map(|family| diagnosis::before(plan.policy.signal.value, &family)).unwrap_or_default();
        let short =
            discovery.as_deref().and_then(|discovery| drive::short_of_time(&plan, discovery.settle()));
        findings.extend(short.map(|why| Finding::new(Code::Discovery, why)));
        let drains = plan.work.drain.is_some() || plan.work.settle.is_some();
        let survey = pid.filter(|_| drains).map(|pid| drive::survey(pid, &found.container.network));
        Ok(Some(preview(&target(&found), &found.container, &plan, survey.as_ref(), &findings).join("\n")))
    })
    .await
}

/// The main process, if it runs on this machine.
fn main_pid(conductor: &Conductor, found: &Found) -> Option<u32> {
    match conductor {
        Conductor::Caller(instance) => instance.main_pid(),
        Conductor::Monitor(_) => found.container.pid,
    }
}

/// What was asked for one target.
struct Asked {
    request: Request,
    gateways: Option<Arc<dyn Discovery>>,
}

impl Asked {
    /// The gateways are those of the command line and those of its label. One that does not know the program of a container that runs is
    /// an error: then nothing has happened yet.
    async fn of(request: &Request, container: &Container) -> Result<Self, String> {
        let labelled = GATEWAY_LABELS.iter().filter_map(|label| container.labels.get(*label));
        let labelled = labelled.flat_map(|urls| urls.split_whitespace()).map(str::to_owned);
        let urls = request.gateways.iter().cloned().chain(labelled);
        let request = Request { gateways: urls.collect(), ..request.clone() };
        let gateways = Gateways::open(&request.gateways, false)
            .map_err(|error| format!("{}: {error}", container.name))?;
        if let Some(gateways) = gateways.as_ref().filter(|_| container.state.is_up()) {
            gateways.check().await.map_err(|why| format!("{}: {why}", container.name))?;
        }
        Ok(Self { request, gateways: gateways.map(|gateways| Arc::new(gateways) as _) })
    }

    /// Where others find the program with this main process.
    async fn discovery(&self, main: Option<u32>) -> Option<Arc<dyn Discovery>> {
        everywhere(self.gateways.clone(), main).await
    }

    fn plan(&self, found: &Found, discovery: Option<&dyn Discovery>) -> Plan {
        let policy = Policy::resolve(&self.request, &found.container.settings);
        drive::plan(policy, self.request.care, discovery)
    }
}

/// Of a container: the URLs of its gateways, with white space in between. The second word is for registries in which the program is by
/// itself; both mean the same.
const GATEWAY_LABELS: [&str; 2] = ["gracefully.gateway", "gracefully.deregister"];

fn target(found: &Found) -> Target {
    Target {
        engine: found.engine.kind().name().to_owned(),
        id: found.container.id.clone(),
        name: found.container.name.clone(),
    }
}
