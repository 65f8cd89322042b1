use std::fs;

use super::*;

/// A made-up configuration directory.
struct Config(tempfile::TempDir);

impl Config {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn context(&self, name: &str, docker: &str) -> &Self {
        let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{docker}}}}}"#);
        self.write(&format!("contexts/meta/{}/meta.json", store::digest(name)), &meta)
    }

    fn tls_file(&self, context: &str, file: &str) -> &Self {
        self.write(&format!("contexts/tls/{}/docker/{file}", store::digest(context)), "")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn options(&self) -> EndpointOptions {
        EndpointOptions { config_dir: Some(self.0.path().into()), ..EndpointOptions::default() }
    }

    fn resolve(&self, change: impl FnOnce(&mut EndpointOptions)) -> Result<Endpoint> {
        let mut options = self.options();
        change(&mut options);
        Endpoint::resolve(&options)
    }

    fn host(&self, change: impl FnOnce(&mut EndpointOptions)) -> String {
        self.resolve(change).map_or_else(|error| format!("error: {error}"), |it| it.host.to_string())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every option is an Option")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_context_is_found_by_the_digest_of_its_name() {
    // `docker context create tls1` on Docker 28.2.
    assert_eq!(store::digest("default"), "37a8eec1ce19687d132fe29051dca629d164e2c4958ba141d5f4133a33f0688f");
}

#[test]
fn the_strongest_word_on_the_context_wins() {
    let config = Config::new();
    for name in ["flag", "env", "file"] {
        config.context(name, &format!(r#"{{"Host":"unix:///{name}.sock"}}"#));
    }
    config.write("config.json", r#"{"currentContext":"file","auths":{}}"#);

    let everything = |options: &mut EndpointOptions| {
        options.context = some("flag");
        options.environment.docker_host = some("unix:///host.sock");
        options.environment.docker_context = some("env");
    };
    assert_eq!(config.host(everything), "unix:///flag.sock");
    assert_eq!(
        config.host(|options| {
            everything(options);
            options.context = None;
        }),
        "unix:///host.sock"
    );
    assert_eq!(
        config.host(|options| {
            everything(options);
            options.context = None;
            options.environment.docker_host = None;
        }),
        "unix:///env.sock"
    );
    assert_eq!(config.host(|_| ()), "unix:///file.sock");
    assert_eq!(config.host(|options| options.host = some("unix:///h.sock")), "unix:///h.sock");
    // The default context is that of flags and environment, and never looks for files.
    assert_eq!(
        config.host(|options| {
            everything(options);
            options.context = some("default");
        }),
        "unix:///host.sock"
    );
}

#[test]
fn host_and_context_contradict_each_other() {
    let config = Config::new();
    let host = config.host(|options| {
        options.host = some("unix:///h");
        options.context = some("c");
    });
    assert_eq!(host, "error: conflicting options: cannot specify both --host and --context");
}

#[test]
fn a_missing_context_is_told_in_dockers_words() {
    let config = Config::new();
    let path = config.path(&format!("contexts/meta/{}/meta.json", store::digest("nosuch")));
    assert_eq!(
        config.host(|options| options.context = some("nosuch")),
        format!(
            "error: unable to resolve docker endpoint: context \"nosuch\": context not found: open {}: no such file or directory",
            path.display()
        )
    );
}

#[test]
fn a_broken_context_names_its_file() {
    let config = Config::new();
    config.write(&format!("contexts/meta/{}/meta.json", store::digest("torn")), r#"{"Name":"torn","Endp"#);
    config.context("empty", "{}");
    for (name, word) in [("torn", "meta.json"), ("empty", "has no docker endpoint")] {
        let error = config.host(|options| options.context = some(name));
        assert!(error.starts_with("error: ") && error.contains(name) && error.contains(word), "{error}");
    }
}

#[test]
fn a_broken_config_file_is_a_warning() {
    let config = Config::new();
    config.write("config.json", "{");
    let endpoint = config.resolve(|_| ()).unwrap();
    assert_eq!(endpoint.host.to_string(), "unix:///var/run/docker.sock");
    let warning = endpoint.warning.unwrap();
    assert!(warning.contains("config.json"), "{warning}");
}

#[test]
fn a_missing_config_directory_is_no_news() {
    let config = Config::new();
    let endpoint = config.resolve(|options| options.config_dir = Some("/nonexistent".into())).unwrap();
    assert_eq!(endpoint.host.to_string(), "unix:///var/run/docker.sock");
    assert_eq!(endpoint.warning, None);
}

#[test]
fn the_config_directory_is_flag_then_variable_then_home() {
    let config = Config::new();
    for (dir, name) in [("variable", "v"), ("home/.docker", "h")] {
        config.write(&format!("{dir}/config.json"), &format!(r#"{{"currentContext":"{name}"}}"#));
    }
    let variables = [
        ("DOCKER_CONFIG", config.path("variable")),
        ("HOME", config.path("home")),
        ("DOCKER_HOST", PathBuf::new()),
    ];
    let lookup = |name: &str| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, path)| path.clone().into_os_string())
    };
    let mut options =
        EndpointOptions { environment: Environment::from_vars(lookup), ..EndpointOptions::default() };

    let missing = |options: &EndpointOptions| Endpoint::resolve(options).unwrap_err().to_string();
    assert!(missing(&options).contains("context \"v\""), "{}", missing(&options));
    options.environment.docker_config = None;
    assert!(missing(&options).contains("context \"h\""), "{}", missing(&options));
}

#[test]
fn tls_of_the_default_context_comes_from_flags_and_variables() {
    let config = Config::new();
    config.write("cert.pem", "").write("key.pem", "");
    let remote = |change: &dyn Fn(&mut EndpointOptions)| {
        config
            .resolve(|options| {
                options.host = some("tcp://127.0.0.1:1");
                change(options);
            })
            .unwrap()
            .tls
    };
    let identity = Some(Identity { cert: config.path("cert.pem"), key: config.path("key.pem") });
    let verified = Verify::Against(config.path("ca.pem"));

    assert_eq!(remote(&|_| ()), None);
    assert_eq!(remote(&|o| o.tls = true), Some(Tls { verify: Verify::No, identity: identity.clone() }));
    assert_eq!(
        remote(&|o| o.tls_verify = Some(true)),
        Some(Tls { verify: verified.clone(), identity: identity.clone() })
    );
    assert_eq!(
        remote(&|o| o.tls_verify = Some(false)),
        Some(Tls { verify: Verify::No, identity: identity.clone() })
    );
    assert_eq!(
        remote(&|o| o.environment.docker_tls_verify = some("0")),
        Some(Tls { verify: verified, identity: identity.clone() })
    );
    assert_eq!(remote(&|o| o.environment.docker_tls = some("x")), Some(Tls { verify: Verify::No, identity }));
    // Elsewhere there is no certificate of ours.
    assert_eq!(
        remote(&|o| {
            o.environment.docker_tls_verify = some("1");
            o.environment.docker_cert_path = Some("/elsewhere".into());
        }),
        Some(Tls { verify: Verify::Against("/elsewhere/ca.pem".into()), identity: None })
    );
}

#[test]
fn a_socket_needs_no_tls() {
    let endpoint = Config::new().resolve(|options| {
        options.host = some("unix:///s");
        options.tls = true;
    });
    assert_eq!(endpoint.unwrap().tls, None);
}

#[test]
fn a_context_uses_only_its_own_tls_files() {
    let config = Config::new();
    let resolve = |name: &str| {
        let endpoint = config.resolve(|options| {
            options.context = some(name);
            options.tls_verify = Some(true);
        });
        endpoint.unwrap().tls
    };
    let tls_path =
        |name: &str, file: &str| config.path(&format!("contexts/tls/{}/docker/{file}", store::digest(name)));

    for name in ["plain", "full", "skip", "anonymous"] {
        let skip = name == "skip";
        config.context(name, &format!(r#"{{"Host":"tcp://127.0.0.1:1","SkipTLSVerify":{skip}}}"#));
    }
    config.tls_file("full", "ca.pem").tls_file("full", "cert.pem").tls_file("full", "key.pem");
    config.tls_file("anonymous", "ca.pem");

    assert_eq!(resolve("plain"), None);
    assert_eq!(
        resolve("full"),
        Some(Tls {
            verify: Verify::Against(tls_path("full", "ca.pem")),
            identity: Some(Identity { cert: tls_path("full", "cert.pem"), key: tls_path("full", "key.pem") })
        })
    );
    assert_eq!(resolve("skip"), Some(Tls { verify: Verify::No, identity: None }));
    assert_eq!(
        resolve("anonymous"),
        Some(Tls { verify: Verify::Against(tls_path("anonymous", "ca.pem")), identity: None })
    );
}
