//! TLS on 127.0.0.1, with certificates that openssl makes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gracefully_engine::docker::Docker;
use gracefully_engine::docker::endpoint::{Endpoint, EndpointOptions};
use gracefully_engine::{Engine, Error};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::fake::{Reply, read_request, respond};

/// An authority, a server's and a client's certificate: `ca.pem`, `server.pem`, `cert.pem` with their keys.
fn certificates(dir: &Path) {
    let script = "
        key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        openssl req -x509 $key -days 30 -subj /CN=test-authority -keyout ca-key.pem -out ca.pem
        issue() {
            openssl req $key -subj /CN=$1 -keyout $2 -out request.pem
            printf '%s' \"$4\" > extensions
            openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile extensions -out $3
        }
        issue daemon server-key.pem server.pem subjectAltName=IP:127.0.0.1
        issue client key.pem cert.pem extendedKeyUsage=clientAuth
    ";
    let made = Command::new("sh").args(["-ec", script]).current_dir(dir).stderr(Stdio::null()).status();
    assert!(made.unwrap().success(), "openssl");
}

fn has_openssl() -> bool {
    let found =
        Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        eprintln!("SKIPPED: openssl is not installed");
    }
    found
}

/// A daemon that wants to know its clients; returns its address.
async fn daemon(dir: &Path) -> String {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_file_iter(dir.join("ca.pem")).unwrap().map(Result::unwrap),
    );
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = CertificateDer::pem_file_iter(dir.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(dir.join("server-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if read_request(&mut stream).await.is_some() {
                respond(stream, Reply::running(0)).await;
            }
        }
    });
    host
}

fn connect(change: impl FnOnce(&mut EndpointOptions)) -> Result<Docker, Error> {
    let mut options = EndpointOptions::default();
    change(&mut options);
    Docker::connect(&Endpoint::resolve(&options)?)
}

#[tokio::test]
async fn both_sides_know_each_other_by_their_certificates() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let host = daemon(dir.path()).await;
    let with = |change: &dyn Fn(&mut EndpointOptions)| {
        connect(|options| {
            options.host = Some(host.clone());
            options.config_dir = Some(dir.path().into());
            change(options);
        })
    };

    let verified = with(&|options| options.tls_verify = Some(true)).unwrap();
    assert_eq!(verified.find("web").await.unwrap().name, "web");
    let unverified = with(&|options| options.tls = true).unwrap();
    assert_eq!(unverified.find("web").await.unwrap().name, "web");

    let stranger = with(&|options| {
        options.tls = true;
        options.config_dir = Some("/nonexistent".into());
    });
    assert!(stranger.unwrap().find("web").await.is_err());

    let plain = with(&|_| ()).unwrap();
    assert!(plain.find("web").await.is_err());
}

#[tokio::test]
async fn a_daemon_that_somebody_else_signed_for_is_refused() {
    if !has_openssl() {
        return;
    }
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(here.path());
    certificates(elsewhere.path());
    let host = daemon(here.path()).await;
    let docker = connect(|options| {
        options.host = Some(host.clone());
        options.tls_verify = Some(true);
        options.config_dir = Some(elsewhere.path().into());
    });
    let error = docker.unwrap().find("web").await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert_eq!(error.to_string(), format!("the connection to {host} failed"));
    assert!(source.contains("certificate"), "{source}");
}

#[test]
fn a_file_that_is_missing_or_no_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let verified = || {
        connect(|options| {
            options.host = Some("tcp://127.0.0.1:1".into());
            options.tls_verify = Some(true);
            options.config_dir = Some(dir.path().into());
        })
        .unwrap_err()
    };
    let ca = dir.path().join("ca.pem");
    assert_eq!(verified().to_string(), format!("cannot read {}", ca.display()));
    std::fs::write(&ca, "not PEM").unwrap();
    assert!(verified().to_string().contains(&format!("{} cannot be used for TLS", ca.display())));
}
