//! What errors are called.

use core::fmt;

use rustix::io::Errno;

/// The text of an error and its number, as the standard library writes them. rustix has the texts only with that.
#[derive(Clone, Copy, Debug)]
pub struct Described(pub Errno);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.raw_os_error();
        match TEXTS.iter().find(|(errno, _)| *errno == self.0) {
            Some((_, text)) => write!(f, "{text} (os error {number})"),
            None => write!(f, "os error {number}"),
        }
    }
}

/// Those that a user may meet (errno(3)).
const TEXTS: [(Errno, &str); 24] = [
    (Errno::PERM, "Operation not permitted"),
    (Errno::NOENT, "No such file or directory"),
    (Errno::SRCH, "No such process"),
    (Errno::IO, "Input/output error"),
    (Errno::TOOBIG, "Argument list too long"),
    (Errno::NOEXEC, "Exec format error"),
    (Errno::AGAIN, "Resource temporarily unavailable"),
    (Errno::NOMEM, "Cannot allocate memory"),
    (Errno::ACCESS, "Permission denied"),
    (Errno::BUSY, "Device or resource busy"),
    (Errno::EXIST, "File exists"),
    (Errno::NOTDIR, "Not a directory"),
    (Errno::ISDIR, "Is a directory"),
    (Errno::INVAL, "Invalid argument"),
    (Errno::NFILE, "Too many open files in system"),
    (Errno::MFILE, "Too many open files"),
    (Errno::TXTBSY, "Text file busy"),
    (Errno::FBIG, "File too large"),
    (Errno::NOSPC, "No space left on device"),
    (Errno::ROFS, "Read-only file system"),
    (Errno::NAMETOOLONG, "File name too long"),
    (Errno::NOSYS, "Function not implemented"),
    (Errno::LOOP, "Too many levels of symbolic links"),
    (Errno::DQUOT, "Disk quota exceeded"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_texts_are_the_c_librarys() {
        for (errno, _) in TEXTS {
            let theirs = std::io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(Described(errno).to_string(), theirs.to_string());
        }
        assert_eq!(Described(Errno::from_raw_os_error(4000)).to_string(), "os error 4000");
    }
}
