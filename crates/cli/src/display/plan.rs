//! `--dry-run`: who would get which signal, and when.

use gracefully_core::diagnosis::{Finding, printable};
use gracefully_core::plan::{NewConnections, Plan};
use gracefully_core::policy::{Then, Timeout};
use gracefully_core::report::Target;
use gracefully_drain::{Limit, Survey};
use gracefully_engine::{Container, Network};
use gracefully_linux::connection::Activity;

use super::table::{Truncate, short_id};
use super::time::short;

/// The lines of a plan, with what can be said before the stop signal is sent.
pub(crate) fn preview(
    target: &Target,
    container: &Container,
    plan: &Plan,
    survey: Option<&Result<Survey, Limit>>,
    findings: &[Finding],
) -> Vec<String> {
    let id = short_id(&target.id, Truncate::Yes);
    let mut lines = vec![format!("{}  {} {id}, {}", target.name, target.engine, container.state.name())];
    if !container.state.is_up() {
        let then = match plan.policy.then {
            Then::Stay => "nothing to stop",
            Then::Start => "it would be started",
        };
        lines.push(format!("  {then}"));
        return lines;
    }
    let policy = &plan.policy;
    let who = container.pid.map_or_else(|| "its main process".to_owned(), |pid| format!("pid {pid}"));
    let command = printable(&container.command.join(" "));
    lines.push(format!(
        "  signal  {} ({}) to {who}: {command}",
        policy.signal.value,
        policy.signal.source.describe()
    ));
    lines.push(format!("  budget  {} ({})", policy.timeout.value, policy.timeout.source.describe()));
    lines.extend(phases(plan).into_iter().map(|phase| format!("  phase   {phase}")));
    lines.extend(survey.into_iter().flat_map(|survey| traffic(survey, &container.network, plan)));
    lines.extend(findings.iter().map(|finding| format!("  note    {finding}")));
    lines
}

/// Where it listens, who is connected, and what would happen to new connections.
fn traffic(survey: &Result<Survey, Limit>, network: &Network, plan: &Plan) -> Vec<String> {
    let survey = match survey {
        Ok(survey) => survey,
        Err(limit) => return vec![format!("  note    {limit}")],
    };
    let ports = survey.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let published =
        network.published.iter().map(|port| port.outside.to_string()).collect::<Vec<_>>().join(", ");
    let published = if published.is_empty() { published } else { format!(", published at {published}") };
    let mut lines =
        vec![format!("  listens {}{published}", if ports.is_empty() { "nowhere" } else { &ports })];
    if !survey.ports.is_empty() {
        let new = match plan.work.drain {
            Some(NewConnections::Hold) => survey.hold.as_ref().map(|method| format!("held ({method})")),
            Some(NewConnections::Refuse) => survey.refuse.as_ref().map(|()| "refused".into()),
            Some(NewConnections::Serve) | None => Ok("served".into()),
        };
        lines.push(match new {
            Ok(new) => format!("  new     {new}"),
            Err(limit) => format!("  note    {limit}"),
        });
    }
    lines.extend(survey.connections.iter().take(CONNECTIONS).map(|(peer, activity)| {
        let what = match activity {
            Activity::Idle => "idle".to_owned(),
            Activity::Busy(why) => format!("busy: {why}"),
            Activity::Closing | Activity::Listening(_) => "closing".to_owned(),
        };
        format!("  client  {peer}  {what}")
    }));
    if let more @ 1.. = survey.connections.len().saturating_sub(CONNECTIONS) {
        lines.push(format!("  client  {more} more"));
    }
    lines
}

/// How many connections are shown one by one.
const CONNECTIONS: usize = 20;

/// Each planned phase with its end.
fn phases(plan: &Plan) -> Vec<String> {
    let until = |what: &str, end: Option<std::time::Duration>| match end {
        Some(end) => format!("{what} until {} at the latest", short(end)),
        None => format!("{what}, without a limit"),
    };
    let (work, ends) = (&plan.work, &plan.ends);
    let mut phases = Vec::new();
    if work.deregister {
        phases.push(until("deregister", ends.deregister));
    }
    if work.settle.is_some() {
        phases.push(until("settle", ends.traffic));
    }
    if work.drain.is_some() {
        phases.push(until("drain", ends.traffic));
    }
    phases.push(until("terminate", ends.terminate));
    if !work.flush.is_zero() {
        phases.push(until("flush", ends.flush));
    }
    phases.push(match (plan.policy.timeout.value, ends.kill) {
        (Timeout::After(_), Some(kill)) => format!("kill at {} if it is still alive", short(kill)),
        _ => "kill never".into(),
    });
    if plan.policy.then == Then::Start {
        phases.push("start again".into());
    }
    phases
}

#[cfg(test)]
mod tests {
    use gracefully_core::diagnosis::Code;
    use gracefully_core::plan::Work;
    use gracefully_core::policy::{Policy, Request, Settings};
    use gracefully_core::traffic::{Method, Why};
    use gracefully_engine::{Published, State};

    use super::*;

    fn container(state: State) -> Container {
        Container {
            id: "4711".into(),
            name: "web".into(),
            image: String::new(),
            command: vec!["python3".into(), "app.py".into()],
            state,
            health: None,
            created: None,
            started: None,
            finished: None,
            exit_code: None,
            pid: Some(4711),
            ports: String::new(),
            network: Network::default(),
            settings: Settings::default(),
            labels: std::collections::BTreeMap::new(),
            auto_remove: false,
            note: None,
        }
    }

    fn target() -> Target {
        Target { engine: "local".into(), id: "0123456789abcdef".into(), name: "web".into() }
    }

    fn plan(request: &Request) -> Plan {
        Plan::new(Policy::resolve(request, &Settings::default()), Work::default())
    }

    #[test]
    fn it_says_who_gets_what_and_when() {
        let finding = Finding::new(Code::SignalReachesNobody, "It is deaf.").hint("Handle it.");
        assert_eq!(
            preview(&target(), &container(State::Running), &plan(&Request::default()), None, &[finding]),
            [
                "web  local 0123456789ab, running",
                "  signal  SIGTERM (docker's default) to pid 4711: python3 app.py",
                "  budget  10 s (docker's default)",
                "  phase   terminate until 10.00 s at the latest",
                "  phase   kill at 10.00 s if it is still alive",
                "  note    It is deaf. Handle it.",
            ]
        );
    }

    #[test]
    fn a_command_cannot_write_to_the_terminal() {
        let container =
            Container { command: vec!["evil\u{1b}[2J".into(), "x\ny".into()], ..container(State::Running) };
        let lines = preview(&target(), &container, &plan(&Request::default()), None, &[]);
        assert!(lines[1].ends_with(r"pid 4711: evil\u{1b}[2J x\ny"), "{lines:?}");
    }

    #[test]
    fn without_a_limit_nothing_is_killed() {
        let request = Request { timeout: Some(Timeout::Never), then: Then::Start, ..Request::default() };
        let lines = preview(&target(), &container(State::Paused), &plan(&request), None, &[]);
        assert_eq!(
            lines[2..],
            [
                "  budget  unlimited time (as asked)",
                "  phase   terminate, without a limit",
                "  phase   kill never",
                "  phase   start again"
            ]
        );
    }

    #[test]
    fn it_says_who_is_connected_and_what_happens_to_others() {
        let restart = Request { then: Then::Start, ..Request::default() };
        let policy = Policy::resolve(&restart, &Settings::default());
        let plan = Plan::new(policy, Work::of(restart.care, restart.then));
        let survey = Survey {
            ports: vec![80, 443],
            connections: vec![
                ("127.0.0.1:4711".parse().unwrap(), Activity::Idle),
                ("[::1]:4712".parse().unwrap(), Activity::Busy(Why::Unanswered)),
            ],
            hold: Ok(Method::Nfqueue),
            refuse: Ok(()),
        };
        let mut container = container(State::Running);
        container.network.published =
            vec![Published { outside: "127.0.0.1:8000".parse().unwrap(), inside: 80 }];
        let lines = preview(&target(), &container, &plan, Some(&Ok(survey)), &[]);
        assert_eq!(
            lines[3..],
            [
                "  phase   drain until 7.00 s at the latest",
                "  phase   terminate until 10.00 s at the latest",
                "  phase   kill at 10.00 s if it is still alive",
                "  phase   start again",
                "  listens 80, 443, published at 127.0.0.1:8000",
                "  new     held (nfqueue)",
                "  client  127.0.0.1:4711  idle",
                "  client  [::1]:4712  busy: the request is not answered",
            ]
        );
    }

    #[test]
    fn there_is_nothing_to_stop_when_it_is_not_up() {
        let lines = preview(&target(), &container(State::Exited), &plan(&Request::default()), None, &[]);
        assert_eq!(lines, ["web  local 0123456789ab, exited", "  nothing to stop"]);
    }
}
