//! `tollgate sim`: a simulated inference server, good enough to develop, demonstrate and plan capacity
//! against. It speaks vLLM's dialect of the OpenAI API and takes the time a GPU would: requests queue, prompts
//! are read at a prefill speed, answers come token by token from a batch whose steps get longer as it grows,
//! KV blocks run out, and prompts seen before are cheaper. It can be broken in the ways real servers break.
//!
//! One command runs several instances; each is a separate server with its own engine, cache and counters.
//!
//! ```text
//! request ─▶ http ─▶ request (parse) ─▶ answer (what to say) ─▶ driver ─▶ engine (when) ─▶ generate ─▶ shape
//! ```
//!
//! Everything time-dependent is in `engine`, which is pure; everything said is decided before it is
//! queued, so the engine knows how long each answer is. What is not simulated: logprobs, reasoning, tool
//! choice `auto`, preemption, LoRA, the prefix cache of generated text.
//! Bytes from outside never panic here.

mod answer;
mod cache;
mod control;
mod driver;
mod embed;
mod engine;
mod fault;
mod fleet;
mod generate;
mod http;
mod instance;
mod metrics;
mod prompt;
mod reply;
mod request;
mod shape;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::{Args, Parser};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use self::driver::{EngineHandle, drive};
use self::engine::Profile;
pub use self::fault::{Fault, Faults, UnknownFault};
use self::fleet::Fleet;
use self::instance::Instance;
use self::request::Serves;

/// Options of `tollgate sim`. The default speeds are those of a mid-size model on one data-centre GPU.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// Address to listen on; repeat or separate by commas for several instances. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "127.0.0.1:8101")]
    pub listen: Vec<SocketAddr>,
    /// Number of instances, on consecutive ports from the first address.
    #[arg(long, value_name = "N")]
    pub instances: Option<u16>,
    /// Address for /sim/state and /sim/fault of all instances, which no fault closes.
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<SocketAddr>,
    /// Model name to serve; repeatable. Without it any name is served and `tollgate-sim:1b` is listed.
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Speed of reading prompts.
    #[arg(long, value_name = "RATE", default_value_t = 8_000.0)]
    pub prefill_tokens_per_second: f64,
    /// Speed of one stream that has the server to itself.
    #[arg(long, value_name = "RATE", default_value_t = 50.0)]
    pub decode_tokens_per_second: f64,
    /// How a decode step grows: each further sequence adds this share of the step time of one.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub batch_growth: f64,
    /// Most prompt tokens read in one step, while the others decode.
    #[arg(long, value_name = "TOKENS", default_value_t = 2_048)]
    pub prefill_chunk: u32,
    /// Most sequences running at once.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_batch: usize,
    /// Most sequences waiting; beyond it requests get 503.
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub max_queue: usize,
    /// Room in the KV cache.
    #[arg(long, value_name = "TOKENS", default_value_t = 262_144)]
    pub kv_tokens: u32,
    /// Tokens a KV block.
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub block_size: u32,
    /// Turns the prefix cache off.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Most tokens of prompt and answer together.
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768)]
    pub context_length: u32,
    /// Key that requests under /v1 must carry.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Something to break from the start; repeatable. One of `refuse`, `hang-headers`, `hang-first-token`,
    /// `die-mid-stream[=TOKENS]`, `cut-clean[=TOKENS]`, `status=CODE[@PROBABILITY]`, `slow=FACTOR`, `unhealthy`.
    #[arg(long = "fault", value_name = "KIND[=VALUE]")]
    pub faults: Vec<Fault>,
    /// Seed of answers and of chance.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Real seconds a simulated second takes; 0 never waits.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub time_scale: f64,
    /// Threads for all instances together.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    args: SimArgs,
}

impl Default for SimArgs {
    fn default() -> Self {
        Alone::parse_from(["sim"]).args
    }
}

/// Why the simulator did not start.
#[derive(Debug)]
pub enum SimError {
    /// An option whose value makes no sense: which, and what was expected.
    Option(&'static str, String),
    /// An address could not be listened on.
    Listen(SocketAddr, io::Error),
    /// Threads or signal handlers could not be made, or standard output is closed.
    System(io::Error),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name, expected) => write!(f, "--{name}: {expected}"),
            Self::Listen(address, _) => write!(f, "could not listen on {address}"),
            Self::System(_) => f.write_str("could not start the simulator"),
        }
    }
}

impl std::error::Error for SimError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Option(..) => None,
            Self::Listen(_, error) | Self::System(error) => Some(error),
        }
    }
}

/// Runs the simulator until SIGTERM or SIGINT. Prints `sim listening on ADDRESS` once for each instance, and
/// `sim control on ADDRESS` if there is one. Not to be called from within a Tokio runtime.
///
/// # Errors
/// [`SimError`], before anything was served.
pub fn run(args: SimArgs) -> Result<(), SimError> {
    let sim = Sim::start(&args)?;
    let mut out = io::stdout().lock();
    for address in sim.addresses() {
        writeln!(out, "sim listening on {address}").map_err(SimError::System)?;
    }
    if let Some(address) = sim.control() {
        writeln!(out, "sim control on {address}").map_err(SimError::System)?;
    }
    out.flush().map_err(SimError::System)?;
    drop(out);
    sim.runtime()
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
        .map_err(SimError::System)
}

/// A running simulator with threads of its own. Dropped, it stops and cuts its connections.
pub struct Sim {
    fleet: Arc<Fleet>,
    control: Option<SocketAddr>,
    /// Present until drop.
    runtime: Option<Runtime>,
}

impl Sim {
    /// Starts the instances; all ports are open when this returns, save those told to refuse.
    ///
    /// # Errors
    /// [`SimError`]; nothing runs then.
    pub fn start(args: &SimArgs) -> Result<Self, SimError> {
        let profile = profile(args)?;
        let wanted = addresses(args)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(args.threads)
            .thread_name("sim")
            .enable_all()
            .build()
            .map_err(SimError::System)?;
        let context = runtime.enter();
        let mut sockets = Vec::with_capacity(wanted.len());
        for address in wanted {
            let socket = fleet::bind(address).map_err(|error| SimError::Listen(address, error))?;
            sockets.push((socket.local_addr().map_err(|error| SimError::Listen(address, error))?, socket));
        }
        let mut faults = Faults::default();
        args.faults.iter().for_each(|fault| faults.set(*fault));
        let instances = sockets.iter().enumerate().map(|(index, (address, _))| {
            let (engine, commands) = EngineHandle::new();
            runtime.spawn(drive(profile.clone(), commands));
            let instance = Instance::new(index, *address, serves(args), args.api_key.clone(), engine);
            instance.set_faults(faults.clone());
            instance
        });
        let idle_step = engine::step(args.time_scale / args.decode_tokens_per_second);
        let fleet = Arc::new(Fleet::new(instances.collect(), idle_step));
        if !faults.refuses() {
            for (index, (address, socket)) in sockets.into_iter().enumerate() {
                fleet.open(index, socket).map_err(|error| SimError::Listen(address, error))?;
            }
        }
        let control = args.control.map(|address| open_control(&fleet, address)).transpose()?;
        drop(context);
        Ok(Self { fleet, control, runtime: Some(runtime) })
    }

    /// Where each instance listens, or would if it did not refuse.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.fleet.instances.iter().map(|instance| instance.address).collect()
    }

    /// The control address, if one was asked for.
    #[must_use]
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("taken only by drop")
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waiting: a test may drop this within a runtime of its own.
            runtime.shutdown_background();
        }
    }
}

fn open_control(fleet: &Arc<Fleet>, address: SocketAddr) -> Result<SocketAddr, SimError> {
    let failed = |error| SimError::Listen(address, error);
    let socket = fleet::bind(address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    fleet.open_control(socket).map_err(failed)?;
    Ok(bound)
}

fn serves(args: &SimArgs) -> Serves {
    Serves {
        models: args.models.clone(),
        context_length: args.context_length,
        block_size: args.block_size,
        seed: args.seed,
    }
}

fn profile(args: &SimArgs) -> Result<Profile, SimError> {
    let positive = |name, value: f64| {
        let is_right = value.is_finite() && value > 0.0;
        if is_right {
            Ok(value)
        } else {
            Err(SimError::Option(name, format!("expected a number above 0, found {value}")))
        }
    };
    let not_negative = |name, value: f64| {
        let is_right = value.is_finite() && value >= 0.0;
        if is_right {
            Ok(value)
        } else {
            Err(SimError::Option(name, format!("expected 0 or more, found {value}")))
        }
    };
    let counts = [
        ("prefill-chunk", u64::from(args.prefill_chunk)),
        ("max-batch", args.max_batch as u64),
        ("block-size", u64::from(args.block_size)),
        ("context-length", u64::from(args.context_length)),
        ("threads", args.threads as u64),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
        return Err(SimError::Option(name, "expected 1 or more, found 0".to_owned()));
    }
    let blocks = args.kv_tokens / args.block_size;
    if blocks < args.context_length.div_ceil(args.block_size) {
        let most = args.context_length;
        let expected =
            format!("expected room for one request of --context-length {most}, found {}", args.kv_tokens);
        return Err(SimError::Option("kv-tokens", expected));
    }
    Ok(Profile {
        prefill_tokens_per_second: positive("prefill-tokens-per-second", args.prefill_tokens_per_second)?,
        decode_tokens_per_second: positive("decode-tokens-per-second", args.decode_tokens_per_second)?,
        batch_growth: not_negative("batch-growth", args.batch_growth)?,
        prefill_chunk: args.prefill_chunk,
        max_batch: args.max_batch,
        max_queue: args.max_queue,
        blocks,
        block_size: args.block_size,
        prefix_cache: !args.no_prefix_cache,
        time_scale: not_negative("time-scale", args.time_scale)?,
    })
}

fn addresses(args: &SimArgs) -> Result<Vec<SocketAddr>, SimError> {
    let count = args.instances.map_or(args.listen.len(), usize::from);
    match args.listen.as_slice() {
        [] => Err(SimError::Option("listen", "expected an address".to_owned())),
        _ if count == 0 => Err(SimError::Option("instances", "expected 1 or more, found 0".to_owned())),
        [first] => (0..count).map(|at| consecutive(*first, at)).collect(),
        many if many.len() == count => Ok(many.to_vec()),
        many => {
            let expected =
                format!("expected as many as --listen has addresses ({}), found {count}", many.len());
            Err(SimError::Option("instances", expected))
        }
    }
}

fn consecutive(first: SocketAddr, at: usize) -> Result<SocketAddr, SimError> {
    let mut address = first;
    if first.port() != 0 {
        let port = u16::try_from(at).ok().and_then(|at| first.port().checked_add(at));
        let out_of_ports =
            || SimError::Option("instances", format!("expected ports up to 65535 from {first}"));
        address.set_port(port.ok_or_else(out_of_ports)?);
    }
    Ok(address)
}
