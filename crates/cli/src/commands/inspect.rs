//! `inspect`: a JSON array on stdout, or a line for each as `--format` says; those that were not found on stderr.

use gracefully_core::exit;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::Failures;
use crate::args::Inspect;
use crate::interrupt::Interrupts;
use crate::lookup::Missing;
use crate::parallel::{AT_ONCE, in_order};
use crate::settings::Settings;
use crate::template::Template;

/// What is printed.
enum Form {
    Indented,
    Compact,
    Lines(Template),
}

/// The format is understood before anybody is looked up, as docker does.
pub(super) async fn inspect(settings: &Settings, args: Inspect) -> anyhow::Result<u8> {
    let form = match args.format.as_str() {
        "" => Form::Indented,
        "json" => Form::Compact,
        text => match Template::parse(text) {
            Ok(template) => Form::Lines(template),
            Err(why) => {
                settings.console.error(&format!("template parsing error: {why}"));
                return Ok(exit::TEMPLATE);
            }
        },
    };
    let mut interrupts = Interrupts::new()?;
    let mut objects = Vec::new();
    let mut failures = Failures::default();
    let jobs = args.targets.iter().map(|target| one(settings, target));
    let all = in_order(jobs, AT_ONCE, |_, result| match result {
        Ok(object) => objects.push(object),
        Err(why) => failures.add(why),
    });
    if let Err(interrupt) = interrupts.or(all).await {
        return Ok(interrupt.code());
    }
    settings.console.line(&match form {
        Form::Indented => pretty(&Value::Array(objects))?,
        Form::Compact => Value::Array(objects).to_string(),
        Form::Lines(template) => lines(&template, &objects, &mut failures),
    });
    Ok(failures.tell(settings))
}

/// A line for each object that has what the format names. Docker prints an empty one if there is none.
fn lines(template: &Template, objects: &[Value], failures: &mut Failures) -> String {
    let mut lines = Vec::new();
    for object in objects {
        match template.render(object) {
            Ok(line) => lines.push(line),
            Err(why) => failures.add(format!("template parsing error: {why}")),
        }
    }
    lines.join("\n")
}

async fn one(settings: &Settings, target: &str) -> Result<Value, String> {
    let found = settings.engines.find(target).await.map_err(|missing| not_found(target, &missing))?;
    found.engine.inspect(&found.container).await.map_err(|error| found.in_words(&error))
}

/// Docker's text is another one here than everywhere else.
fn not_found(target: &str, missing: &Missing) -> String {
    if missing.is_certain() { format!("Error: No such object: {target}") } else { missing.to_string() }
}

/// JSON indented by four, as docker's.
fn pretty(value: &Value) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_dockers() {
        let value = serde_json::json!([{ "Name": "/web" }]);
        assert_eq!(pretty(&value).unwrap(), "[\n    {\n        \"Name\": \"/web\"\n    }\n]");
        assert_eq!(pretty(&serde_json::json!([])).unwrap(), "[]");
    }
}
