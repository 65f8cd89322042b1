//! What must not be seen: it comes from the environment or from a file, never from an argument, and is never shown.

use std::fmt;
use std::fs;

use crate::{Error, Result};

/// A password or a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The value of the environment variable `name`, else the first line of the file that `name_FILE` names; `None` if neither is set.
    ///
    /// The file is docker's and Kubernetes' way to hand a secret to a container.
    pub(crate) fn from_environment(name: &str) -> Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(value) = variable(name) {
            return Ok(Some(Self(value)));
        }
        let from = format!("{name}_FILE");
        let Some(path) = variable(&from) else { return Ok(None) };
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::Secret { what: from, why: format!("{path}: {error}") })?;
        Ok(Some(Self(text.lines().next().unwrap_or_default().to_owned())))
    }

    /// For the one who is to know it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
