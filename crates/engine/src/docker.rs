//! The Engine API of Docker, and of Podman's compatible socket.
//!
//! * [`endpoint`]: where the daemon is, by the docker CLI's rules.
//! * `transport`, `tls`, `client`: one request, and the answer to it.
//! * `api`, `convert`, `settings`: from the daemon's JSON to [`Container`].
//! * `stop`, `instance`, `host`: one stop.
//! * `logs`: what a container has written.
//!
//! **Errors.** What the daemon refuses is [`Error::Daemon`] with its own text, so that it prints as the docker CLI
//! prints it; [`Error::is_not_found`] and its siblings tell what it means. Only during a stop ([`Instance`]) not found
//! and not running are [`Error::NotFound`] and [`Error::NotRunning`], as with every engine.
//!
//! **Deadlines.** A question has 10 s, an order 30 s beyond the time that it grants the container. What waits by its
//! nature has none.
//!
//! [`Instance`]: crate::Instance

pub mod endpoint;

mod api;
mod client;
mod convert;
mod errors;
mod host;
mod instance;
mod logs;
mod settings;
mod stop;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use gracefully_core::signal::Signal;

use self::client::{Call, Client, ORDER, QUESTION};
use self::endpoint::Endpoint;
use self::instance::{Condition, DockerInstance, read_wait, wait_call};
use crate::filter::by_key;
use crate::{Conductor, Container, Engine, Error, Kind, ListOptions, LogChunk, LogOptions, Removal, Result};

/// How long a start or a removal may take: volumes, networks and large file systems are slow, not hanging.
const SLOW: Duration = Duration::from_mins(2);

/// How many containers are looked at at once.
const AT_ONCE: usize = 16;

/// A Docker or Podman daemon.
#[derive(Clone, Debug)]
pub struct Docker {
    client: Arc<Client>,
}

impl Docker {
    /// Prepares for the daemon at `endpoint`. Connects to nobody yet; reads the TLS files, if there are any.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        Ok(Self { client: Arc::new(Client::new(endpoint)?) })
    }

    async fn look_at(&self, name: &str, ask_service: AskService) -> Result<Container> {
        let inspect: api::Inspect = self.client.ask(inspect_call(name)?).await?;
        let flavour = self.client.daemon().await?.flavour;
        let mut settings = settings::of_container(inspect.config.as_ref(), flavour);
        if ask_service == AskService::Yes {
            settings::add_service(&mut settings, inspect.config.as_ref(), &self.client).await;
        }
        Ok(convert::container(inspect, settings))
    }
}

/// Whether the settings of a Swarm task matter enough for another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskService {
    Yes,
    No,
}

#[async_trait]
impl Engine for Docker {
    fn kind(&self) -> Kind {
        Kind::Docker
    }

    async fn find(&self, name: &str) -> Result<Container> {
        self.look_at(name, AskService::Yes).await
    }

    /// What the list itself tells lacks times and exit codes, so every container is looked at.
    async fn list(&self, options: &ListOptions) -> Result<Vec<Container>> {
        let filters = serde_json::to_string(&by_key(&options.filters)).expect("texts are JSON");
        let call = Call::get("/containers/json")
            .with("all", options.all.then_some(1))
            .with("filters", (!options.filters.is_empty()).then_some(filters));
        let listed: Vec<api::Summary> = self.client.ask(call).await?;
        let mut looks = stream::iter(listed)
            .map(|summary| async move { self.look_at(&summary.id, AskService::No).await })
            .buffered(AT_ONCE);
        let mut containers = Vec::new();
        while let Some(look) = looks.next().await {
            match look {
                Ok(container) => containers.push(container),
                Err(error) if error.is_not_found() => {} // Removed in between.
                Err(error) => return Err(error),
            }
        }
        // Docker's list is in this order already, Podman's is not.
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(containers)
    }

    async fn inspect(&self, container: &Container) -> Result<serde_json::Value> {
        self.client.ask(inspect_call(&container.id)?).await
    }

    async fn conductor(&self, container: &Container) -> Result<Conductor> {
        let instance = DockerInstance::new(Arc::clone(&self.client), container).await?;
        Ok(Conductor::Caller(Box::new(instance)))
    }

    async fn start(&self, container: &Container) -> Result<()> {
        start(&self.client, &container.id).await
    }

    async fn signal(&self, container: &Container, signal: Signal) -> Result<()> {
        // Without a name the daemon kills, and returns when the container has stopped.
        let name = (signal != Signal::KILL).then_some(signal);
        let call = Call::post(format!("/containers/{}/kill", container.id)).with("signal", name);
        self.client.order(call, Some(ORDER)).await
    }

    async fn wait(&self, container: &Container) -> Result<i64> {
        read_wait(self.client.open(wait_call(&container.id, Condition::NotRunning)).await?).await
    }

    async fn wait_removed(&self, container: &Container) -> Result<()> {
        let wait =
            async { read_wait(self.client.open(wait_call(&container.id, Condition::Removed)).await?).await };
        match wait.await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn logs(
        &self,
        container: &Container,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let inspect: api::Inspect = self.client.ask(inspect_call(&container.id)?).await?;
        let terminal = inspect.config.and_then(|config| config.tty).unwrap_or(false);
        let form = if terminal { logs::Form::Raw } else { logs::Form::Multiplexed };
        let limit = (!options.follow).then_some(QUESTION);
        logs::open(&self.client, logs::call(&container.id, options), form, limit).await
    }

    async fn remove(&self, container: &Container, how: Removal) -> Result<()> {
        let call = Call::delete(format!("/containers/{}", container.id))
            .with("force", how.force.then_some(1))
            .with("v", how.volumes.then_some(1));
        self.client.order(call, Some(SLOW)).await
    }
}

async fn start(client: &Client, id: &str) -> Result<()> {
    client.order(Call::post(format!("/containers/{id}/start")), Some(SLOW)).await
}

/// Looks a name, an identifier or the beginning of one up; the rules are the daemon's. One slash in front is allowed,
/// as docker itself writes names.
fn inspect_call(name: &str) -> Result<Call> {
    let name = name.strip_prefix('/').unwrap_or(name);
    match name {
        "" => Err(Error::InvalidName { name: name.into() }),
        // The daemon's router decodes a path and then resolves it, so these would ask for something else.
        "." | ".." => Err(Error::NotFound { name: name.into() }),
        _ if name.contains('/') => Err(Error::NotFound { name: name.into() }),
        _ => Ok(Call::get(format!("/containers/{}/json", client::escape(name)))),
    }
}
