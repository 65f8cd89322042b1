//! What must not be seen: it comes from the environment or from a file, never from an argument, and is never shown.

use std::fmt;
use std::fs;

#[cfg(feature = "http")]
use base64::prelude::{BASE64_STANDARD, Engine as _};

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

/// Somebody with a password.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: Secret,
}

#[cfg(feature = "http")]
impl User {
    /// `NAME:PASSWORD` in the one environment variable, or `NAME` in it and the password in the other; each of them may stand in the file
    /// that `…_FILE` names.
    pub(crate) fn from_environment(user: &str, password: &str) -> Result<Option<Self>> {
        let Some(name) = Secret::from_environment(user)? else { return Ok(None) };
        if let Some((name, password)) = name.expose().split_once(':') {
            return Ok(Some(Self { name: name.to_owned(), password: password.into() }));
        }
        let missing =
            || format!("it names a user without a password, and there is no {password} or {password}_FILE");
        let password = Secret::from_environment(password)?
            .ok_or_else(|| Error::Secret { what: user.to_owned(), why: missing() })?;
        Ok(Some(Self { name: name.expose().to_owned(), password }))
    }

    /// What shows who asks, in the header `Authorization` (RFC 7617).
    pub(crate) fn basic(&self) -> Secret {
        let pair = format!("{}:{}", self.name, self.password.expose());
        Secret(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let user = User { name: "Aladdin".into(), password: "open sesame".into() };
        assert_eq!(user.basic().expose(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{user:?} {:?}", user.basic()).contains("sesame"));
    }
}
