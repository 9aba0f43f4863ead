//! The scheduler of one simulated server: a queue, a batch, KV blocks, and a clock somebody else holds.
//!
//! It batches continuously. One step advances every sequence in the batch: sequences whose prompt is read
//! emit one token, the others read a share of `prefill_chunk` prompt tokens, oldest first. A step lasts
//!
//! ```text
//! (1 / decode rate) × (1 + batch_growth × (decoding − 1))  +  prompt tokens read / prefill rate
//! ```
//!
//! so a larger batch makes more tokens in all and each stream slower, and a long prompt delays everyone:
//! the two effects capacity is planned with.
//!
//! Admission is by worst case, in arrival order: the simulator knows how long each answer will be, so it
//! reserves prompt and answer at once and never has to throw a sequence out. vLLM admits on the prompt
//! alone and preempts when it guessed wrong; at the edge of its KV cache it therefore runs a few sequences
//! more and recomputes some. Blocks held by cancelled sequences are free at once, in the middle of a step.
//!
//! Pure: no socket, no clock, no task. `now` is the time since any fixed moment.

use std::collections::VecDeque;
use std::time::Duration;

use super::cache::{BlockPool, Hold};
use super::metrics::Histogram;

/// How fast and how large the simulated server is.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    /// Prompt tokens read in a second, nothing else running.
    pub(super) prefill_tokens_per_second: f64,
    /// Tokens a second of a stream that has the server to itself.
    pub(super) decode_tokens_per_second: f64,
    /// Share of the single-stream step time that each further sequence adds.
    pub(super) batch_growth: f64,
    /// Most prompt tokens read in one step.
    pub(super) prefill_chunk: u32,
    /// Most sequences in a step.
    pub(super) max_batch: usize,
    /// Most sequences waiting.
    pub(super) max_queue: usize,
    /// KV blocks.
    pub(super) blocks: u32,
    /// Tokens a block.
    pub(super) block_size: u32,
    /// Whether prompt blocks are kept for later prompts.
    pub(super) prefix_cache: bool,
    /// Real seconds a simulated second takes; 0 never waits.
    pub(super) time_scale: f64,
}

/// A prompt as the scheduler sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt {
    /// Length.
    pub(super) tokens: u32,
    /// One hash a full block, each covering all text before it.
    pub(super) chain: Vec<u64>,
}

/// One sequence to run: a prompt and how many tokens to answer (0 for embeddings).
#[derive(Debug)]
pub(super) struct Job<H> {
    pub(super) prompt: Prompt,
    pub(super) output: u32,
    /// Whom to tell; handed back with each emission.
    pub(super) holder: H,
}

/// What one step did for one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Emission {
    /// Tokens answered so far.
    pub(super) produced: u32,
    /// Prompt tokens found in the prefix cache.
    pub(super) cached: u32,
    /// It was the last step of this sequence.
    pub(super) is_finished: bool,
}

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// What has happened so far and what is going on now.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) blocks_total: u32,
    pub(super) blocks_held: u32,
    pub(super) blocks_cached: u32,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) generation_tokens: u64,
    pub(super) finished: u64,
    pub(super) aborted: u64,
    pub(super) queue_time: Histogram,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) whole_request: Histogram,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Engine<H> {
    profile: Profile,
    slowdown: f64,
    pool: BlockPool,
    waiting: VecDeque<Sequence<H>>,
    running: Vec<Sequence<H>>,
    step_ends: Option<Duration>,
    last_step_ended: Duration,
    next_id: u64,
    stats: Stats,
}

#[derive(Debug)]
struct Sequence<H> {
    id: u64,
    job: Job<H>,
    hold: Hold,
    read: u32,
    cached: u32,
    produced: u32,
    plan: Plan,
    submitted: Duration,
    last_token: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    Rest,
    Read(u32),
    Decode,
}

/// A late timer makes the next step start in the past, so that the average rate is right; but no further
/// than this, so that a stalled machine does not answer with a burst.
const MOST_CATCH_UP: Duration = Duration::from_millis(50);
/// Longest step, whatever speeds and faults say: an hour is for ever here, and sums of it do not overflow.
const LONGEST_STEP: Duration = Duration::from_secs(3_600);

impl<H> Engine<H> {
    /// An idle server.
    pub(super) fn new(profile: Profile) -> Self {
        let pool = BlockPool::new(profile.blocks);
        Self {
            profile,
            slowdown: 1.0,
            pool,
            waiting: VecDeque::new(),
            running: Vec::new(),
            step_ends: None,
            last_step_ended: Duration::ZERO,
            next_id: 0,
            stats: Stats::default(),
        }
    }

    /// Stretches time by `factor` (1 is normal speed), what is left of the present step too: a server healed
    /// in the middle of a very slow step is healed at once.
    pub(super) fn set_slowdown(&mut self, now: Duration, factor: f64) {
        if let Some(ends) = self.step_ends.filter(|_| self.slowdown > 0.0) {
            let left = ends.saturating_sub(now).as_secs_f64() * factor / self.slowdown;
            self.step_ends = Some(now + step(left));
        }
        self.slowdown = factor;
    }

    /// Queues `jobs`, all or none, and returns the id of the first; the others follow it.
    ///
    /// # Errors
    /// [`QueueFull`] when they do not all fit in the queue.
    pub(super) fn submit(&mut self, now: Duration, jobs: Vec<Job<H>>) -> Result<u64, QueueFull> {
        let free_slots = self.profile.max_batch.saturating_sub(self.running.len());
        if self.waiting.len() + jobs.len() > self.profile.max_queue + free_slots {
            return Err(QueueFull);
        }
        let first = self.next_id;
        for job in jobs {
            self.waiting.push_back(Sequence {
                id: self.next_id,
                job,
                hold: Hold::default(),
                read: 0,
                cached: 0,
                produced: 0,
                plan: Plan::Rest,
                submitted: now,
                last_token: now,
            });
            self.next_id += 1;
        }
        Ok(first)
    }

    /// Takes a sequence out and frees its blocks. False when it had finished already.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        if let Some(at) = self.waiting.iter().position(|sequence| sequence.id == id) {
            self.waiting.remove(at);
        } else if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            let sequence = self.running.remove(at);
            self.pool.release(sequence.hold);
            if self.running.is_empty() {
                // Nobody is left in the step: the next request need not wait for its end.
                self.step_ends = None;
            }
        } else {
            return false;
        }
        self.stats.aborted += 1;
        true
    }

    /// Ends the step that is due, tells `emit` what it did, starts the next one. Returns when to call
    /// again, or `None` when there is nothing to do.
    pub(super) fn poll(&mut self, now: Duration, emit: impl FnMut(&H, Emission)) -> Option<Duration> {
        match self.step_ends {
            Some(ends) if ends > now => return Some(ends),
            Some(ends) => {
                self.finish_step(ends, emit);
                self.last_step_ended = ends;
            }
            None => self.last_step_ended = now,
        }
        self.admit(now);
        self.step_ends = self.plan_step().map(|length| {
            let start = self.last_step_ended.max(now.saturating_sub(MOST_CATCH_UP));
            start + length
        });
        self.step_ends
    }

    /// Counters and gauges as of now.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            running: self.running.len(),
            waiting: self.waiting.len(),
            blocks_total: self.pool.total(),
            blocks_held: self.pool.held(),
            blocks_cached: self.pool.idle(),
            ..self.stats.clone()
        }
    }

    fn admit(&mut self, now: Duration) {
        while self.running.len() < self.profile.max_batch {
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            let prompt = &sequence.job.prompt;
            let chain = if self.profile.prefix_cache { prompt.chain.clone() } else { Vec::new() };
            // The last prompt token is always computed: its result is the first token's distribution.
            let lookup = prompt.tokens.saturating_sub(1) / self.profile.block_size;
            let needed = (prompt.tokens + sequence.job.output).div_ceil(self.profile.block_size);
            let Some(hold) = self.pool.reserve(chain, lookup as usize, needed) else {
                self.waiting.push_front(sequence);
                break;
            };
            sequence.cached = hold.hits * self.profile.block_size;
            sequence.read = sequence.cached;
            sequence.hold = hold;
            self.stats.prompt_tokens += u64::from(sequence.job.prompt.tokens);
            self.stats.cached_tokens += u64::from(sequence.cached);
            self.stats.queue_time.observe(now.saturating_sub(sequence.submitted));
            self.running.push(sequence);
        }
    }

    fn plan_step(&mut self) -> Option<Duration> {
        if self.running.is_empty() {
            return None;
        }
        let (mut decoding, mut budget) = (0_u32, self.profile.prefill_chunk);
        for sequence in &mut self.running {
            let unread = sequence.job.prompt.tokens.saturating_sub(sequence.read);
            sequence.plan = if unread == 0 && (sequence.produced > 0 || sequence.job.prompt.tokens == 0) {
                decoding += 1;
                Plan::Decode
            } else {
                let share = unread.min(budget);
                budget -= share;
                if share > 0 { Plan::Read(share) } else { Plan::Rest }
            };
        }
        let profile = &self.profile;
        let decode = match decoding {
            0 => 0.0,
            n => (1.0 + profile.batch_growth * f64::from(n - 1)) / profile.decode_tokens_per_second,
        };
        let prefill = f64::from(profile.prefill_chunk - budget) / profile.prefill_tokens_per_second;
        let seconds = (decode + prefill) * self.slowdown * profile.time_scale;
        Some(step(seconds))
    }

    fn finish_step(&mut self, now: Duration, mut emit: impl FnMut(&H, Emission)) {
        let stats = &mut self.stats;
        let pool = &mut self.pool;
        self.running.retain_mut(|sequence| {
            let prompt = sequence.job.prompt.tokens;
            let speaks = match sequence.plan {
                Plan::Rest => false,
                Plan::Read(tokens) => {
                    sequence.read += tokens;
                    sequence.read >= prompt
                }
                Plan::Decode => true,
            };
            sequence.plan = Plan::Rest;
            if !speaks {
                return true;
            }
            if sequence.produced < sequence.job.output {
                let gap = now.saturating_sub(sequence.last_token);
                let histogram =
                    if sequence.produced == 0 { &mut stats.first_token } else { &mut stats.between_tokens };
                histogram.observe(gap);
                sequence.last_token = now;
                sequence.produced += 1;
                stats.generation_tokens += 1;
            }
            let is_finished = sequence.produced >= sequence.job.output;
            let (produced, cached) = (sequence.produced, sequence.cached);
            emit(&sequence.job.holder, Emission { produced, cached, is_finished });
            if is_finished {
                stats.finished += 1;
                stats.whole_request.observe(now.saturating_sub(sequence.submitted));
                pool.release(std::mem::take(&mut sequence.hold));
            }
            !is_finished
        });
    }
}

/// `seconds` as a span that can be added to a time.
pub(super) fn step(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST_STEP, |span| span.min(LONGEST_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            prefill_tokens_per_second: 1_000.0,
            decode_tokens_per_second: 100.0,
            batch_growth: 0.5,
            prefill_chunk: 100,
            max_batch: 4,
            max_queue: 3,
            blocks: 64,
            block_size: 16,
            prefix_cache: true,
            time_scale: 1.0,
        }
    }

    fn job(name: &'static str, prompt: u32, output: u32) -> Job<&'static str> {
        let chain = (0..u64::from(prompt / 16)).map(|block| block + 1_000 * name.len() as u64).collect();
        Job { prompt: Prompt { tokens: prompt, chain }, output, holder: name }
    }

    type Log = Vec<(&'static str, Emission, Duration)>;

    /// Runs until idle and returns every emission with its time.
    fn run(engine: &mut Engine<&'static str>, mut now: Duration) -> Log {
        let mut log = Vec::new();
        while let Some(next) = engine.poll(now, |name, emission| log.push((*name, emission, now))) {
            now = next;
        }
        log
    }

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_stream_pays_prefill_once_and_then_one_step_a_token() {
        let mut engine = Engine::new(profile());
        engine.submit(Duration::ZERO, vec![job("a", 50, 3)]).expect("the queue is empty");
        let times: Vec<_> =
            run(&mut engine, Duration::ZERO).iter().map(|(_, e, at)| (e.produced, *at)).collect();
        assert_eq!(times, [(1, millis(50)), (2, millis(60)), (3, millis(70))]);
    }

    #[test]
    fn a_step_grows_with_the_batch() {
        let step = |sequences: &[&'static str]| {
            let mut engine = Engine::new(profile());
            let jobs = sequences.iter().map(|name| job(name, 10, 5)).collect();
            engine.submit(Duration::ZERO, jobs).expect("the queue is empty");
            let log = run(&mut engine, Duration::ZERO);
            let last: Vec<_> =
                log.iter().filter(|(name, ..)| *name == sequences[0]).map(|(.., at)| *at).collect();
            last[4] - last[3]
        };
        assert_eq!(step(&["a"]), millis(10));
        assert_eq!(step(&["a", "bb", "ccc"]), millis(20), "10 ms × (1 + 0.5 × 2)");
    }

    #[test]
    fn a_long_prompt_is_read_in_chunks_while_others_go_on() {
        let mut engine = Engine::new(profile());
        engine.submit(Duration::ZERO, vec![job("a", 10, 20), job("bb", 300, 1)]).expect("empty queue");
        let log = run(&mut engine, Duration::ZERO);
        let first_of_b = log.iter().position(|(name, ..)| *name == "bb").expect("bb answers");
        let before = log[..first_of_b].iter().filter(|(name, ..)| *name == "a").count();
        assert_eq!(before, 4, "300 prompt tokens beside 10 take four steps of at most 100; a speaks in each");
    }

    #[test]
    fn without_blocks_a_sequence_waits_in_order() {
        let mut engine = Engine::new(Profile { blocks: 4, ..profile() });
        engine
            .submit(Duration::ZERO, vec![job("a", 40, 8), job("bb", 32, 4), job("ccc", 8, 2)])
            .expect("fits");
        engine.poll(Duration::ZERO, |_, _| {});
        let stats = engine.stats();
        assert_eq!((stats.running, stats.waiting, stats.blocks_held), (1, 2, 3));
        let log = run(&mut engine, Duration::ZERO);
        let order: Vec<_> = log.iter().filter(|(_, e, _)| e.is_finished).map(|(name, ..)| *name).collect();
        assert_eq!(order[0], "a", "the small third one does not overtake");
        assert_eq!(order.len(), 3);
        assert_eq!(engine.stats().blocks_held, 0);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut engine = Engine::new(profile());
        for _ in 0..7 {
            engine.submit(Duration::ZERO, vec![job("a", 10, 5)]).expect("four places and three in the queue");
        }
        assert_eq!(engine.submit(Duration::ZERO, vec![job("a", 10, 5)]), Err(QueueFull));
        engine.poll(Duration::ZERO, |_, _| {});
        assert_eq!(engine.stats().running, 4);
        assert_eq!(engine.submit(Duration::ZERO, vec![job("a", 10, 5)]), Err(QueueFull));
    }

    #[test]
    fn a_repeated_prompt_is_read_from_the_cache() {
        let mut engine = Engine::new(profile());
        engine.submit(Duration::ZERO, vec![job("a", 100, 1)]).expect("empty queue");
        run(&mut engine, Duration::ZERO);
        engine.submit(millis(1_000), vec![job("a", 100, 1)]).expect("empty queue");
        let log = run(&mut engine, millis(1_000));
        let (_, emission, at) = log[0];
        assert_eq!((emission.cached, at), (96, millis(1_004)), "four tokens are left to read");
        assert_eq!(engine.stats().cached_tokens, 96);
    }

    #[test]
    fn a_prompt_of_whole_blocks_still_computes_its_last() {
        let mut engine = Engine::new(profile());
        for _ in 0..2 {
            engine.submit(Duration::ZERO, vec![job("a", 64, 1)]).expect("empty queue");
            run(&mut engine, Duration::ZERO);
        }
        assert_eq!(engine.stats().cached_tokens, 48);
    }

    #[test]
    fn cancelling_frees_blocks_in_the_middle_of_a_step() {
        let mut engine = Engine::new(Profile { prefix_cache: false, ..profile() });
        let id = engine.submit(Duration::ZERO, vec![job("a", 100, 100), job("bb", 16, 2)]).expect("fits");
        engine.poll(Duration::ZERO, |_, _| {});
        assert_eq!(engine.stats().blocks_held, 13 + 2);
        assert!(engine.cancel(id));
        assert_eq!((engine.stats().blocks_held, engine.stats().aborted), (2, 1));
        assert!(!engine.cancel(id), "it is gone");
        let log = run(&mut engine, millis(1));
        assert!(log.iter().all(|(name, ..)| *name == "bb"));
        assert_eq!(engine.stats().finished, 1);
    }

    #[test]
    fn slowness_and_time_scale_stretch_time() {
        for (scale, slowdown, expected) in
            [(1.0, 3.0, 210), (0.1, 1.0, 7), (0.0, 3.0, 0), (1.0, 1e300, 3 * 3_600_000)]
        {
            let mut engine = Engine::new(Profile { time_scale: scale, ..profile() });
            engine.set_slowdown(Duration::ZERO, slowdown);
            engine.submit(Duration::ZERO, vec![job("a", 50, 3)]).expect("empty queue");
            let log = run(&mut engine, Duration::ZERO);
            assert_eq!(log.last().map(|(.., at)| *at), Some(millis(expected)), "{scale} {slowdown}");
        }
    }

    #[test]
    fn a_step_nobody_is_in_and_a_healed_one_do_not_delay() {
        let mut engine = Engine::new(profile());
        engine.set_slowdown(Duration::ZERO, 1_000.0);
        let id = engine.submit(Duration::ZERO, vec![job("a", 50, 1)]).expect("empty queue");
        assert_eq!(engine.poll(Duration::ZERO, |_, _| {}), Some(Duration::from_secs(50)));
        engine.cancel(id);
        engine.submit(millis(10), vec![job("bb", 50, 1)]).expect("empty queue");
        assert_eq!(engine.poll(millis(10), |_, _| {}), Some(millis(50_010)));
        engine.set_slowdown(millis(10_010), 1.0);
        let log = run(&mut engine, millis(10_010));
        assert_eq!(log.last().map(|(.., at)| *at), Some(millis(10_050)), "40 s left at a thousandth");
    }

    #[test]
    fn an_embedding_ends_with_its_prefill() {
        let mut engine = Engine::new(profile());
        engine.submit(Duration::ZERO, vec![job("a", 50, 0)]).expect("empty queue");
        let log = run(&mut engine, Duration::ZERO);
        assert_eq!(log, [("a", Emission { produced: 0, cached: 0, is_finished: true }, millis(50))]);
    }
}
