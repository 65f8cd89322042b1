//! From a name as typed to a container and the engine that has it.
//!
//! An engine is opened when somebody first asks for it, so that a stop of a local container never waits for docker.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use gracefully_engine::{Container, Engine, Error, Kind};
use tokio::sync::OnceCell;

use crate::args::{EngineChoice, Global};
use crate::engines;
use crate::target::Target;

/// The engines, each opened at most once.
#[derive(Debug)]
pub(crate) struct Engines {
    global: Global,
    local: Slot,
    docker: Slot,
    process: Slot,
}

type Slot = OnceCell<Result<Arc<dyn Engine>, Arc<Error>>>;

/// A container and the engine that has it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) container: Container,
}

impl Engines {
    pub(crate) fn new(global: Global) -> Self {
        Self { global, local: Slot::new(), docker: Slot::new(), process: Slot::new() }
    }

    /// Engines that are open already; an engine that is not among them is opened as usual.
    #[cfg(test)]
    pub(crate) fn with(global: Global, engines: impl IntoIterator<Item = Arc<dyn Engine>>) -> Self {
        let all = Self::new(global);
        for engine in engines {
            all.slot(engine.kind()).set(Ok(engine)).expect("one engine of a kind");
        }
        all
    }

    /// An engine, opened if it is not yet.
    pub(crate) async fn get(&self, kind: Kind) -> Result<Arc<dyn Engine>, Arc<Error>> {
        self.slot(kind)
            .get_or_init(|| async { engines::open(kind, &self.global).map_err(Arc::new) })
            .await
            .clone()
    }

    fn slot(&self, kind: Kind) -> &Slot {
        match kind {
            Kind::Local => &self.local,
            Kind::Docker => &self.docker,
            Kind::Process => &self.process,
        }
    }

    /// Which engines a list covers.
    pub(crate) fn listed(&self) -> &'static [Kind] {
        match self.choice() {
            EngineChoice::Auto => &[Kind::Local, Kind::Docker],
            EngineChoice::Docker => &[Kind::Docker],
            EngineChoice::Local => &[Kind::Local],
        }
    }

    /// Does the command line say where docker's daemon is? Then it is meant to be there.
    pub(crate) fn docker_is_named(&self) -> bool {
        self.global.host.is_some()
    }

    /// What `--engine` says.
    pub(crate) fn choice(&self) -> EngineChoice {
        self.global.engine
    }

    /// `--config`
    pub(crate) fn docker_config(&self) -> Option<std::path::PathBuf> {
        self.global.docker.config.clone()
    }

    /// Looks up a target as typed. Without a prefix and without `--engine` the local engine is asked first, and
    /// docker only if that does not have it.
    pub(crate) async fn find(&self, text: &str) -> Result<Found, Missing> {
        let target = Target::parse(text, self.choice()).map_err(|why| Missing::Unasked(why.to_string()))?;
        if let Some(kind) = target.engine {
            return self.find_in(kind, &target.name).await.map_err(|error| Missing::In(kind, error));
        }
        let mut asked = Vec::new();
        for kind in [Kind::Local, Kind::Docker] {
            match self.find_in(kind, &target.name).await {
                Ok(found) => return Ok(found),
                // It has several of them: that is an answer.
                Err(error) if error.is_ambiguous() => {
                    return Err(Missing::In(kind, error));
                }
                Err(error) => asked.push((kind, error)),
            }
        }
        Err(Missing::Everywhere(target.name, asked))
    }

    async fn find_in(&self, kind: Kind, name: &str) -> Result<Found, Arc<Error>> {
        let engine = self.get(kind).await?;
        let container = engine.find(name).await?;
        Ok(Found { engine, container })
    }
}

/// Why a target was not found.
#[derive(Clone, Debug)]
pub(crate) enum Missing {
    /// It is not a target at all.
    Unasked(String),
    /// One engine was asked.
    In(Kind, Arc<Error>),
    /// All were asked for this name; what each answered.
    Everywhere(String, Vec<(Kind, Arc<Error>)>),
}

impl Missing {
    /// Did every engine that was asked say that there is no such container?
    pub(crate) fn is_certain(&self) -> bool {
        match self {
            Self::Unasked(_) => false,
            Self::In(_, error) => error.is_not_found(),
            // A docker that is not there has no containers; one that does not answer may have.
            Self::Everywhere(_, asked) => asked
                .iter()
                .all(|(_, error)| error.is_not_found() || matches!(**error, Error::NoDaemon { .. })),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked(why) => f.write_str(why),
            Self::In(kind, error) => f.write_str(&in_words(*kind, error)),
            Self::Everywhere(name, asked) => {
                write!(f, "No such container: {name} (")?;
                for (i, (kind, error)) in asked.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    let kind = kind.name();
                    if error.is_not_found() {
                        write!(f, "{separator}{kind} does not have it")?;
                    } else {
                        write!(f, "{separator}{kind} could not be asked: {}", chain(error))?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

impl std::error::Error for Missing {}

/// An engine's error in docker's words: what the daemon finds out itself begins with "Error response from daemon".
pub(crate) fn in_words(kind: Kind, error: &Error) -> String {
    let from_daemon = matches!(
        error,
        Error::NotFound { .. } | Error::Ambiguous { .. } | Error::NotRunning { .. } | Error::Running { .. }
    );
    match kind {
        Kind::Docker if from_daemon => format!("Error response from daemon: {error}"),
        Kind::Docker | Kind::Local | Kind::Process => chain(error),
    }
}

/// An error and its sources, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

impl Found {
    /// An error of this container's engine, in docker's words.
    pub(crate) fn in_words(&self, error: &Error) -> String {
        in_words(self.engine.kind(), error)
    }
}
