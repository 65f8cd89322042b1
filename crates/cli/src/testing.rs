//! An engine that lives in memory, and a console that is written to a string.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::Settings as Configured;
use gracefully_core::signal::Signal;
use gracefully_engine::{
    Conductor, Container, Engine, Error, Instance, Kind, ListOptions, LogChunk, LogOptions, LogStream,
    Network, Removal, Result, State, Terminate,
};

use crate::args::Args;
use crate::commands;
use crate::display::Console;
use crate::lookup::Engines;
use crate::settings::Settings;
use crate::usage::{Parsed, Program, parse};

/// What a command came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command line against `engines`, in this process.
pub(crate) fn gracefully(line: &str, engines: impl IntoIterator<Item = Arc<Fake>>) -> Ran {
    let words = std::iter::once("gracefully").chain(line.split(' '));
    let words = words.map(|word| if word == "''" { "" } else { word }.into()).collect();
    let Ok(Parsed::Do(args)) = parse(Program::Standalone, words) else { panic!("{line}") };
    let Args { global, verb, .. } = *args;
    let (stdout, stderr) = (Text::default(), Text::default());
    let engines = engines.into_iter().map(|engine| engine as Arc<dyn Engine>);
    let settings = Settings {
        program: Program::Standalone,
        console: Console::writing_to(Box::new(stdout.clone()), Box::new(stderr.clone())),
        engines: Engines::with(global, engines),
    };
    let code = commands::execute(&settings, verb).unwrap_or_else(|error| {
        settings.console.error(&format!("{error:#}"));
        1
    });
    Ran { code, stdout: stdout.take(), stderr: stderr.take() }
}

/// An engine whose containers do what they are told at once.
#[derive(Debug)]
pub(crate) struct Fake {
    kind: Kind,
    containers: Vec<Container>,
    done: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn new(kind: Kind, containers: impl IntoIterator<Item = Container>) -> Arc<Self> {
        Arc::new(Self { kind, containers: containers.into_iter().collect(), done: Arc::default() })
    }

    /// What it was told to do, in order.
    pub(crate) fn done(&self) -> Vec<String> {
        self.log().clone()
    }

    fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.done.lock().unwrap()
    }

    fn note(&self, what: &str, container: &Container) {
        self.log().push(format!("{what} {}", container.name));
    }
}

/// A container whose exit code is 7; its ID begins with its name.
pub(crate) fn container(name: &str, state: State) -> Container {
    Container {
        id: format!("{name}0123456789"),
        name: name.into(),
        image: "image".into(),
        command: vec!["app".into()],
        state,
        health: None,
        created: None,
        started: None,
        finished: None,
        exit_code: Some(7),
        pid: None,
        ports: String::new(),
        network: Network::default(),
        settings: Configured::default(),
        labels: std::collections::BTreeMap::new(),
        auto_remove: false,
        note: None,
    }
}

#[async_trait]
impl Engine for Fake {
    fn kind(&self) -> Kind {
        self.kind
    }

    async fn find(&self, name: &str) -> Result<Container> {
        let by = |same: &dyn Fn(&Container) -> bool| self.containers.iter().find(|c| same(c)).cloned();
        by(&|c| c.name == name)
            .or_else(|| by(&|c| c.id.starts_with(name)))
            .ok_or_else(|| Error::NotFound { name: name.into() })
    }

    async fn list(&self, options: &ListOptions) -> Result<Vec<Container>> {
        Ok(self.containers.iter().filter(|c| options.all || c.state.is_up()).cloned().collect())
    }

    async fn inspect(&self, container: &Container) -> Result<serde_json::Value> {
        Ok(serde_json::json!({ "Name": container.name }))
    }

    async fn conductor(&self, container: &Container) -> Result<Conductor> {
        let running = Running { container: container.clone(), done: self.done.clone() };
        Ok(Conductor::Caller(Box::new(running)))
    }

    async fn start(&self, container: &Container) -> Result<()> {
        self.note("start", container);
        Ok(())
    }

    async fn signal(&self, container: &Container, signal: Signal) -> Result<()> {
        if !container.state.is_up() {
            return Err(Error::NotRunning { id: container.id.clone() });
        }
        self.note(&signal.name(), container);
        Ok(())
    }

    async fn wait(&self, container: &Container) -> Result<i64> {
        Ok(container.exit_code.unwrap_or_default())
    }

    async fn wait_removed(&self, container: &Container) -> Result<()> {
        self.note("wait_removed", container);
        Ok(())
    }

    async fn logs(&self, _: &Container, _: &LogOptions) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let chunk = |stream, bytes: &[u8]| Ok(LogChunk { stream, bytes: bytes.to_vec() });
        Ok(stream::iter([chunk(LogStream::Stdout, b"out\n"), chunk(LogStream::Stderr, b"err")]).boxed())
    }

    async fn remove(&self, container: &Container, how: Removal) -> Result<()> {
        if container.state.is_up() && !how.force {
            return Err(Error::Running { name: container.name.clone() });
        }
        self.note("remove", container);
        Ok(())
    }
}

/// A container whose name begins with "deaf" has to be killed; the others exit when asked.
#[derive(Debug)]
struct Running {
    container: Container,
    done: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Instance for Running {
    fn main_pid(&self) -> Option<u32> {
        None
    }

    fn kills_by_itself(&self) -> bool {
        true
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        let line = format!("terminate {} {}", self.container.name, order.policy.signal.value);
        self.done.lock().unwrap().push(line);
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        let deaf = self.container.name.starts_with("deaf");
        Ok(if deaf { ExitStatus::Signal(Signal::KILL) } else { ExitStatus::Code(0) })
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        Ok(())
    }
}

/// Text that two can write to.
#[derive(Clone, Debug, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
