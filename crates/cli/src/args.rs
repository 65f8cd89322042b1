//! What was typed, and nothing else: every flag with its documentation.
//!
//! Nothing here looks at the machine; [`Settings`](crate::settings::Settings) does that. The texts are written for
//! `--help`, the manual pages and the shell completions, which are all made from these types.

#![expect(clippy::doc_markdown, reason = "the texts are for the terminal, not for rustdoc")]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, where brackets mean optional"
)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args as Flags, Parser, Subcommand, ValueEnum};
use gracefully_core::plan::NewConnections;
use gracefully_core::policy::{Timeout, Within};
use serde::{Deserialize, Serialize};

use crate::commands::Check;
use crate::values;

/// Stops and restarts containers and programs without cutting a request, and says how it went.
#[derive(Debug, Parser)]
#[command(name = "gracefully", version, args_override_self = true)]
#[command(disable_help_subcommand = true, disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,

    /// Print this help
    #[arg(short, long, global = true, action = ArgAction::Help, help_heading = GLOBAL)]
    help: Option<bool>,

    /// Print the version
    #[arg(short, long, action = ArgAction::Version, help_heading = GLOBAL)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What holds for every verb.
#[derive(Clone, Debug, Default, Flags)]
pub(crate) struct Global {
    /// Who is asked for a NAME: auto (the local engine first, docker next), docker or local
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "ENGINE", help_heading = GLOBAL)]
    pub(crate) engine: EngineChoice,

    /// The docker daemon's address, such as unix:///run/user/1000/docker.sock [default: as docker]
    #[arg(short = 'H', long, global = true, value_name = "URI", help_heading = GLOBAL)]
    pub(crate) host: Option<String>,

    /// What stderr shows: auto (a live line on a terminal), plain (only results) or none (only errors)
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "HOW", help_heading = GLOBAL)]
    pub(crate) progress: ProgressChoice,

    #[command(flatten)]
    pub(crate) docker: DockerFlags,
}

const GLOBAL: &str = "Global options";
const DOCKER: &str = "Options of docker, given before the command";

/// What `docker` takes before the name of a plugin. The meanings are docker's.
#[derive(Clone, Debug, Default, Flags)]
pub(crate) struct DockerFlags {
    /// The docker context to use instead of DOCKER_HOST and of the one that was set with `docker context use`
    #[arg(short, long, value_name = "NAME", help_heading = DOCKER)]
    pub(crate) context: Option<String>,

    /// The directory of docker's config.json [default: $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "DIR", help_heading = DOCKER)]
    pub(crate) config: Option<PathBuf>,

    /// Accepted for docker's sake; without effect
    #[arg(short = 'D', long, help_heading = DOCKER)]
    pub(crate) debug: bool,

    /// Accepted for docker's sake; without effect
    #[arg(short, long, value_name = "LEVEL", help_heading = DOCKER)]
    pub(crate) log_level: Option<String>,

    /// Use TLS; implied by --tlsverify
    #[arg(long, help_heading = DOCKER)]
    pub(crate) tls: bool,

    /// Trust certificates signed only by this CA [default: ca.pem in the configuration directory]
    #[arg(long, value_name = "FILE", help_heading = DOCKER)]
    pub(crate) tlscacert: Option<PathBuf>,

    /// The TLS certificate [default: cert.pem in the configuration directory]
    #[arg(long, value_name = "FILE", help_heading = DOCKER)]
    pub(crate) tlscert: Option<PathBuf>,

    /// The TLS key [default: key.pem in the configuration directory]
    #[arg(long, value_name = "FILE", help_heading = DOCKER)]
    pub(crate) tlskey: Option<PathBuf>,

    /// Use TLS and verify the daemon
    #[arg(long, help_heading = DOCKER)]
    pub(crate) tlsverify: bool,
}

/// `--engine`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    /// Local first, then docker
    #[default]
    Auto,
    /// Docker, or Podman through its socket
    Docker,
    /// The embedded engine
    Local,
}

/// `--progress`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum ProgressChoice {
    /// A live line on a terminal, else only the results
    #[default]
    Auto,
    /// Only the results
    Plain,
    /// Only errors
    None,
}

/// The commands, in the order in which the manual lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program as PID 1 of a new container, without a daemon
    Run(Run),
    /// Stop containers or programs, and say whether that was graceful
    Stop(Stop),
    /// Stop and start again; at most 50 at once
    Restart(Restarting),
    /// Send a signal, SIGKILL unless told otherwise
    Kill(Kill),
    /// Keep a program in service discovery while it is ready, and take it out before it is stopped
    Register(Register),
    /// Wait until containers have stopped and print their exit codes
    Wait(Targets),
    /// List containers of all engines
    Ps(Ps),
    /// Print what a container has written
    Logs(Logs),
    /// Print everything the engine knows, as a JSON array
    Inspect(Inspect),
    /// Remove containers that are not running
    Rm(Rm),
    /// Show what a graceful stop is, and what a shell in front does to it
    Demo(Demo),
    /// Print the version
    Version,
    /// Become a docker command: `docker gracefully …`
    #[command(subcommand)]
    Plugin(Plugin),
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// The directory to write them to, or - to print the first page
        #[arg(value_name = "DIR|-")]
        directory: PathBuf,
    },
}

/// `run`
#[derive(Debug, Flags)]
pub(crate) struct Run {
    /// Leave the program in the background and print the container's ID
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// The container's name [default: one is made up]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Remove the container as soon as it has stopped
    #[arg(long)]
    pub(crate) rm: bool,

    /// Start the program again when it ends: no, on-failure[:TIMES] or always
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(crate) restart: String,

    /// Put a minimal init in front, which passes signals on and reaps children
    #[arg(long, help_heading = "The stop")]
    pub(crate) init: bool,

    /// The signal that asks the program to stop, by name or number [default: SIGTERM]
    #[arg(long, value_name = "SIGNAL", help_heading = "The stop")]
    pub(crate) stop_signal: Option<String>,

    /// Seconds that a stop may take before SIGKILL; 0: kill at once, negative: never [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = values::integer, help_heading = "The stop")]
    pub(crate) stop_timeout: Option<i64>,

    /// Set an environment variable; without =VALUE take ours. On this machine's / all of ours are passed on anyway
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::variable, help_heading = "The program")]
    pub(crate) env: Vec<values::Variable>,

    /// Read environment variables from a file, one NAME[=VALUE] a line
    #[arg(long, value_name = "FILE", help_heading = "The program")]
    pub(crate) env_file: Vec<PathBuf>,

    /// The directory in which the program starts [default: the current one; with --rootfs /]
    #[arg(short, long, value_name = "DIR", help_heading = "The program")]
    pub(crate) workdir: Option<String>,

    /// The user it runs as, USER[:GROUP], by name or number [default: the user who calls]
    #[arg(short, long, value_name = "USER", help_heading = "The program")]
    pub(crate) user: Option<String>,

    /// The directory that it sees as / [default: this machine's /]
    #[arg(long, value_name = "DIR", help_heading = "The program")]
    pub(crate) rootfs: Option<PathBuf>,

    /// A program of this machine (or of --rootfs); everything behind it is its own
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `stop`
#[derive(Debug, Flags)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) how: How,

    /// Only print who would get which signal, when, and what to expect; stop nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) told: Told,

    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// `restart`
#[derive(Debug, Flags)]
pub(crate) struct Restarting {
    #[command(flatten)]
    pub(crate) how: How,

    /// How long the program may take until it listens again, is healthy if it has a health check, and is registered again if it
    /// was [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = values::time, help_heading = CONNECTIONS)]
    pub(crate) ready_timeout: Option<Duration>,

    /// Restart only so many at once, and no more after one that did not come up [default: 50]
    #[arg(long, value_name = "NUMBER", value_parser = values::at_once)]
    pub(crate) rolling: Option<NonZeroUsize>,

    /// Only print who would get which signal, when, and what to expect; restart nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) told: Told,

    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// With which signal and how long.
#[derive(Debug, Default, Flags)]
pub(crate) struct How {
    /// How long the stop may take before SIGKILL: seconds, or 1m30s, 500ms. 0: kill at once; negative: never
    /// [default: the container's stop timeout, else the daemon's, else 10]
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true, value_parser = values::timeout)]
    pub(crate) timeout: Option<Timeout>,

    /// The signal that asks it to stop, by name or number [default: the container's stop signal, else SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,

    /// Deprecated: --timeout
    #[arg(long, hide = true, allow_hyphen_values = true, value_parser = values::timeout)]
    pub(crate) time: Option<Timeout>,

    /// Keep serving until traffic has stopped coming, for at most this long, or auto: as long as the timeout allows
    /// [default: 0]
    #[arg(long, value_name = "TIME|auto", value_parser = values::within, help_heading = CONNECTIONS)]
    pub(crate) settle: Option<Within>,

    /// Finish the requests that are under way, for at most this long, or auto: as long as the timeout allows
    /// [default: auto]
    #[arg(long, value_name = "TIME|auto", value_parser = values::within, help_heading = CONNECTIONS)]
    pub(crate) drain: Option<Within>,

    /// Do not wait for requests that are under way
    #[arg(long, help_heading = CONNECTIONS)]
    pub(crate) no_drain: bool,

    /// What happens to new connections meanwhile: hold, refuse or serve [default: refuse; a restart holds them]
    #[arg(long, value_name = "WHAT", value_parser = values::new_connections, help_heading = CONNECTIONS)]
    pub(crate) new: Option<NewConnections>,

    /// Who sends it requests, and is told to send none before the stop, and to go on when a restart is done:
    /// haproxy:///SOCKET?server=BACKEND/SERVER, or a registry in which it is by itself with ?service=NAME&id=ID (consul,
    /// eureka, nacos, etcd, zookeeper, exec). May be given several times; the label gracefully.gateway is read, too
    #[arg(long = "gateway", value_name = "URL", help_heading = CONNECTIONS)]
    pub(crate) gateways: Vec<String>,

    /// Wait for the timeout also if the program is drained and its stop signal provably reaches nobody
    #[arg(long, help_heading = CONNECTIONS)]
    pub(crate) full_timeout: bool,
}

const CONNECTIONS: &str = "Connections";

/// What the caller wants to hear.
#[derive(Debug, Default, Flags)]
pub(crate) struct Told {
    /// Exit with code 3 if anything was killed or cut
    #[arg(long)]
    pub(crate) strict: bool,

    /// Write the reports as JSON, one object a line and target, to FILE; - is stdout, and then no names are printed
    #[arg(long, value_name = "FILE|-")]
    pub(crate) report: Option<PathBuf>,
}

/// `kill`
#[derive(Debug, Flags)]
pub(crate) struct Kill {
    /// The signal, by name or number [default: SIGKILL]
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,

    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// `demo`
#[derive(Debug, Default, Flags)]
pub(crate) struct Demo {
    /// The registry of the last act, file:///DIRECTORY or etcd://HOST:PORT/PREFIX [default: a directory of its own]
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<String>,
}

/// `register`
#[derive(Debug, Flags)]
pub(crate) struct Register {
    /// The service that it is an instance of
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,

    /// The port by which others reach it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// The host by which others reach it [default: the address by which the registry is reached]
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    pub(crate) address: Option<String>,

    /// Its id, which no other instance may have [default: one is made up]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: Option<String>,

    /// What else consumers want to know. May be given several times
    #[arg(long = "meta", value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(crate) metadata: Vec<(String, String)>,

    /// It is ready when: tcp (somebody listens), /PATH or http://HOST:PORT/PATH (answers 2xx or 3xx), exec:COMMAND (exits 0),
    /// none (at once) [default: tcp]
    #[arg(long, value_name = "CHECK", value_parser = str::parse::<Check>)]
    pub(crate) check: Option<Check>,

    /// When it has left keep serving for at most this long, or until nobody new comes; auto: as long as its consumers need to
    /// hear of it [default: auto]
    #[arg(long, value_name = "TIME|auto", value_parser = values::within)]
    pub(crate) settle: Option<Within>,

    /// How long the stop of COMMAND may take before SIGKILL, as for stop [default: $GRACEFULLY_GRACE, else 10]
    #[arg(short, long, value_name = "TIME", allow_hyphen_values = true, value_parser = values::timeout)]
    pub(crate) timeout: Option<Timeout>,

    /// Where it is registered: file:///DIRECTORY, etcd://HOST:PORT/PREFIX, zookeeper://HOST:PORT/BASE; passwords come from the environment
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,

    /// The program, if it is to be started and stopped together with its registration
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `rm`
#[derive(Debug, Flags)]
pub(crate) struct Rm {
    /// Kill it first (SIGKILL) if it is running; one that does not exist is no error
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Remove its anonymous volumes, too; the local engine has none
    #[arg(short, long)]
    pub(crate) volumes: bool,

    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// One or more of them.
#[derive(Debug, Flags)]
pub(crate) struct Targets {
    /// A name, an ID or the beginning of one; docker:NAME or local:NAME for one engine; pid:N for a process
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) targets: Vec<String>,
}

/// `ps`
#[derive(Debug, Flags)]
pub(crate) struct Ps {
    /// Also those that are not running
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Only those that fit: id, name (a pattern), status, exited (an exit code) or label; docker's other ones with
    /// --engine docker. May be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::filter)]
    pub(crate) filter: Vec<values::Filtered>,

    /// Only the IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Whole IDs and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// table; json for one object a line; or a text with the object's fields in it: {{.Names}}, {{json .}}
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
}

/// `logs`
#[derive(Debug, Flags)]
pub(crate) struct Logs {
    /// Go on until the container stops
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only this many lines from the end, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_hyphen_values = true,
          value_parser = values::tail)]
    pub(crate) tail: values::Tail,

    /// Only what was written since: 2013-01-02T13:23:37Z or the beginning of that (UTC unless it says otherwise), seconds
    /// since 1970, or 42m for 42 minutes ago
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    pub(crate) since: Option<values::Since>,

    /// Begin every line with its time (UTC)
    #[arg(short, long)]
    pub(crate) timestamps: bool,

    /// A name, an ID or the beginning of one; docker:NAME or local:NAME for one engine
    #[arg(value_name = "CONTAINER")]
    pub(crate) target: String,
}

/// `inspect`
#[derive(Debug, Flags)]
pub(crate) struct Inspect {
    /// json, or a text with fields in it: {{.State.Pid}}, {{json .State}} [default: indented JSON]
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    pub(crate) format: String,

    /// A name, an ID or the beginning of one; docker:NAME or local:NAME for one engine
    #[arg(required = true, value_name = "NAME|ID")]
    pub(crate) targets: Vec<String>,
}

/// `plugin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Plugin {
    /// Link docker-gracefully into docker's plugin directory, and register the hint after `docker stop`
    Install,
    /// Undo exactly that
    Uninstall,
}
