//! ZooKeeper (≥ 3.5), in the layout of Curator's service discovery (`curator-x-discovery`).
//!
//! A registration is an **ephemeral node**: it lives as long as the **session** that has made it. A session is kept alive by whatever
//! its client says, a ping if it has nothing to say, and it outlives its connection: who still has its number and its password may go on
//! with it, at any server. Only two things end it: its client closes it, or the servers have heard nothing of it for its time-out.
//!
//! | node | kind | data |
//! |---|---|---|
//! | `BASE/SERVICE` and what is above it | container: the servers remove it when it has long been empty | |
//! | `BASE/SERVICE/ID` | ephemeral | JSON, as Curator's `ServiceInstance` is written; the metadata is its payload |
//!
//! In names of nodes, slashes of an id or a service are escaped as in a URL, and so are `.` and `..`, which no node may be called. BASE is
//! `/services` unless the URL has a path.
//!
//! What follows from that:
//!
//! * The `ttl` is the time-out of the session, and only a wish: servers grant something between twice and twenty times their tick, which
//!   is 2 s unless somebody has set it. They look for sessions that have run out once in a tick.
//! * A process that was killed leaves its node behind until its session has run out. So whoever registers and finds a node of that name
//!   takes it for such a one, and puts its own in its place, as Curator does. From then on it is not the other's any more: the owner of a
//!   node tells who has made it, and nobody takes out what is not his.
//! * The session's pings are sent by a thread of its own, for as long as there is a connection. A heartbeat looks whether the node is
//!   there and ours.
//! * A leave removes the node first, and then closes the session: after that nothing can come that was still on its way. To look for the
//!   node afterwards there is a session of its own, which is closed again.
//! * Whoever is dropped without a leave says nothing. It is as if its process had been killed.
//!
//! A call that gets no answer gives its connection up, so that nothing is done after its deadline; the next one goes on with the session,
//! at the next server.
//!
//! The user is `ZOOKEEPER_AUTH` (or in the file that `ZOOKEEPER_AUTH_FILE` names): `NAME:PASSWORD`, for the scheme `digest`. Its nodes are
//! changed by nobody else and read by all; that holds for the nodes above, too, if they had to be made, so where several users register
//! BASE has to be there before. Without a user everybody may do everything. TLS there is none.
//!
//! The client is the crate `zookeeper-client`; what it does is done on a runtime of tokio that nobody else sees, on one thread for a
//! connection. It leaves one thread to the process, `async-io`, which sleeps when there is no connection.

use std::convert::Infallible;
use std::future::Future;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use zookeeper_client::{
    Acl, Acls, Client, CreateMode, Error as Answer, Permission, SessionInfo, SessionState,
};

use crate::secret::Secret;
use crate::url::{Url, escaped};
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

const PORT: u16 = 2181;

const BASE: &str = "/services";

/// How long a node lives without a word of us.
const TTL: Duration = Duration::from_secs(10);

/// Servers that nobody has set otherwise make 4 s of it.
const LEAST: Duration = Duration::from_secs(2);

/// Whoever watches has heard of it after milliseconds; its server may be one that is behind the others.
const SETTLE: Duration = Duration::from_secs(2);

/// How often servers look for sessions that have run out: once in a tick, which they do not tell.
const LOOKED_FOR: Duration = Duration::from_secs(2);

/// How often a node is made: once for nothing as its parents are missing, once more as another is in its place, and as both may
/// happen again meanwhile.
const TRIES: usize = 4;

/// Nobody else changes it, and everybody reads it.
const OURS: &[Acl] =
    &[Acl::new_const(Permission::ALL, "auth", ""), Acl::new_const(Permission::READ, "world", "anyone")];

const USER: &str = "ZOOKEEPER_AUTH";
const HINT: &str =
    "set ZOOKEEPER_AUTH or ZOOKEEPER_AUTH_FILE to NAME:PASSWORD of a user who may write below the base";

/// A cluster of ZooKeeper.
#[derive(Debug)]
pub struct ZooKeeper {
    registry: String,
    servers: Vec<String>,
    /// The server that is asked first: the one that has answered last.
    first: usize,
    base: String,
    user: Option<Secret>,
    /// The session's time-out: what we want, or what was granted.
    ttl: Duration,
    connection: Option<Connection>,
    /// Outlives the connection.
    session: Option<SessionInfo>,
    /// The sessions that may have made our node.
    owners: Vec<i64>,
    entry: Option<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    instance: Instance,
    parent: String,
    path: String,
    data: String,
}

/// What a server has answered.
type Answered<T> = std::result::Result<T, Answer>;

/// Why a call has not succeeded.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The session has run out.
    Expired,
    /// The server does not let us.
    Refused(String),
    /// There is no connection, or not any more.
    Lost(String),
    /// There was no answer within this time.
    Late(Duration),
}

impl From<Answer> for Fault {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::SessionExpired => Self::Expired,
            Answer::NoAuth | Answer::AuthFailed | Answer::InvalidAcl => Self::Refused(answer.to_string()),
            // The client does not say what the only host has done.
            Answer::NoHosts => {
                Self::Lost("it cannot be reached, or does not speak ZooKeeper's protocol".into())
            }
            _ => Self::Lost(answer.to_string()),
        }
    }
}

impl ZooKeeper {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        settings.end()?;
        let base = match url.path.trim_end_matches('/') {
            "" => BASE,
            path => path,
        };
        if base.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
            return Err(
                url.error(&format!("{base:?} is no path of ZooKeeper's: a name in it is empty, . or .."))
            );
        }
        let user = Secret::from_environment(USER)?;
        if user.as_ref().is_some_and(|user| !user.expose().contains(':')) {
            return Err(Error::Secret { what: USER.into(), why: "it has the form NAME:PASSWORD".into() });
        }
        Ok(Self {
            registry: url.name(),
            servers: url.servers(PORT)?,
            first: 0,
            base: base.to_owned(),
            user,
            ttl,
            connection: None,
            session: None,
            owners: Vec::new(),
            entry: None,
        })
    }

    fn new_entry(&self, instance: &Instance) -> Entry {
        let parent = format!("{}/{}", self.base, name_of_node(&instance.service));
        let path = format!("{parent}/{}", name_of_node(&instance.id));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Entry { instance: instance.clone(), parent, path, data: data(instance, now) }
    }

    fn entry(&self) -> Result<Entry> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }

    /// Asks the server that we are connected with, and the next one if it does not answer; each has its share of the time.
    fn call<T, F>(&mut self, ask: impl Fn(Client) -> F, deadline: Deadline) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Answered<T>> + Send + 'static,
    {
        let mut why = "there was no time to ask".to_owned();
        let mut tried = 0;
        while tried < self.servers.len() {
            let left = u32::try_from(self.servers.len() - tried).unwrap_or(u32::MAX);
            let time = deadline.left() / left;
            if time.is_zero() {
                break;
            }
            let (had_connection, had_session) = (self.connection.is_some(), self.session.is_some());
            let fault = match self.ask_one(&ask, deadline.at_most(time)) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            self.connection = None;
            let server = &self.servers[self.first];
            // What we had was of no use any more, but the server may be.
            let is_tried = match fault {
                Fault::Refused(why) => return Err(self.refused(why)),
                Fault::Expired => {
                    self.session = None;
                    why = format!("{server}: a new session has expired");
                    !had_session
                }
                Fault::Lost(words) => {
                    why = format!("{server}: {words}");
                    !had_connection
                }
                Fault::Late(time) => {
                    why = format!("{server} does not answer within {} ms", time.as_millis());
                    true
                }
            };
            if is_tried {
                tried += 1;
                self.first = (self.first + 1) % self.servers.len();
            }
        }
        Err(Error::Failed { registry: self.registry.clone(), why })
    }

    fn ask_one<T, F>(
        &mut self,
        ask: &impl Fn(Client) -> F,
        deadline: Deadline,
    ) -> std::result::Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Answered<T>> + Send + 'static,
    {
        let time = deadline.left();
        let connection = match self.connection.take().filter(Connection::is_up) {
            Some(connection) => connection,
            None => self.connect(deadline)?,
        };
        let Connection { worker, client } = self.connection.insert(connection);
        worker.run(ask(client.clone()), deadline).ok_or(Fault::Late(time))?.map_err(Fault::from)
    }

    /// Goes on with the session if there is one, else begins one.
    fn connect(&mut self, deadline: Deadline) -> std::result::Result<Connection, Fault> {
        let time = deadline.left();
        let mut connector = Client::connector().with_session_timeout(self.ttl).with_fail_eagerly();
        if let Some(session) = &self.session {
            connector = connector.with_session(session.clone());
        }
        if let Some(user) = &self.user {
            connector = connector.with_auth("digest", user.expose().as_bytes());
        }
        let worker =
            Worker::start().map_err(|error| Fault::Lost(format!("there is no thread for it: {error}")))?;
        let server = self.servers[self.first].clone();
        let client = worker.run(async move { connector.connect(&server).await }, deadline);
        let client = client.ok_or(Fault::Late(time))??;
        self.ttl = client.session_timeout();
        if self.session.is_none() {
            self.session = Some(client.session().clone());
            self.owners.push(client.session_id().0);
        }
        Ok(Connection { worker, client })
    }

    /// Closes the session, and with it goes what it has made. Of one that cannot be closed the servers find out.
    fn close(&mut self, deadline: Deadline) {
        self.session = None;
        let Some(Connection { worker, client }) = self.connection.take() else { return };
        let mut state = client.state_watcher();
        // The last of its clients closes it.
        drop(client);
        let closed = async move {
            let mut now = state.state();
            while !now.is_terminated() {
                now = state.changed().await;
            }
        };
        worker.run(closed, deadline);
    }

    fn refused(&self, why: String) -> Error {
        Error::Refused { registry: self.registry.clone(), why, hint: HINT }
    }
}

impl Registry for ZooKeeper {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        let new = self.new_entry(instance);
        let entry = match self.entry.take() {
            // As it was, with the time at which it was registered.
            Some(entry) if entry.instance == *instance => entry,
            Some(entry) if entry.path == new.path => new,
            // The other node is left to the servers, with its session.
            _ => {
                (self.connection, self.session) = (None, None);
                self.owners.clear();
                new
            }
        };
        // From here on there may be something to be taken out.
        self.entry = Some(entry.clone());
        let acls = self.user.as_ref().map_or_else(Acls::anyone_all, |_| Acls::new(OURS));
        self.call(move |client| put(client, entry.clone(), acls), deadline)?;
        // No other has made it.
        self.owners = self.session.iter().map(|session| session.id().0).collect();
        Ok(())
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        // It has left, or was never in.
        if self.session.is_none() {
            return Ok(Alive::Lost);
        }
        let owner = self.call(move |client| owner(client, entry.path.clone()), deadline)?;
        // If the session had run out, this is another.
        let session = self.session.as_ref().map(|session| session.id().0);
        Ok(if owner.is_some() && owner == session { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let Entry { path, .. } = self.entry()?;
        let owners = self.owners.clone();
        let left = self.call(move |client| take_out(client, path.clone(), owners.clone()), deadline)?;
        self.close(deadline);
        Ok(left)
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        let Entry { path, .. } = self.entry()?;
        let has_left = self.session.is_none();
        let owner = self.call(move |client| owner(client, path.clone()), deadline);
        if has_left {
            self.close(deadline);
        }
        Ok(owner?.is_some_and(|owner| self.owners.contains(&owner)))
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: SETTLE, crash_after: self.ttl + LOOKED_FOR }
    }
}

/// Makes the node, unless this session has made it already.
async fn put(client: Client, entry: Entry, acls: Acls<'static>) -> Answered<()> {
    for _ in 0..TRIES {
        match client.create(&entry.path, entry.data.as_bytes(), &CreateMode::Ephemeral.with_acls(acls)).await
        {
            Err(Answer::NoNode) => {
                client.mkdir(&entry.parent, &CreateMode::Container.with_acls(acls)).await?;
            }
            Err(Answer::NodeExists) => {
                if replace(&client, &entry).await? {
                    return Ok(());
                }
            }
            made => return made.map(drop),
        }
    }
    Err(Answer::NodeExists)
}

/// Removes a node that another session has made; gives ours its data. Is it there now, and ours?
async fn replace(client: &Client, Entry { path, data, .. }: &Entry) -> Answered<bool> {
    let changed = match client.get_data(path).await {
        Ok((_, stat)) if stat.ephemeral_owner != client.session_id().0 => {
            client.delete(path, None).await.map(|()| false)
        }
        // Whoever watches hears of every change, also of one that changes nothing.
        Ok((found, _)) if found == data.as_bytes() => Ok(true),
        Ok(_) => client.set_data(path, data.as_bytes(), None).await.map(|_| true),
        Err(answer) => Err(answer),
    };
    match changed {
        // It is gone meanwhile.
        Err(Answer::NoNode) => Ok(false),
        changed => changed,
    }
}

/// The session that has made the node, if it is there; 0 if it is not an ephemeral one.
async fn owner(client: Client, path: String) -> Answered<Option<i64>> {
    Ok(client.check_stat(&path).await?.map(|stat| stat.ephemeral_owner))
}

/// Removes the node if one of these sessions has made it.
async fn take_out(client: Client, path: String, owners: Vec<i64>) -> Answered<Left> {
    let is_ours = client.check_stat(&path).await?.is_some_and(|stat| owners.contains(&stat.ephemeral_owner));
    if !is_ours {
        return Ok(Left::Before);
    }
    match client.delete(&path, None).await {
        Ok(()) => Ok(Left::Now),
        Err(Answer::NoNode) => Ok(Left::Before),
        Err(answer) => Err(answer),
    }
}

/// What Curator's `JsonInstanceSerializer` writes and reads.
fn data(instance: &Instance, registered: Duration) -> String {
    let Instance { id, service, address, port, metadata } = instance;
    let payload = if metadata.is_empty() { json!(null) } else { json!(metadata) };
    let json = json!({
        "name": service,
        "id": id,
        "address": address,
        "port": port,
        "sslPort": null,
        "payload": payload,
        "registrationTimeUTC": u64::try_from(registered.as_millis()).unwrap_or_default(),
        "serviceType": "DYNAMIC",
        "uriSpec": null,
        "enabled": true,
    });
    json.to_string()
}

/// A name as that of a node: no two names become the same.
fn name_of_node(name: &str) -> String {
    match name {
        // Paths may not have them.
        "." | ".." => name.replace('.', "%2E"),
        _ => escaped(name),
    }
}

/// A connection with a server, which pings by itself.
#[derive(Debug)]
struct Connection {
    /// Goes first: the last client closes its session, and nobody is there then who would.
    worker: Worker,
    client: Client,
}

impl Connection {
    fn is_up(&self) -> bool {
        self.client.state() == SessionState::SyncConnected
    }
}

/// A runtime with a thread. Whatever it does ends when it is dropped.
#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> std::io::Result<Self> {
        // The client brings its own clock and sockets.
        let runtime = Builder::new_current_thread().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let work = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name("zookeeper".into()).spawn(work)?;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// What comes of it; `None` if nothing has by the deadline: then it is given up.
    ///
    /// Unlike a runtime's `block_on` this may be called from anywhere, as other registries may.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        deadline: Deadline,
    ) -> Option<T> {
        let (answer, answered) = channel();
        // Nobody waits for a late answer.
        let task = self.runtime.spawn(async move { drop(answer.send(work.await)) });
        let came = answered.recv_timeout(deadline.left()).ok();
        task.abort();
        came
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and if it has panicked it is over, too.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::pending;
    use std::sync::Arc;
    use std::time::Instant;

    fn zookeeper(url: &str) -> Result<ZooKeeper> {
        ZooKeeper::open(&Url::parse(url).unwrap())
    }

    #[test]
    fn nodes_and_their_data() {
        let mut instance = Instance::new("a/b", "::1", 80);
        instance.id = "..".into();
        let path = |url: &str| zookeeper(url).unwrap().new_entry(&instance).path;
        assert_eq!(path("zookeeper://localhost"), "/services/a%2Fb/%2E%2E");
        assert_eq!(path("zookeeper://localhost/apps/eu/"), "/apps/eu/a%2Fb/%2E%2E");
        let written = "{\"name\":\"a/b\",\"id\":\"..\",\"address\":\"::1\",\"port\":80,\"sslPort\":null,\"payload\":null,\
             \"registrationTimeUTC\":1500,\"serviceType\":\"DYNAMIC\",\"uriSpec\":null,\"enabled\":true}";
        let registered = Duration::from_millis(1_500);
        assert_eq!(data(&instance, registered), written);
        instance.metadata.insert("zone".into(), "a".into());
        let written = written.replace("\"payload\":null", "\"payload\":{\"zone\":\"a\"}");
        assert_eq!(data(&instance, registered), written);
    }

    #[test]
    fn names_of_nodes_are_allowed_and_different() {
        for (name, node) in [
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("...", "..."),
            ("a.b", "a.b"),
            ("%2E", "%252E"),
            ("a\0ä", "a%00%C3%A4"),
        ] {
            assert_eq!(name_of_node(name), node);
        }
    }

    #[test]
    fn what_is_no_path_is_named() {
        for wrong in ["zookeeper://localhost//a", "zookeeper://localhost/a/../b", "zookeeper://localhost/."] {
            let why = zookeeper(wrong).unwrap_err().to_string();
            assert!(why.contains("no path of ZooKeeper's"), "{why}");
        }
        assert!(zookeeper("zookeeper://localhost?ttl=1").is_err());
        assert!(zookeeper("zookeeper://localhost?layout=dubbo").is_err());
    }

    #[test]
    fn what_a_user_has_registered_nobody_else_changes() {
        let server = match gracefully_servers::zookeeper::ZooKeeper::start() {
            Ok(server) => server,
            Err(missing) => {
                let test = "zookeeper::tests::what_a_user_has_registered_nobody_else_changes";
                return crate::skip::skip(test, &missing.to_string());
            }
        };
        let deadline = || Deadline::within(Duration::from_secs(5));
        let open = |user: Option<&str>| {
            let registry = zookeeper(&format!("zookeeper://{}", server.at())).unwrap();
            ZooKeeper { user: user.map(Secret::from), ..registry }
        };
        let instance = Instance::new("web", "127.0.0.1", 80);
        let (mut ours, node) = (open(Some("we:secret")), format!("/services/web/{}", instance.id));
        ours.register(&instance, deadline()).unwrap();
        for other in [None, Some("they:secret"), Some("we:guess")] {
            let why = open(other).register(&instance, deadline()).unwrap_err().to_string();
            assert!(why.contains(" refuses: not authorized; set ZOOKEEPER_AUTH"), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
        server.ctl(&[&format!("delete {node}")]);
        assert_eq!(server.nodes(&node), [node], "and everybody sees it");
        assert_eq!(ours.keep_alive(deadline()).unwrap(), Alive::Yes);
        assert!(!format!("{ours:?}").contains("we:"), "{ours:?}");
        assert_eq!(ours.deregister(deadline()).unwrap(), Left::Now);
    }

    #[test]
    fn work_ends_by_its_deadline_and_with_its_worker() {
        let worker = Worker::start().unwrap();
        assert_eq!(worker.run(async { 1 }, Deadline::within(Duration::from_secs(20))), Some(1));
        let (began, alive) = (Instant::now(), Arc::new(()));
        let theirs = Arc::clone(&alive);
        let work = async move { pending::<Arc<()>>().await.clone_from(&theirs) };
        assert_eq!(worker.run(work, Deadline::within(Duration::from_millis(20))), None);
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(worker);
        assert_eq!(Arc::strong_count(&alive), 1, "it was dropped");
    }
}
