//! What systemd and the log are told of draining, whoever has begun or undone it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::serve::notify;
use crate::admin::{Drain, Draining};
use crate::engine::Control;

/// How often the log is told how many allocations are left.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Begun,
    Still(Draining),
    Undone,
}

/// Tells it for ever. What happens at the beginning and at the end has its own log lines.
pub(super) async fn tell(drain: Drain, control: Control) {
    let tell = |told| match told {
        Told::Begun => notify(&[NotifyState::Status("Draining")]),
        Told::Undone => notify(&[NotifyState::Status("Serving")]),
        Told::Still(Draining { since, deadline }) => {
            let now = Instant::now();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now).as_secs());
            tracing::info!(
                allocations = control.shared().quota.total(),
                for_s = now.saturating_duration_since(since).as_secs(),
                deadline_s = left,
                "still draining"
            );
        }
    };
    follow(drain.changes(), TOLD_EVERY, tell).await;
}

async fn follow(
    mut changes: watch::Receiver<Option<Draining>>,
    every: Duration,
    mut tell: impl FnMut(Told),
) {
    let mut before = None;
    loop {
        let draining = *changes.borrow_and_update();
        match (before, draining) {
            (None, Some(_)) => tell(Told::Begun),
            (Some(_), None) => tell(Told::Undone),
            _ => {}
        }
        before = draining;
        let Some(draining) = draining else {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = sleep(every) => tell(Told::Still(draining)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// RELOAD-07: the beginning once, then again and again while it lasts, and the end.
    #[test]
    fn draining_is_told_while_it_lasts() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (state, changes) = watch::channel(None);
            let (sender, mut told) = unbounded_channel();
            let tell = move |it| sender.send(it).unwrap();
            tokio::spawn(follow(changes, Duration::from_millis(1), tell));
            let since = Instant::now();
            for deadline in [None, Some(since + TOLD_EVERY)] {
                let draining = Draining { since, deadline };
                state.send_replace(Some(draining));
                assert_eq!(told.recv().await, Some(Told::Begun));
                assert_eq!(told.recv().await, Some(Told::Still(draining)));
                assert_eq!(told.recv().await, Some(Told::Still(draining)));
                state.send_replace(None);
                let mut next = told.recv().await;
                while next == Some(Told::Still(draining)) {
                    next = told.recv().await;
                }
                assert_eq!(next, Some(Told::Undone));
            }
            drop(state);
            assert_eq!(told.recv().await, None);
        });
    }
}
