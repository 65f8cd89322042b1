//! Which containers a list has.
//!
//! Docker's daemon knows its filters itself; [`Selection`] is the same for an engine that has nobody to leave them to.
//! Of several filters with one key any is enough, except for `label`; filters with different keys must all fit.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use crate::container::{Container, State};
use crate::error::{Error, Result};

/// What a list is to show.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Also those that are not running.
    pub all: bool,
    /// Only those that fit.
    pub filters: Vec<Filter>,
}

/// `--filter KEY=VALUE`, not understood yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What is looked at: `status`.
    pub key: String,
    /// What it has to be: `exited`.
    pub value: String,
}

/// The values of each key, as the Engine API takes them.
pub(crate) fn by_key(filters: &[Filter]) -> BTreeMap<&str, Vec<&str>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for Filter { key, value } in filters {
        keys.entry(key.as_str()).or_default().push(value.as_str());
    }
    keys
}

/// The options, understood. A key without a value here is not asked for.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    all: bool,
    ids: Vec<String>,
    names: Option<Vec<Regex>>,
    states: Vec<State>,
    exit_codes: Vec<i64>,
    labelled: bool,
}

impl Selection {
    pub(crate) fn new(options: &ListOptions) -> Result<Self> {
        let mut selection = Self { all: options.all, ..Self::default() };
        for Filter { key, value } in &options.filters {
            match key.as_str() {
                "id" => selection.ids.push(value.clone()),
                // For docker, too, a pattern that is none fits nobody.
                "name" => selection.names.get_or_insert_default().extend(Regex::new(value).ok()),
                "status" => {
                    let state: Result<State, ValueError> =
                        State::deserialize(value.as_str().into_deserializer());
                    selection.states.push(state.map_err(|_| refused(&format!("'status={value}'")))?);
                }
                "exited" => selection.exit_codes.push(value.parse().map_err(|_| {
                    refused(&format!("'exited={value}': strconv.Atoi: parsing {value:?}: invalid syntax"))
                })?),
                "label" => selection.labelled = true,
                _ => {
                    return Err(refused(&format!(
                        "'{key}': the local engine knows exited, id, label, name and status"
                    )));
                }
            }
        }
        Ok(selection)
    }

    /// Those of all containers that fit.
    pub(crate) fn select(&self, all: Vec<Container>) -> Vec<Container> {
        // As everywhere, the beginning of an identifier counts only if it is the beginning of no other.
        let id_of = |start: &String| {
            let mut fitting = all.iter().map(|it| &it.id).filter(|id| id.starts_with(start.as_str()));
            fitting.next().filter(|_| !start.is_empty() && fitting.next().is_none()).cloned()
        };
        let ids: Vec<String> = self.ids.iter().filter_map(id_of).collect();
        all.into_iter()
            .filter(|it| self.ids.is_empty() || ids.contains(&it.id))
            .filter(|it| self.fits(it))
            .collect()
    }

    fn fits(&self, container: &Container) -> bool {
        let Self { all, ids: _, names, states, exit_codes, labelled } = self;
        let Container { name, state, exit_code, started, .. } = container;
        let has_name = |pattern: &Regex| pattern.is_match(name) || pattern.is_match(&format!("/{name}"));
        let ended_with = |code: &i64| !state.is_up() && started.is_some() && *exit_code == Some(*code);
        // Who asks for a state wants to see it, running or not.
        (*all || !states.is_empty() || state.is_up())
            && (states.is_empty() || states.contains(state))
            && names.as_ref().is_none_or(|names| names.iter().any(has_name))
            && (exit_codes.is_empty() || exit_codes.iter().any(ended_with))
            // Nobody here has labels.
            && !labelled
    }
}

fn refused(what: &str) -> Error {
    Error::Filter { why: format!("invalid filter {what}") }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use gracefully_core::policy::Settings;

    use super::*;
    use crate::container::Network;

    fn container(id: &str, name: &str, state: State, exit_code: Option<i64>) -> Container {
        Container {
            id: id.into(),
            name: name.into(),
            image: "/".into(),
            command: vec!["app".into()],
            state,
            health: None,
            created: None,
            started: (state != State::Created).then_some(SystemTime::UNIX_EPOCH),
            finished: None,
            exit_code,
            pid: None,
            ports: String::new(),
            network: Network::default(),
            settings: Settings::default(),
            labels: BTreeMap::new(),
            auto_remove: false,
            note: None,
        }
    }

    /// The names of those that fit; `-a` among the filters is what it is on the command line.
    fn select(words: &str) -> Result<String, String> {
        let all = vec![
            container("aa1", "web", State::Running, Some(3)),
            container("aa2", "web-2", State::Exited, Some(0)),
            container("bb1", "db", State::Exited, Some(137)),
            container("bb", "new", State::Created, None),
            container("cc1", "loop", State::Restarting, Some(1)),
        ];
        let filter = |word: &str| {
            let (key, value) = word.split_once('=').unwrap();
            Filter { key: key.into(), value: value.into() }
        };
        let filters = words.split_whitespace().filter(|word| *word != "-a").map(filter).collect();
        let options = ListOptions { all: words.starts_with("-a"), filters };
        let selection = Selection::new(&options).map_err(|error| error.to_string())?;
        let names: Vec<_> = selection.select(all).into_iter().map(|it| it.name).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn docker_s_filters() {
        for (words, expected) in [
            ("", "web loop"),
            ("-a", "web web-2 db new loop"),
            ("status=exited", "web-2 db"),
            ("status=created status=running", "web new"),
            ("-a exited=137", "db"),
            ("-a exited=0 exited=137", "web-2 db"),
            // Neither one that runs, nor one that waits, nor one that never ran has an exit code.
            ("-a exited=3 exited=1", ""),
            ("exited=137", ""),
            ("exited=137 status=exited", "db"),
            ("-a name=web", "web web-2"),
            ("-a name=^web$ name=db", "web db"),
            ("-a name=^/d", "db"),
            ("-a name=", "web web-2 db new loop"),
            ("-a name=[", ""),
            ("-a id=aa1", "web"),
            ("-a id=aa", ""),
            ("-a id=", ""),
            ("-a id=a1", ""),
            ("-a id=aa1 id=c", "web loop"),
            ("-a id=bb1 name=web", ""),
            ("-a label=app", ""),
        ] {
            assert_eq!(select(words), Ok(expected.to_owned()), "{words}");
        }
    }

    #[test]
    fn filters_that_make_no_sense_are_refused_in_docker_s_words() {
        for (words, expected) in [
            ("status=bogus", "invalid filter 'status=bogus'"),
            ("status=", "invalid filter 'status='"),
            ("status=Exited", "invalid filter 'status=Exited'"),
            ("exited=x", r#"invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax"#),
            (
                "ancestor=x",
                "invalid filter 'ancestor': the local engine knows exited, id, label, name and status",
            ),
        ] {
            assert_eq!(select(words), Err(expected.to_owned()), "{words}");
        }
    }

    #[test]
    fn the_engine_api_takes_lists_by_key() {
        let filter = |key: &str, value: &str| Filter { key: key.into(), value: value.into() };
        let filters = [filter("status", "exited"), filter("name", "a"), filter("status", "dead")];
        let text = serde_json::to_string(&by_key(&filters)).unwrap();
        assert_eq!(text, r#"{"name":["a"],"status":["exited","dead"]}"#);
    }
}
