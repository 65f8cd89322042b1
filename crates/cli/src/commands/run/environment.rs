//! `--env-file` and `-e`: files first, then the command line; the last word on a name counts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::values::{self, Variable};

/// All variables in their order. A name without a value takes ours, or is left out.
pub(super) fn resolve(files: &[PathBuf], flags: Vec<Variable>) -> anyhow::Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for file in files {
        variables.extend(read(file)?);
    }
    variables.extend(flags);
    Ok(variables
        .into_iter()
        .filter_map(|v| Some((v.value.or_else(|| ours(&v.name))?, v.name)))
        .map(|(value, name)| (name, value))
        .collect())
}

/// What is not UTF-8 comes as docker passes it on: with U+FFFD in its place.
fn ours(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn read(file: &Path) -> anyhow::Result<Vec<Variable>> {
    let shown = file.display();
    let bytes = fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow::anyhow!("open {shown}: no such file or directory"),
        _ => anyhow::anyhow!("open {shown}: {error}"),
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow::anyhow!("invalid env file ({shown}): it is not UTF-8"))?;
    parse(&text).map_err(|why| anyhow::anyhow!("invalid env file ({shown}): {why}"))
}

/// Docker's format: no quotes, no continuation; `#` begins a comment only at the beginning of a line.
fn parse(text: &str) -> Result<Vec<Variable>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let variable =
                values::variable(line).map_err(|_| format!("no variable name on line '{line}'"))?;
            if variable.name.contains(char::is_whitespace) {
                return Err(format!("variable '{}' contains whitespaces", variable.name));
            }
            if line.contains('\0') {
                return Err(format!("variable '{}' contains a zero byte", variable.name.replace('\0', "")));
            }
            Ok(variable)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_docker_reads_it() {
        let variables = parse("\u{feff}A=1\n\n  # note\n  B=x # y\nC=\"q\"\nD\n").unwrap();
        let pairs: Vec<_> = variables.iter().map(|v| (v.name.as_str(), v.value.as_deref())).collect();
        assert_eq!(pairs, [("A", Some("1")), ("B", Some("x # y")), ("C", Some("\"q\"")), ("D", None)]);
        assert_eq!(parse("=c"), Err("no variable name on line '=c'".into()));
        assert_eq!(parse("A=b\0c"), Err("variable 'A' contains a zero byte".into()));
        assert_eq!(parse("A B=c"), Err("variable 'A B' contains whitespaces".into()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = [PathBuf::from("/nonexistent/env")];
        let error = resolve(&missing, vec![]).unwrap_err();
        assert_eq!(error.to_string(), "open /nonexistent/env: no such file or directory");
    }

    #[test]
    fn a_name_without_a_value_takes_ours_or_is_left_out() {
        let flag =
            |name: &str, value: Option<&str>| Variable { name: name.into(), value: value.map(Into::into) };
        let path = std::env::var("PATH").unwrap();
        assert_eq!(
            resolve(&[], vec![flag("PATH", None), flag("NOT_SET_ANYWHERE", None), flag("E", Some(""))])
                .unwrap(),
            [("PATH".into(), path), ("E".into(), String::new())]
        );
    }
}
