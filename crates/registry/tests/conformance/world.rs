//! The registries, each of them alone in its world, and a consumer that is not ours.

pub(crate) mod consul;
pub(crate) mod etcd;
pub(crate) mod eureka;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod nacos;
pub(crate) mod zookeeper;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use gracefully_registry::Registry;
use gracefully_servers::{Missing, Proxy};

pub(crate) type Started = Result<Box<dyn World>, Missing>;

/// A registry that only one test uses.
pub(crate) trait World {
    /// Its address: with the shortest time to live, and through the proxy if there is one.
    fn url(&self) -> String;

    /// How errors call it.
    fn name(&self) -> String {
        self.url().split('?').next().unwrap_or_default().to_owned()
    }

    /// What goes wrong on the way to the server, if there is one.
    fn proxy(&self) -> Option<&Proxy> {
        None
    }

    /// Are errors those of HTTP?
    fn speaks_http(&self) -> bool {
        true
    }

    /// May something have this name? If not, registering it is refused.
    fn takes(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// The addresses at which a consumer that is not ours finds this service, in order.
    fn finds(&self, service: &str) -> Vec<String>;

    /// As if all registrations had not been kept alive for longer than they live.
    fn expire(&self);

    /// As if the process that has registered something had been killed.
    fn abandon(&self, registry: Box<dyn Registry>) {
        drop(registry);
    }
}

/// What a server answers to a question for this name, in JSON; null if it answers that there is no such thing.
fn ask(at: SocketAddr, path: &str, name: &str, query: &str) -> serde_json::Value {
    let name = name.bytes().fold(String::new(), |name, byte| format!("{name}%{byte:02x}"));
    let question = format!(
        "GET {path}{name}{query} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    let mut server = TcpStream::connect(at).unwrap();
    server.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    match head.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).unwrap(),
        Some("404") => serde_json::Value::Null,
        _ => panic!("{question:?}: {answer:?}"),
    }
}
