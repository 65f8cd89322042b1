//! `inspect`: a JSON array on stdout, those that were not found on stderr.

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::Failures;
use crate::args::Inspect;
use crate::interrupt::Interrupts;
use crate::lookup::Missing;
use crate::parallel::{AT_ONCE, in_order};
use crate::settings::Settings;

pub(super) async fn inspect(settings: &Settings, args: Inspect) -> anyhow::Result<u8> {
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
    settings.console.line(&pretty(&Value::Array(objects))?);
    Ok(failures.tell(settings))
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
