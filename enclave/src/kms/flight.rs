//! Single flight: while something is being fetched, whoever else wants it waits for the same.
//!
//! The work runs in a task of its own, so a caller that gives up takes nobody with it; when all
//! have given up the task is ended. What came of it is handed to those who waited and kept by
//! nobody here. No lock is held while anything waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

type Board<K, V> = Mutex<HashMap<K, (u64, Weak<Flight<V>>)>>;

/// What is under way, by key.
pub(super) struct Flights<K, V> {
    board: Arc<Board<K, V>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { board: Arc::default() }
    }
}

/// One piece of work; ended when the last one who waits for it is gone.
struct Flight<V> {
    outcome: watch::Receiver<Option<V>>,
    task: AbortHandle,
}

impl<V> Drop for Flight<V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes a flight off the board, however it ends.
struct Landing<K: Eq + Hash, V> {
    board: Arc<Board<K, V>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut board = lock(&self.board);
        // A newer flight for the same key may have taken the place already.
        if board.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            board.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The outcome of the flight for `key`, which `work` starts if there is none. `None` if the
    /// work panicked.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = self.board_or_start(key, work);
        let mut outcome = flight.outcome.clone();
        let value = outcome.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }

    fn board_or_start<F>(&self, key: K, work: impl FnOnce() -> F) -> Arc<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut board = lock(&self.board);
        let last = match board.get(&key) {
            Some((number, flight)) => match flight.upgrade() {
                Some(flight) => return flight,
                None => *number,
            },
            None => 0,
        };
        let number = last.wrapping_add(1);
        let landing = Landing { board: Arc::clone(&self.board), key, number };
        let (announce, outcome) = watch::channel(None);
        let work = work();
        let task = tokio::spawn(async move {
            let landing = landing;
            let value = work.await;
            let _ = announce.send(Some(value));
            drop(landing);
        });
        let flight = Arc::new(Flight { outcome, task: task.abort_handle() });
        board.insert(key, (number, Arc::downgrade(&flight)));
        flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_caller_that_gives_up_takes_nobody_with_it() {
        let (flights, gate, calls) =
            (Flights::<u8, u8>::default(), Arc::new(Notify::new()), AtomicUsize::new(0));
        let work = || {
            calls.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                7
            }
        };
        let mut leader = Box::pin(flights.join(1, work));
        assert!(futures_poll(leader.as_mut()).await.is_none());
        let mut follower = Box::pin(flights.join(1, work));
        assert!(futures_poll(follower.as_mut()).await.is_none());
        drop(leader);
        gate.notify_one();
        assert_eq!(follower.await, Some(7));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(lock(&flights.board).is_empty());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends_and_can_start_anew() {
        let flights = Flights::<u8, u8>::default();
        let (held, freed) = tokio::sync::oneshot::channel::<()>();
        let mut only = Box::pin(flights.join(1, move || async move {
            let _held = held;
            std::future::pending::<u8>().await
        }));
        assert!(futures_poll(only.as_mut()).await.is_none());
        drop(only);
        assert!(freed.await.is_err(), "the work was dropped");
        assert_eq!(flights.join(1, || async { 8 }).await, Some(8));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_outcome() {
        let flights = Flights::<u8, u8>::default();
        assert_eq!(flights.join(1, || async { panic!("defect") }).await, None);
        assert_eq!(flights.join(1, || async { 9 }).await, Some(9));
    }

    async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
