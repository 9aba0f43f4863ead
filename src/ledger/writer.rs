//! From the queue to the journal: collects rows for the commit window, numbers them, and commits them as a group. One
//! thread, so that the numbers have no gap and the disk is waited for once a group.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::entry::{Entry, UsageRow, What, write_line};
use super::journal::Journal;
use super::open::Notes;
use super::{Message, STOP, Shared};
use crate::config::settings::Ledger as Settings;

/// Rows of one group at most, so that a burst does not make one long write.
const GROUP: usize = 8192;
/// How often is looked for requests that have been in work for long, while none settles.
const LOOK: Duration = Duration::from_millis(50);
/// How long a full or broken disk is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often the log repeats that rows are being lost.
const REMIND: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    window: Duration,
    most_bytes: u64,
    journal: Journal,
    shared: Arc<Shared>,
    next_seq: i64,
    lines: Vec<u8>,
    /// Numbers of the requests whose rows are in `lines`.
    over: Vec<u64>,
    notes: Notes,
    complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(settings: &Settings, journal: Journal, shared: Arc<Shared>) -> Self {
        let notes = Notes::new(journal.folder());
        Self {
            window: settings.commit_window,
            most_bytes: settings.journal_max_bytes,
            journal,
            shared,
            next_seq: 0,
            lines: Vec::with_capacity(64 * 1024),
            over: Vec::new(),
            notes,
            complained: None,
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let first = match messages.recv_timeout(LOOK) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.notes.write(&self.shared.open);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut flow = self.take(first);
            if flow.is_continue() {
                // Waking for each row would cost its request more than the row.
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the thread is the ledger's own; nobody waits for it"
                )]
                std::thread::sleep(self.window);
            }
            let mut count = 1;
            while count < GROUP
                && flow.is_continue()
                && let Ok(message) = messages.try_recv()
            {
                flow = self.take(message);
                count += 1;
            }
            self.commit(flow.is_break());
            if flow.is_break() {
                let mut progress = self.shared.lock();
                progress.stop_by = Some(Instant::now() + STOP);
                self.shared.changed.notify_all();
                return;
            }
        }
    }

    fn take(&mut self, message: Message) -> ControlFlow<()> {
        match message {
            Message::Row(record, begun) => {
                self.over.extend(begun);
                self.add(What::Row(Box::new(UsageRow::of(&record))));
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            }
            Message::Stop => ControlFlow::Break(()),
        }
    }

    fn add(&mut self, what: What) {
        write_line(&mut self.lines, &Entry { seq: self.next_seq, what });
        self.next_seq += 1;
    }

    /// Commits the group, and with it how many rows were lost before. While the disk or the journal is full, it waits:
    /// then the queue fills, which is what `when_full` is about.
    fn commit(&mut self, is_last: bool) {
        self.commit_lines(is_last);
        // Whatever became of their rows: what was lost is told as such.
        for over in self.over.drain(..) {
            self.shared.open.end(over);
        }
        self.notes.write(&self.shared.open);
    }

    fn commit_lines(&mut self, is_last: bool) {
        self.note_losses();
        let mut tries = 0;
        while !self.lines.is_empty() {
            let pending = self.shared.pending_bytes();
            let has_room = pending < self.most_bytes;
            let result = if has_room {
                self.journal.append(&self.lines).map_err(|error| error.to_string())
            } else {
                Err(format!(
                    "it holds {pending} bytes that the store does not have; journal_max_bytes is reached"
                ))
            };
            match result {
                Ok(()) => {
                    self.shared.written_bytes.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
                    self.lines.clear();
                    if self.shared.is_full.swap(false, Ordering::Relaxed) {
                        log::info!("ledger: the journal takes rows again");
                        self.complained = None;
                    }
                    self.shared.lock().committed = Some(self.journal.end());
                    self.shared.changed.notify_all();
                }
                Err(why) => {
                    self.shared.is_full.store(true, Ordering::Relaxed);
                    self.complain(&why);
                    tries += 1;
                    if is_last && RETRY * tries > STOP {
                        log::error!(
                            "ledger: stopping with {} bytes of rows that are now lost",
                            self.lines.len()
                        );
                        return;
                    }
                    #[expect(clippy::disallowed_methods, reason = "the thread is the ledger's own")]
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn note_losses(&mut self) {
        let count = self.shared.lost_now.swap(0, Ordering::Relaxed);
        let cost = self.shared.lost_now_peur.swap(0, Ordering::Relaxed);
        if count > 0 {
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.add(What::Lost { count: number(count), cost_peur: number(cost) });
            log::error!(
                "ledger: {count} rows worth {} EUR were lost: queue and journal were full",
                crate::record::PicoEur(cost.into()).decimal()
            );
        }
    }

    fn complain(&mut self, why: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= REMIND) {
            let path = self.journal.folder().display();
            log::error!("ledger: the journal {path} takes no rows: {why}; they wait in memory");
            self.complained = Some(Instant::now());
        }
    }
}
