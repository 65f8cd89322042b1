//! `--format`, as far as scripts go with it: text with fields of the JSON in it.
//!
//! Docker has Go's `text/template` there. Of that we know `{{.State.Pid}}`, the field as text, and `{{json .State}}`, the
//! field as JSON; both print what docker prints, and what is wrong with them is said in Go's words. Everything else
//! is refused before anybody is asked, never printed as something else.

use serde_json::Value;

/// A format that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// A place in the JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// As typed: `.State.Pid`, or `.` for everything.
    typed: String,
    form: Form,
    /// Where Go says that it stands, `LINE:COLUMN`.
    position: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Template {
    /// Understands a format. The error is what docker prints behind "template parsing error".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once("{{") {
            let refuse = |why: &str| {
                let line = text[..text.len() - opened.len()].matches('\n').count() + 1;
                Err(format!("template: :{line}: {why}"))
            };
            let Some((action, behind)) = opened.split_once("}}") else { return refuse("unclosed action") };
            let (form, typed) = match action.split_whitespace().collect::<Vec<_>>()[..] {
                [] => return refuse("missing value for command"),
                [field] if is_field(field) => (Form::Text, field),
                ["json", field] if is_field(field) => (Form::Json, field),
                _ => {
                    return refuse(&format!(
                        "{{{{{action}}}}} is not supported, only fields such as {{{{.State.Pid}}}} \
                         and {{{{json .State}}}}; leave --format out and use jq"
                    ));
                }
            };
            let start = text.len() - opened.len() + action.find(typed).unwrap_or_default();
            pieces.push(Piece::Text(before.to_owned()));
            let position = position(text, start, typed);
            pieces.push(Piece::Field(Field { typed: typed.to_owned(), form, position }));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// What the format makes of a value. The error is docker's, too.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Field(field) => field.render(value).map_err(|why| {
                    format!("template: :{}: executing \"\" at <{}>: {why}", field.position, field.typed)
                }),
            })
            .collect()
    }
}

impl Field {
    fn render(&self, value: &Value) -> Result<String, String> {
        let found = self.names().try_fold(value, |value, name| match value {
            Value::Object(fields) => {
                fields.get(name).ok_or_else(|| format!("map has no entry for key {name:?}"))
            }
            Value::Null => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            _ => Err(format!("can't evaluate field {name} in type interface {{}}")),
        })?;
        match self.form {
            Form::Json => Ok(found.to_string()),
            Form::Text => as_text(found)
                .ok_or_else(|| format!("an object is no text: write {{{{json {}}}}}", self.typed)),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.typed.split('.').filter(|name| !name.is_empty())
    }
}

/// `.`, or names with a dot before each.
fn is_field(word: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    word == "." || word.strip_prefix('.').is_some_and(|names| names.split('.').all(is_name))
}

/// Go gives the column of the second name, if there is one, and counts bytes from zero.
fn position(text: &str, start: usize, typed: &str) -> String {
    let at = start + typed[1..].find('.').map_or(0, |dot| dot + 1);
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |feed| feed + 1);
    format!("{}:{}", before.matches('\n').count() + 1, at - line_start)
}

/// As Go prints a value; an object prints differently according to its type, which JSON does not tell.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("<nil>".to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(as_text).collect();
            items.map(|items| format!("[{}]", items.join(" ")))
        }
        Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(format: &str) -> Result<String, String> {
        let value = json!({
            "Name": "/web",
            "Args": ["a", "b c"],
            "State": { "Status": "running", "Pid": 42, "OOMKilled": false, "Health": null },
            "Mounts": [{ "Type": "bind" }],
            "Binds": [],
        });
        Template::parse(format)?.render(&value)
    }

    #[test]
    fn fields_print_as_in_go() {
        for (format, expected) in [
            ("{{.State.Status}}", "running"),
            ("{{ .State.Pid }}", "42"),
            ("{{.State.OOMKilled}}{{.State.Health}}", "false<nil>"),
            ("{{.Args}} {{.Binds}}", "[a b c] []"),
            ("{{json .Args}}", r#"["a","b c"]"#),
            ("{{json .State}}", r#"{"Status":"running","Pid":42,"OOMKilled":false,"Health":null}"#),
            ("{{json .Name}}{{json .State.Health}}", r#""/web"null"#),
            ("name={{.Name}};\n}}", "name=/web;\n}}"),
            ("{{.Name}}}", "/web}"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(render(format), Ok(expected.to_owned()), "{format}");
        }
        assert!(render("{{json .}}").unwrap().starts_with(r#"{"Name":"/web","Args":["#));
    }

    #[test]
    fn what_is_not_there_is_said_in_gos_words() {
        for (format, expected) in [
            ("{{.Foo}}", r#":1:2: executing "" at <.Foo>: map has no entry for key "Foo""#),
            ("{{.State.Foo}}", r#":1:8: executing "" at <.State.Foo>: map has no entry for key "Foo""#),
            (
                "{{.State.Status.Foo}}",
                r#":1:8: executing "" at <.State.Status.Foo>: can't evaluate field Foo in type interface {}"#,
            ),
            (
                "{{.State.Health.Status}}",
                r#":1:8: executing "" at <.State.Health.Status>: nil pointer evaluating interface {}.Status"#,
            ),
            ("a\né {{json .Foo}}", r#":2:10: executing "" at <.Foo>: map has no entry for key "Foo""#),
            ("{{.State}}", r#":1:2: executing "" at <.State>: an object is no text: write {{json .State}}"#),
            ("{{.}}", r#":1:2: executing "" at <.>: an object is no text: write {{json .}}"#),
            (
                "{{.Mounts}}",
                r#":1:2: executing "" at <.Mounts>: an object is no text: write {{json .Mounts}}"#,
            ),
        ] {
            assert_eq!(render(format), Err(format!("template: {expected}")), "{format}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_before_anybody_is_asked() {
        assert_eq!(render("x{{.State").unwrap_err(), "template: :1: unclosed action");
        assert_eq!(render("\n{{ }}").unwrap_err(), "template: :2: missing value for command");
        for action in [
            "State",
            ".State.",
            "..State",
            ". State",
            ".app-name",
            ".0",
            "json",
            "json .A .B",
            "json.A",
            "- .Name -",
            "range .Mounts",
            "end",
            "/* */",
            ".Name | json",
            "index .Args 0",
            "\"text\"",
            "$",
            "",
        ] {
            let error = Template::parse(&format!("{{{{{action}}}}}")).unwrap_err();
            let known = action.is_empty() || error.contains(&format!("{{{{{action}}}}} is not supported"));
            assert!(known && error.starts_with("template: :1: "), "{action}: {error}");
        }
    }

    #[test]
    fn any_text_is_understood_or_refused() {
        let pieces = ["{{", "}}", "{", "}", ".", ".A", "json", " ", "\n", "é", "\"", "|"];
        for n in 0..pieces.len().pow(4) {
            let digits = std::iter::successors(Some(n), |n| Some(n / pieces.len()));
            let format: String = digits.take(4).map(|n| pieces[n % pieces.len()]).collect();
            if let Ok(template) = Template::parse(&format) {
                let _ = template.render(&json!({ "A": 1 }));
            }
        }
    }
}
