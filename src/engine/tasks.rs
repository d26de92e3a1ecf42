//! The tasks of a worker beside its rounds, and what becomes of the worker when one panics.

use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

/// Starts tasks on a worker's thread. tokio keeps the panic of a task to itself; the worker, whose
/// state the task may have left half changed, is told here.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Rc<Notify>);

impl Tasks {
    pub(super) fn start(&self, task: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let alarm = Alarm(Rc::clone(&self.0));
        spawn_local(async move {
            let _alarm = alarm;
            task.await;
        })
    }

    /// Waits until a task panics.
    pub(super) async fn panicked(&self) {
        self.0.notified().await;
    }
}

/// Goes off when dropped by a panic.
struct Alarm(Rc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    /// PROC-13: a connection's task that panics is known to the worker; one that ends or is given up
    /// is no matter.
    #[test]
    fn a_panic_in_a_task_is_told() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let tasks = Tasks::default();
            tasks.start(async {}).await.unwrap();
            let given_up = tasks.start(pending());
            tokio::task::yield_now().await;
            given_up.abort();
            assert!(given_up.await.unwrap_err().is_cancelled());
            let soon = timeout(Duration::ZERO, tasks.panicked());
            assert!(soon.await.is_err(), "nobody has panicked");
            let panicked = tasks.start(async { panic!("as a test wants it") });
            assert!(panicked.await.unwrap_err().is_panic());
            let told = timeout(Duration::from_secs(10), tasks.panicked());
            assert_eq!(told.await, Ok(()));
        });
    }
}
