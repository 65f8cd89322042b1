//! What went wrong on the way to the daemon and back, in the words of [`Error`].

use std::error::Error as StdError;
use std::io;

use hyper::StatusCode;
use serde::Deserialize;

use crate::Error;

/// The connection could not be made.
pub(super) fn dial(address: &str, error: io::Error) -> Error {
    let address = address.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NoDaemon { address },
        io::ErrorKind::PermissionDenied => Error::SocketPermission { address },
        _ => Error::System { what: format!("the connection to {address}"), source: error },
    }
}

/// The connection broke, or what came back is no HTTP.
pub(super) fn lost(address: &str, error: &hyper::Error) -> Error {
    let why = if error.is_incomplete_message() {
        "it closed the connection without an answer".into()
    } else if error.is_parse() {
        "its answer is not HTTP".into()
    } else {
        chain(error)
    };
    Error::Lost { address: address.to_owned(), why }
}

/// The daemon answered with an error: its own text, or what there is of one.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = match serde_json::from_slice(body) {
        Ok(Refusal { message }) => message.trim_end().to_owned(),
        Err(_) => match String::from_utf8_lossy(body).trim() {
            "" => status.to_string(),
            text => text.chars().take(1000).collect(),
        },
    };
    Error::Daemon { status: status.as_u16(), message }
}

/// Is nothing known of what became of an order, because the daemon is gone or silent?
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Lost { .. } | Error::Timeout { .. } | Error::NoDaemon { .. } | Error::SocketPermission { .. }
    )
}

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_printed_in_the_daemons_words() {
        let error = refused(StatusCode::NOT_FOUND, b"{\"message\":\"No such container: nope\"}\n");
        assert_eq!(error.to_string(), "Error response from daemon: No such container: nope");
        assert!(error.is_not_found() && !error.is_not_running() && !error.is_ambiguous());

        let error = refused(StatusCode::BAD_REQUEST, b"Client sent an HTTP request to an HTTPS server.\n");
        assert_eq!(
            error.to_string(),
            "Error response from daemon: Client sent an HTTP request to an HTTPS server."
        );

        let error = refused(StatusCode::BAD_GATEWAY, b"");
        assert_eq!(error.to_string(), "Error response from daemon: 502 Bad Gateway");
    }

    #[test]
    fn refusals_are_told_apart_whatever_the_status() {
        for text in ["Multiple IDs found with provided prefix: 1", "more than one result for container ID e"]
        {
            let error = Error::Daemon { status: 404, message: text.into() };
            assert!(error.is_ambiguous() && !error.is_not_found(), "{error:?}");
        }
        for (status, text) in [
            (StatusCode::CONFLICT, "Cannot kill container: e: Container 0123 is not running"),
            (StatusCode::INTERNAL_SERVER_ERROR, "can only kill running containers. 0123 is in state exited"),
        ] {
            let error = Error::Daemon { status: status.as_u16(), message: text.into() };
            assert!(error.is_not_running() && !error.is_not_found(), "{error:?}");
        }
    }

    #[test]
    fn what_podman_removes_while_it_looks_is_not_found() {
        let of = |status: StatusCode, message: &str| Error::Daemon {
            status: status.as_u16(),
            message: message.into(),
        };
        let gone = "container 0123 does not exist in database: no such container";
        assert!(of(StatusCode::INTERNAL_SERVER_ERROR, gone).is_not_found());
        assert!(!of(StatusCode::INTERNAL_SERVER_ERROR, "no such container runtime").is_not_found());
    }

    #[test]
    fn a_socket_that_is_not_there_or_closed_to_us_is_told_apart() {
        let dial = |kind| dial("unix:///s", io::Error::from(kind)).to_string();
        assert_eq!(
            dial(io::ErrorKind::NotFound),
            "Cannot connect to the Docker daemon at unix:///s. Is the docker daemon running?"
        );
        assert_eq!(dial(io::ErrorKind::ConnectionRefused), dial(io::ErrorKind::NotFound));
        assert!(
            dial(io::ErrorKind::PermissionDenied).starts_with("permission denied while trying to connect")
        );
        assert_eq!(dial(io::ErrorKind::HostUnreachable), "the connection to unix:///s failed");
    }
}
