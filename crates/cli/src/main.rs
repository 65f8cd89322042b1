//! A provisional driver of the local engine, for trials until the CLI is here.
mod drive;
mod monitor;

use futures_util::StreamExt;
use gracefully_core::policy::{Request, Then, Timeout};
use gracefully_engine::local::Local;
use gracefully_engine::{Conductor, Engine, LogOptions, LogStream, Restart, RunSpec};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = monitor::main(&argv) {
        return code;
    }
    let argv: Vec<String> = argv.into_iter().skip(1).map(|a| a.into_string().unwrap()).collect();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match rt.block_on(act(&argv)) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            let mut text = e.to_string();
            let mut s = std::error::Error::source(&e);
            while let Some(c) = s {
                text = format!("{text}: {c}");
                s = c.source();
            }
            let _ = writeln!(std::io::stderr(), "Error: {text}");
            if let gracefully_engine::Error::Start { code, .. } = e {
                ExitCode::from(code)
            } else {
                ExitCode::from(1)
            }
        }
    }
}

async fn act(argv: &[String]) -> gracefully_engine::Result<u8> {
    let local = Local::open()?;
    let mut out = std::io::stdout();
    let mut it = argv.iter();
    match it.next().unwrap().as_str() {
        "run" => {
            let mut spec = RunSpec {
                name: None,
                command: vec![],
                env: vec![],
                workdir: None,
                user: None,
                stop_signal: None,
                stop_timeout: None,
                restart: Restart::No,
                auto_remove: false,
                rootfs: None,
            };
            let mut detach = false;
            while let Some(a) = it.next() {
                match a.as_str() {
                    "-d" => detach = true,
                    "--rm" => spec.auto_remove = true,
                    "--name" => spec.name = it.next().cloned(),
                    "-u" => spec.user = it.next().cloned(),
                    "-w" => spec.workdir = it.next().map(Into::into),
                    "--rootfs" => spec.rootfs = it.next().map(Into::into),
                    "--stop-signal" => spec.stop_signal = it.next().map(|s| s.parse().unwrap()),
                    "-e" => {
                        let (k, v) = it.next().unwrap().split_once('=').unwrap();
                        spec.env.push((k.into(), v.into()));
                    }
                    "--restart" => {
                        spec.restart = match it.next().unwrap().as_str() {
                            "always" => Restart::Always,
                            s => Restart::OnFailure(s.split_once(':').map(|x| x.1.parse().unwrap())),
                        }
                    }
                    "--" => spec.command = it.by_ref().cloned().collect(),
                    _ => panic!("{a}"),
                }
            }
            if detach {
                let c = local.run(spec).await?;
                writeln!(out, "{}", c.id).unwrap();
                return Ok(0);
            }
            let mut a = local.run_attached(spec).await?;
            while let Some(chunk) = a.output.next().await {
                write(&chunk?);
            }
            Ok(a.exit.await.map_or(255, |c| u8::try_from(c).unwrap()))
        }
        "ps" => {
            for c in local.list(true).await? {
                writeln!(
                    out,
                    "{} {} {:?} {:?} pid={:?} {:?}",
                    &c.id[..c.id.len().min(12)],
                    c.name,
                    c.state,
                    c.exit_code,
                    c.pid,
                    c.note
                )
                .unwrap();
            }
            Ok(0)
        }
        verb => {
            let mut rest: Vec<String> = it.cloned().collect();
            let name = rest.pop().unwrap();
            let c = local.find(&name).await?;
            match verb {
                "stop" | "restart" => {
                    let timeout = rest
                        .iter()
                        .position(|a| a == "-t")
                        .map(|i| Timeout::from_seconds(rest[i + 1].parse().unwrap()));
                    let request = Request {
                        timeout,
                        signal: None,
                        then: if verb == "restart" { Then::Start } else { Then::Stay },
                    };
                    let quiet = rest.iter().any(|a| a == "-q");
                    match local.conductor(&c).await? {
                        Conductor::Monitor(m) => {
                            let r = m
                                .stop(&request, &mut |p| {
                                    if !quiet {
                                        let _ = writeln!(std::io::stderr(), "{p:?}");
                                    }
                                })
                                .await?;
                            if !quiet {
                                writeln!(std::io::stderr(), "{r:#?}").unwrap();
                            }
                        }
                        Conductor::Caller(i) => {
                            let (_tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
                            let policy = gracefully_core::policy::Policy::resolve(&request, &c.settings);
                            let stop = drive::Stop {
                                target: gracefully_core::report::Target {
                                    engine: "local".into(),
                                    id: c.id.clone(),
                                    name: c.name.clone(),
                                },
                                plan: gracefully_core::plan::Plan::new(policy, Default::default()),
                            };
                            let r = drive::walk(&*i, stop, &mut rx, &mut |_| {}).await;
                            writeln!(std::io::stderr(), "{:?} {:?} {:?}", r.verdict, r.reason, r.exit)
                                .unwrap();
                        }
                    }
                    writeln!(out, "{name}").unwrap();
                }
                "kill" => {
                    local
                        .signal(
                            &c,
                            rest.get(1).map_or(gracefully_core::signal::Signal::KILL, |s| s.parse().unwrap()),
                        )
                        .await?;
                    writeln!(out, "{name}").unwrap();
                }
                "wait" => writeln!(out, "{}", local.wait(&c).await?).unwrap(),
                "start" => local.start(&c).await?,
                "rm" => local.remove(&c, rest.iter().any(|a| a == "-f")).await?,
                "inspect" => writeln!(out, "{:#}", local.inspect(&c).await?).unwrap(),
                "logs" => {
                    let options = LogOptions {
                        follow: rest.iter().any(|a| a == "-f"),
                        timestamps: rest.iter().any(|a| a == "-t"),
                        tail: rest.iter().position(|a| a == "-n").map(|i| rest[i + 1].parse().unwrap()),
                        since: None,
                    };
                    let mut s = local.logs(&c, &options).await?;
                    while let Some(chunk) = s.next().await {
                        write(&chunk?);
                    }
                }
                _ => panic!("{verb}"),
            }
            Ok(0)
        }
    }
}

fn write(chunk: &gracefully_engine::LogChunk) {
    match chunk.stream {
        LogStream::Stdout => std::io::stdout().write_all(&chunk.bytes).unwrap(),
        LogStream::Stderr => std::io::stderr().write_all(&chunk.bytes).unwrap(),
    }
}
