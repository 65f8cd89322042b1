//! Stop signal and stop timeout as configured, each with its source.
//!
//! Docker's order is: the request, the container (`--stop-timeout`, `--stop-signal`, the image's STOPSIGNAL, compose),
//! the daemon's default, 10 s and SIGTERM. A Swarm service's `--stop-grace-period` is not in the container that it
//! makes (moby/moby#36955), so `docker stop` of a task gives 10 s whatever the service says; we ask the service.
//!
//! The daemon's `default-stop-timeout` (29.7 and later) is not in any answer of the API. So when nobody has said
//! anything the engine is told no timeout and its own applies (see [`super::stop`]).

use std::time::Duration;

use gracefully_core::policy::{Settings, Source, Sourced, Timeout};
use gracefully_core::signal::Signal;

use super::api;
use super::client::{Call, Client, Flavour};

/// The label of every container that Swarm makes.
const SERVICE_LABEL: &str = "com.docker.swarm.service.id";

/// What the container itself says.
pub(super) fn of_container(config: Option<&api::Config>, flavour: Flavour) -> Settings {
    let Some(config) = config else { return Settings::default() };
    // A container made through Podman's API without a timeout has 0 there, and Podman would kill at once.
    let timeout = config.stop_timeout.filter(|&seconds| flavour == Flavour::Docker || seconds != 0);
    Settings {
        timeout: timeout.map(|seconds| Sourced::new(Timeout::from_seconds(seconds), Source::Container)),
        signal: config
            .stop_signal
            .as_ref()
            .and_then(signal)
            .map(|signal| Sourced::new(signal, Source::Container)),
    }
}

/// Adds what the Swarm service says where the container says nothing. Asks the daemon only if there is a service and
/// something to ask. A daemon that is no Swarm manager does not know, and that is no error.
pub(super) async fn add_service(settings: &mut Settings, config: Option<&api::Config>, client: &Client) {
    if settings.timeout.is_some() {
        return;
    }
    let labels = config.and_then(|config| config.labels.as_ref());
    let Some(service) = labels.and_then(|labels| labels.get(SERVICE_LABEL)) else { return };
    if !service.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return;
    }
    if let Ok(service) = client.ask::<api::Service>(Call::get(format!("/services/{service}"))).await {
        *settings = with_service(*settings, &service.spec.task_template.container_spec);
    }
}

fn with_service(settings: Settings, spec: &api::ContainerSpec) -> Settings {
    let timeout = spec.stop_grace_period.map(|ns| Timeout::After(Duration::from_nanos(ns)));
    let signal = spec.stop_signal.as_deref().and_then(|text| text.parse().ok());
    Settings {
        timeout: settings.timeout.or(timeout.map(|timeout| Sourced::new(timeout, Source::Service))),
        signal: settings.signal.or(signal.map(|signal| Sourced::new(signal, Source::Service))),
    }
}

/// Docker accepts any number in `--stop-signal`, also one that Linux does not have; then it is the daemon's affair what
/// it sends.
fn signal(signal: &api::StopSignal) -> Option<Signal> {
    match signal {
        api::StopSignal::Text(text) => text.parse().ok(),
        api::StopSignal::Number(number) => Signal::from_number(*number).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str, flavour: Flavour) -> Settings {
        of_container(Some(&serde_json::from_str(config).unwrap()), flavour)
    }

    fn container<T>(value: T) -> Sourced<T> {
        Sourced::new(value, Source::Container)
    }

    #[test]
    fn the_container_says_what_was_configured() {
        let settings = of(r#"{"StopSignal":"RTMIN+3","StopTimeout":7}"#, Flavour::Docker);
        assert_eq!(settings.signal, Some(container(Signal::from_number(37).unwrap())));
        assert_eq!(settings.timeout, Some(container(Timeout::from_seconds(7))));
        assert_eq!(of(r#"{"StopTimeout":-1}"#, Flavour::Docker).timeout, Some(container(Timeout::Never)));
        assert_eq!(of("{}", Flavour::Docker), Settings::default());
        assert_eq!(of(r#"{"StopSignal":"","StopTimeout":null}"#, Flavour::Docker), Settings::default());
    }

    #[test]
    fn a_signal_that_linux_does_not_have_is_left_to_the_daemon() {
        assert_eq!(of(r#"{"StopSignal":"99"}"#, Flavour::Docker).signal, None);
    }

    #[test]
    fn podman_writes_signals_as_numbers_and_no_timeout_as_zero() {
        for text in [r#"{"StopSignal":15,"StopTimeout":0}"#, r#"{"StopSignal":"15","StopTimeout":0}"#] {
            let settings = of(text, Flavour::Podman);
            assert_eq!(settings, Settings { signal: Some(container(Signal::TERM)), timeout: None });
        }
        // In docker zero means zero.
        assert_eq!(
            of(r#"{"StopTimeout":0}"#, Flavour::Docker).timeout,
            Some(container(Timeout::from_seconds(0)))
        );
    }

    #[test]
    fn a_service_fills_what_the_container_leaves_open() {
        let service: api::Service = serde_json::from_str(
            r#"{"ID":"s","Spec":{"TaskTemplate":{"ContainerSpec":{"Image":"i","StopGracePeriod":4000000000,"StopSignal":"SIGINT"}}}}"#,
        )
        .unwrap();
        let spec = &service.spec.task_template.container_spec;
        let own = Settings { timeout: None, signal: Some(container(Signal::QUIT)) };
        let filled = with_service(own, spec);
        assert_eq!(filled.timeout, Some(Sourced::new(Timeout::from_seconds(4), Source::Service)));
        assert_eq!(filled.signal, Some(container(Signal::QUIT)));
        let filled = with_service(Settings::default(), spec);
        assert_eq!(filled.signal, Some(Sourced::new(Signal::INT, Source::Service)));
    }
}
