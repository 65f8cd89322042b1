//! The HTTP side of an order service. It knows nothing of signals: what it needs of the stop is a [`Token`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `orders`, at once |
//! | `GET /slow/MS` | `orders`, after so many milliseconds |
//! | `POST /orders` | 201 when the order, the body, is on the disk |
//! | `POST /orders/early` | 202 at once; it is on the disk soon, at the latest when the service has stopped |
//! | `GET /orders` | how many orders there are |
//! | `GET /orders/new` | every new order as a line, until the service stops |

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use futures_util::stream;
use gracefully::Token;
use gracefully::durable::{DurableFile, Found};
use tokio::sync::watch;

/// The longest order, in bytes.
const LONGEST: usize = 1000;

/// All orders.
#[derive(Debug)]
pub struct Orders {
    book: DurableFile,
    /// How many there are, and the last one.
    news: watch::Sender<(u64, Bytes)>,
}

impl Orders {
    /// The orders in this file, which is made if it is not there.
    ///
    /// Fails as [`DurableFile::open`] does. If something was cut off at the end, that is said on standard error.
    pub fn open(book: impl AsRef<std::path::Path>) -> io::Result<Self> {
        let path = book.as_ref().display();
        let (book, found) = DurableFile::open(&book)?;
        if found.cut > 0 {
            let Found { records, cut } = found;
            // Nobody may read it.
            let _ = writeln!(
                io::stderr(),
                "{path}: {cut} bytes behind {records} orders are none, and were moved to {path}.cut"
            );
        }
        Ok(Self { book, news: watch::Sender::new((found.records, Bytes::new())) })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.news.borrow().0
    }

    /// Returns when all of them are on the disk.
    pub async fn flush(&self) -> io::Result<()> {
        self.book.flush_async().await
    }

    fn announce(&self, order: Bytes) {
        self.news.send_modify(|(count, last)| {
            *count += 1;
            *last = order;
        });
    }
}

/// The routes; streams end when the token says so.
pub fn router(orders: Arc<Orders>, token: Token) -> Router {
    Router::new()
        .route("/", get(async || "orders\n"))
        .route("/slow/{milliseconds}", get(slow))
        .route("/orders", get(count).post(order))
        .route("/orders/early", axum::routing::post(order_early))
        .route("/orders/new", get(async move |orders| new_orders(orders, token)))
        .with_state(orders)
}

type Answer = (StatusCode, String);

async fn slow(Path(milliseconds): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "orders\n"
}

async fn count(State(orders): State<Arc<Orders>>) -> String {
    format!("{}\n", orders.count())
}

/// Whoever hears 201 may forget the order: we cannot any more.
async fn order(State(orders): State<Arc<Orders>>, order: Bytes) -> Answer {
    if let Some(refusal) = refuse(&order) {
        return refusal;
    }
    answer(orders.book.append_async(&order).await, StatusCode::CREATED, &orders, order)
}

/// Whoever hears 202 has our word that it will be written: `Phase::Flush` keeps it, unless we are killed.
async fn order_early(State(orders): State<Arc<Orders>>, order: Bytes) -> Answer {
    if let Some(refusal) = refuse(&order) {
        return refusal;
    }
    answer(orders.book.append_buffered(&order), StatusCode::ACCEPTED, &orders, order)
}

fn refuse(order: &[u8]) -> Option<Answer> {
    if order.is_empty() {
        return Some((StatusCode::BAD_REQUEST, "an order is the body of the request\n".into()));
    }
    (order.len() > LONGEST)
        .then(|| (StatusCode::PAYLOAD_TOO_LARGE, format!("an order has {LONGEST} bytes at most\n")))
}

fn answer(written: io::Result<()>, good: StatusCode, orders: &Orders, order: Bytes) -> Answer {
    match written {
        Ok(()) => {
            orders.announce(order);
            (good, "accepted\n".into())
        }
        Err(error) => (StatusCode::INSUFFICIENT_STORAGE, format!("the order was not written: {error}\n")),
    }
}

/// A stream without an end of its own. It asks the token, so that drain need not cut it.
fn new_orders(State(orders): State<Arc<Orders>>, token: Token) -> Body {
    let news = orders.news.subscribe();
    Body::from_stream(stream::unfold((news, token), async |(mut news, token)| {
        tokio::select! {
            () = token.requested() => None,
            changed = news.changed() => {
                changed.ok()?;
                let line = [&news.borrow_and_update().1[..], b"\n"].concat();
                Some((io::Result::Ok(line), (news, token)))
            }
        }
    }))
}
