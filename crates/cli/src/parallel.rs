//! Many targets at once, results in the order of the arguments.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

/// How many targets are worked on at once, as docker does. Fifty stops at once do not exhaust a daemon, and ten
/// thousand do not need ten thousand connections.
pub(crate) const AT_ONCE: usize = 50;

/// Runs `jobs`, at most `limit` at once, and hands each result over with its place as soon as it and all before it
/// are there. A slow first job does not keep the others from being started.
pub(crate) async fn in_order<F: Future>(
    jobs: impl IntoIterator<Item = F>,
    limit: usize,
    mut deliver: impl FnMut(usize, F::Output),
) {
    let jobs = jobs.into_iter().enumerate().map(|(place, job)| async move { (place, job.await) });
    let mut results = std::pin::pin!(stream::iter(jobs).buffer_unordered(limit));
    let mut early = BTreeMap::new();
    let mut due = 0;
    while let Some((place, result)) = results.next().await {
        early.insert(place, result);
        while let Some(result) = early.remove(&due) {
            deliver(due, result);
            due += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::task::{Context, Waker};

    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn a_result_waits_for_those_before_it_and_for_no_other() {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<char>()).unzip();
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        let delivered = RefCell::new(Vec::new());
        let mut send = |place: usize, c| senders[place].take().unwrap().send(c).unwrap();
        let mut run = std::pin::pin!(in_order(receivers, 50, |place, result| {
            delivered.borrow_mut().push((place, result.unwrap()));
        }));

        let mut now = Context::from_waker(Waker::noop());
        send(2, 'c');
        assert!(run.as_mut().poll(&mut now).is_pending());
        assert_eq!(*delivered.borrow(), []);
        send(0, 'a');
        assert!(run.as_mut().poll(&mut now).is_pending());
        assert_eq!(*delivered.borrow(), [(0, 'a')]);
        send(1, 'b');
        assert!(run.as_mut().poll(&mut now).is_ready());
        assert_eq!(*delivered.borrow(), [(0, 'a'), (1, 'b'), (2, 'c')]);
    }

    #[tokio::test]
    async fn ten_thousand_jobs_run_fifty_at_a_time_even_if_the_first_is_the_last_to_end() {
        let running = Rc::new(Cell::new(0));
        let most = Rc::new(Cell::new(0));
        let (all_others_done, first) = oneshot::channel::<()>();
        let mut first = Some(first);
        let ended = Rc::new(Cell::new(0));
        let all_others_done = Rc::new(Cell::new(Some(all_others_done)));
        let jobs = (0..10_000).map(|place| {
            let (running, most, ended) = (running.clone(), most.clone(), ended.clone());
            let (all_others_done, first) = (all_others_done.clone(), first.take());
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                match first {
                    Some(first) => first.await.unwrap(),
                    None => tokio::task::yield_now().await,
                }
                running.set(running.get() - 1);
                ended.set(ended.get() + 1);
                if ended.get() == 9_999 {
                    all_others_done.take().unwrap().send(()).unwrap();
                }
                place
            }
        });
        let mut delivered = Vec::new();
        in_order(jobs, AT_ONCE, |place, result| delivered.push((place, result))).await;
        assert!(delivered.iter().copied().eq((0..10_000).map(|place| (place, place))));
        assert_eq!(most.get(), AT_ONCE);
    }
}
