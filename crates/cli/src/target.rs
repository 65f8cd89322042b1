//! Who is meant: `NAME`, `docker:NAME`, `local:NAME` or `pid:N`.

use gracefully_engine::Kind;

use crate::args::EngineChoice;

/// A target as typed, understood but not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to look; `None`: the local engine first, then docker.
    pub(crate) engine: Option<Kind>,
    /// What to look for: a name, an identifier, its beginning, or a PID.
    pub(crate) name: String,
}

impl Target {
    /// A prefix wins over `--engine`. A container's name cannot contain a colon, so nothing is lost.
    pub(crate) fn parse(text: &str, choice: EngineChoice) -> anyhow::Result<Self> {
        let chosen = match choice {
            EngineChoice::Auto => None,
            EngineChoice::Docker => Some(Kind::Docker),
            EngineChoice::Local => Some(Kind::Local),
        };
        let (engine, name) = match text.split_once(':') {
            Some(("docker", name)) => (Some(Kind::Docker), name),
            Some(("local", name)) => (Some(Kind::Local), name),
            Some(("pid", pid)) => {
                let valid = pid.parse::<u32>().is_ok_and(|pid| pid > 0);
                anyhow::ensure!(
                    valid,
                    "invalid process ID: {pid:?}: write pid:N with the number that ps shows"
                );
                (Some(Kind::Process), pid)
            }
            _ => (chosen, text),
        };
        anyhow::ensure!(!name.trim().is_empty(), "invalid container name or ID: value is empty");
        // Docker shows names with a slash in front in some places, and takes them back.
        let name = name.strip_prefix('/').unwrap_or(name);
        Ok(Self { engine, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Option<Kind>, String), String> {
        let target = Target::parse(text, EngineChoice::Auto).map_err(|e| e.to_string())?;
        Ok((target.engine, target.name))
    }

    #[test]
    fn a_prefix_names_the_engine() {
        assert_eq!(parse("web"), Ok((None, "web".into())));
        assert_eq!(parse("/web"), Ok((None, "web".into())));
        assert_eq!(parse("docker:web"), Ok((Some(Kind::Docker), "web".into())));
        assert_eq!(parse("local:web"), Ok((Some(Kind::Local), "web".into())));
        assert_eq!(parse("pid:12"), Ok((Some(Kind::Process), "12".into())));
        assert_eq!(parse("podman:web"), Ok((None, "podman:web".into())));
    }

    #[test]
    fn the_prefix_wins_over_the_flag() {
        let target = |text| Target::parse(text, EngineChoice::Docker).unwrap().engine;
        assert_eq!(target("web"), Some(Kind::Docker));
        assert_eq!(target("local:web"), Some(Kind::Local));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for empty in ["", " ", "docker:", "local:\t"] {
            assert_eq!(parse(empty), Err("invalid container name or ID: value is empty".into()), "{empty:?}");
        }
        for pid in ["pid:", "pid:0", "pid:-1", "pid:x", "pid:99999999999"] {
            assert!(parse(pid).is_err(), "{pid}");
        }
    }
}
