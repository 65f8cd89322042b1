//! ZooKeeper (≥ 3.5), in the layout of Curator's service discovery (`curator-x-discovery`).
//!
//! A registration is an **ephemeral node**: it lives as long as the **session** that has made it. A session is kept alive by whatever
//! its client says, and it outlives its connection: who still has its number and its password may go on with it, at any server. Only two
//! things end it: its client closes it, or the servers have heard nothing of it for its time-out.
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
//! * A heartbeat looks whether the node is there and ours. That keeps the session alive, too: it is due three times in its time-out, as
//!   often as ZooKeeper's own client pings. So there are no pings, and no thread that would send them: whoever does not come back to
//!   say that he lives is gone in time, as with every registry.
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

mod session;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use self::session::{Answered, Connection, Fault};
use self::wire::{Acl, Code, Kind, Session};
use crate::gateway::removed;
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
const OURS: &[Acl] = &[Acl::OURS, Acl::READ];

/// Nobody has said who we are.
const ANYONES: &[Acl] = &[Acl::ANYONE];

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
    session: Option<Session>,
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
    fn call<T>(&mut self, ask: impl Fn(&mut Connection) -> Answered<T>, deadline: Deadline) -> Result<T> {
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
                Fault::No(code @ (Code::NO_AUTH | Code::AUTH_FAILED | Code::INVALID_ACL)) => {
                    return Err(self.refused(code.to_string()));
                }
                Fault::No(code) => {
                    why = format!("{server}: {code}");
                    !had_connection
                }
                Fault::Lost(words) => {
                    why = format!("{server}: {words}");
                    !had_connection
                }
                Fault::Expired => {
                    self.session = None;
                    why = format!("{server}: a new session has expired");
                    !had_session
                }
                Fault::Late => {
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

    fn ask_one<T>(
        &mut self,
        ask: &impl Fn(&mut Connection) -> Answered<T>,
        deadline: Deadline,
    ) -> Answered<T> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(deadline)?,
        };
        let connection = self.connection.insert(connection);
        connection.wait_until(deadline);
        ask(connection)
    }

    /// Goes on with the session if there is one, else begins one.
    fn connect(&mut self, deadline: Deadline) -> Answered<Connection> {
        let server = &self.servers[self.first];
        let (connection, granted) =
            Connection::open(server, self.ttl, self.session.as_ref(), self.user.as_ref(), deadline)?;
        self.ttl = granted.timeout;
        if self.session.is_none() {
            self.owners.push(granted.session.id);
            self.session = Some(granted.session);
        }
        Ok(connection)
    }

    /// Closes the session, and with it goes what it has made. Of one that cannot be closed the servers find out.
    fn close(&mut self, deadline: Deadline) {
        self.session = None;
        if let Some(mut connection) = self.connection.take() {
            connection.wait_until(deadline);
            let _ = connection.close();
        }
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
        let acls = if self.user.is_some() { OURS } else { ANYONES };
        self.call(|connection| put(connection, &entry, acls), deadline)?;
        // No other has made it.
        self.owners = self.session.iter().map(|session| session.id).collect();
        Ok(())
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        // It has left, or was never in.
        if self.session.is_none() {
            return Ok(Alive::Lost);
        }
        let owner = self.call(|connection| connection.owner(&entry.path), deadline)?;
        // If the session had run out, this is another.
        let session = self.session.as_ref().map(|session| session.id);
        Ok(if owner.is_some() && owner == session { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let Entry { path, .. } = self.entry()?;
        let owners = self.owners.clone();
        let left = self.call(|connection| take_out(connection, &path, &owners), deadline)?;
        self.close(deadline);
        Ok(left)
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        let Entry { path, .. } = self.entry()?;
        let has_left = self.session.is_none();
        let owner = self.call(|connection| connection.owner(&path), deadline);
        if has_left {
            self.close(deadline);
        }
        Ok(owner?.is_some_and(|owner| self.owners.contains(&owner)))
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: SETTLE, crash_after: self.ttl + LOOKED_FOR }
    }
}

/// A node that somebody else has made. Its name is taken as it is: there are several layouts.
#[derive(Debug)]
pub(crate) struct Node {
    zookeeper: ZooKeeper,
    path: String,
}

impl Node {
    pub(crate) fn open(url: &Url<'_>, service: &str, id: &str) -> Result<Self> {
        let zookeeper = ZooKeeper::open(url)?;
        Ok(Self { path: format!("{}/{service}/{id}", zookeeper.base), zookeeper })
    }

    /// Asks in a session that lasts no longer than that.
    fn ask<T>(
        &mut self,
        ask: impl Fn(&mut Connection, &str) -> Answered<T>,
        deadline: Deadline,
    ) -> Result<T> {
        let answer = self.zookeeper.call(|connection| ask(connection, &self.path), deadline);
        self.zookeeper.close(deadline);
        answer
    }
}

impl removed::Entry for Node {
    fn place(&self) -> &str {
        &self.path
    }

    fn is_there(&mut self, deadline: Deadline) -> Result<bool> {
        Ok(self.ask(Connection::owner, deadline)?.is_some())
    }

    fn remove(&mut self, deadline: Deadline) -> Result<bool> {
        let remove = |connection: &mut Connection, path: &str| match connection.delete(path) {
            Ok(()) => Ok(true),
            Err(Fault::No(Code::NO_NODE)) => Ok(false),
            Err(fault) => Err(fault),
        };
        self.ask(remove, deadline)
    }

    /// What we would make would go with our session.
    fn put_back(&mut self, _: Deadline) -> Result<()> {
        let why = format!("only the program itself can make {} again", self.path);
        Err(Error::Failed { registry: self.zookeeper.registry.clone(), why })
    }

    fn settle(&self) -> Duration {
        SETTLE
    }
}

/// Makes the node, unless this session has made it already.
fn put(connection: &mut Connection, entry: &Entry, acls: &[Acl]) -> Answered<()> {
    for _ in 0..TRIES {
        match connection.create(&entry.path, entry.data.as_bytes(), Kind::Ephemeral, acls) {
            Err(Fault::No(Code::NO_NODE)) => make_parents(connection, &entry.parent, acls)?,
            Err(Fault::No(Code::NODE_EXISTS)) => {
                if replace(connection, entry)? {
                    return Ok(());
                }
            }
            made => return made,
        }
    }
    Err(Code::NODE_EXISTS.into())
}

/// Makes a node that has others below, and what is missing above it.
///
/// From below, as nodes further up, which are there, may be in nobody's hands whom we know: then we are refused before it is looked
/// whether they are there.
fn make_parents(connection: &mut Connection, path: &str, acls: &[Acl]) -> Answered<()> {
    let mut missing = vec![path];
    while let Some(node) = missing.last() {
        match connection.create(node, b"", Kind::Container, acls) {
            Ok(()) | Err(Fault::No(Code::NODE_EXISTS)) => drop(missing.pop()),
            Err(Fault::No(Code::NO_NODE)) => match node.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => missing.push(above),
                _ => return Err(Code::NO_NODE.into()),
            },
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Removes a node that another session has made; gives ours its data. Is it there now, and ours?
fn replace(connection: &mut Connection, Entry { path, data, .. }: &Entry) -> Answered<bool> {
    let changed = match connection.data(path) {
        Ok((_, owner)) if owner != connection.session() => connection.delete(path).map(|()| false),
        // Whoever watches hears of every change, also of one that changes nothing.
        Ok((found, _)) if found == data.as_bytes() => Ok(true),
        Ok(_) => connection.set_data(path, data.as_bytes()).map(|()| true),
        Err(fault) => Err(fault),
    };
    match changed {
        // It is gone meanwhile.
        Err(Fault::No(Code::NO_NODE)) => Ok(false),
        changed => changed,
    }
}

/// Removes the node if one of these sessions has made it.
fn take_out(connection: &mut Connection, path: &str, owners: &[i64]) -> Answered<Left> {
    let is_ours = connection.owner(path)?.is_some_and(|owner| owners.contains(&owner));
    if !is_ours {
        return Ok(Left::Before);
    }
    match connection.delete(path) {
        Ok(()) => Ok(Left::Now),
        Err(Fault::No(Code::NO_NODE)) => Ok(Left::Before),
        Err(fault) => Err(fault),
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
