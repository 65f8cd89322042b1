//! Lines of the monitor's [`protocol`](gracefully_monitor::protocol), asynchronously.

use gracefully_monitor::protocol::{LIMIT, line, value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one line; `None` at the end, or if it is not one of ours.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> Option<T> {
    let mut text = Vec::new();
    from.take(LIMIT as u64).read_until(b'\n', &mut text).await.ok()?;
    value(&text)
}

/// Writes one line.
pub async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> std::io::Result<()> {
    to.write_all(&line(value)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use gracefully_monitor::protocol::Ask;

    #[tokio::test]
    async fn what_is_not_ours_ends_the_conversation() {
        for text in [&b""[..], b"\n", b"{}\n", b"\xff\xff\n", b"{\"ask\":\"wait\"", b"[1,2"] {
            let got: Option<Ask> = read(&mut &text[..]).await;
            assert_eq!(got, None, "{text:?}");
        }
        let got: Option<Ask> = read(&mut &b"{\"ask\":\"wait\"}\nrest"[..]).await;
        assert_eq!(got, Some(Ask::Wait));
    }
}
