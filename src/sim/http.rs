//! The HTTP surface of one simulated server: vLLM's paths, and `/sim/*` to look into it and break it.
//!
//! Faults hit the paths that cost GPU time; `/sim/*` always works while the port is open. A closed port is
//! reopened through another instance or the control address.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::Method;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use serde_json::{Value, json};

use super::control;
use super::driver::Flight;
use super::embed;
use super::fault::Faults;
use super::fleet::Fleet;
use super::generate::{Answering, Leave, overloaded};
use super::instance::{Ending, Instance};
use super::metrics;
use super::reply::{self, Gone};
use super::request::{self, ANY_MODEL, Endpoint, Reject};
use super::shape::Shape;

/// Largest request body.
const MOST_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Longest idle wait for a further request on a connection, seconds: above a gateway's own pool timeouts.
const KEEPALIVE_SECONDS: u64 = 75;

/// The application behind one port.
pub(super) struct Door {
    fleet: Arc<Fleet>,
    /// Which instance; `None` is the control address, which serves `/sim/*` only.
    seat: Option<usize>,
    options: HttpServerOptions,
}

impl Door {
    /// A door to instance `seat`, or to the control address.
    pub(super) fn new(fleet: Arc<Fleet>, seat: Option<usize>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        Self { fleet, seat, options }
    }

    fn instance(&self) -> Option<&Instance> {
        self.seat.and_then(|seat| self.fleet.instances.get(seat))
    }

    /// Answers the request whose header has been read.
    async fn answer(&self, session: &mut ServerSession) -> Result<Leave, Gone> {
        let path = session.req_header().uri.path().to_owned();
        let method = session.req_header().method.clone();
        match self.instance() {
            Some(instance) => Serving { fleet: &self.fleet, instance }.route(session, &method, &path).await,
            None => reply::whole(session, 404, "application/json", Bytes::from_static(NOT_FOUND))
                .await
                .map(|()| Leave::Open),
        }
    }
}

const NOT_FOUND: &[u8] = br#"{"detail":"Not Found"}"#;

#[async_trait]
impl HttpServerApp for Door {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut cut = self.instance().map(Instance::cut_signal);
        let was_cut = async {
            match &mut cut {
                // An error means the instance is gone, and everything with it.
                Some(cut) => drop(cut.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::pin!(was_cut);
        tokio::select! {
            read = session.read_request() => match read {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    log::debug!("sim: request not read: {error}");
                    return None;
                }
            },
            () = &mut was_cut => return None,
        }
        session.set_keepalive(if *shutdown.borrow() { None } else { Some(KEEPALIVE_SECONDS) });
        let leave = if session.req_header().uri.path().starts_with("/sim/") {
            control::answer(&self.fleet, self.seat, &mut session).await
        } else {
            tokio::select! {
                leave = self.answer(&mut session) => leave,
                () = &mut was_cut => Ok(Leave::Dropped),
            }
        };
        let settings = HttpPersistentSettings::for_session(&session);
        match leave {
            Ok(Leave::Open) => match session.finish().await {
                Ok(stream) => stream.map(|stream| ReusedHttpStream::from_reusable_stream(stream, settings)),
                Err(error) => {
                    log::debug!("sim: answer not finished: {error}");
                    None
                }
            },
            Ok(Leave::Dropped) | Err(Gone) => {
                session.shutdown().await;
                None
            }
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// One instance answering one request.
struct Serving<'a> {
    fleet: &'a Fleet,
    instance: &'a Instance,
}

impl Serving<'_> {
    async fn route(&self, session: &mut ServerSession, method: &Method, path: &str) -> Result<Leave, Gone> {
        let allowed = match path {
            "/health" | "/ping" | "/version" | "/metrics" | "/v1/models" => Method::GET,
            "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/tokenize" | "/detokenize" => {
                Method::POST
            }
            _ => {
                return reply::json(session, 404, Bytes::from_static(NOT_FOUND)).await.map(|()| Leave::Open);
            }
        };
        if *method != allowed {
            reply::method_not_allowed(session, &allowed).await?;
            return Ok(Leave::Open);
        }
        // vLLM guards what is under /v1 only.
        if path.starts_with("/v1") && !self.may_enter(session) {
            reply::json(session, 401, Bytes::from_static(br#"{"error":"Unauthorized"}"#)).await?;
            return Ok(Leave::Open);
        }
        if allowed == Method::GET {
            self.look(session, path).await?;
            return Ok(Leave::Open);
        }
        let body = match read_body(session).await? {
            Ok(body) => body,
            Err(reject) => {
                reply::reject(session, &reject).await?;
                return Ok(Leave::Open);
            }
        };
        match path {
            "/tokenize" | "/detokenize" => self.tokens(session, path, &body).await.map(|()| Leave::Open),
            _ => self.compute(session, path, &body).await,
        }
    }

    fn may_enter(&self, session: &ServerSession) -> bool {
        let Some(key) = &self.instance.api_key else { return true };
        let given = session.get_header_bytes(http::header::AUTHORIZATION);
        given.strip_prefix(b"Bearer ").is_some_and(|token| token == key.as_bytes())
    }

    async fn look(&self, session: &mut ServerSession, path: &str) -> Result<(), Gone> {
        let instance = self.instance;
        match path {
            "/health" | "/ping" => {
                let status = if instance.faults().is_unhealthy() { 503 } else { 200 };
                reply::empty(session, status).await
            }
            "/version" => reply::json(session, 200, Bytes::from_static(br#"{"version":"0.32.0"}"#)).await,
            "/metrics" => {
                let model = instance.serves.models.first().map_or(ANY_MODEL, String::as_str);
                let page = metrics::page(model, &instance.engine.stats().await, instance.outcomes());
                reply::whole(session, 200, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(page))
                    .await
            }
            _ => reply::json(session, 200, Bytes::from(models(instance))).await,
        }
    }

    async fn tokens(&self, session: &mut ServerSession, path: &str, body: &[u8]) -> Result<(), Gone> {
        let serves = &self.instance.serves;
        let answer = if path == "/tokenize" {
            request::tokenize(body, serves).map(|ids| {
                json!({"count": ids.len(), "max_model_len": serves.context_length, "tokens": ids, "token_strs": null})
            })
        } else {
            request::detokenize(body, serves).map(|text| json!({"prompt": text}))
        };
        match answer {
            Ok(answer) => reply::json(session, 200, Bytes::from(answer.to_string())).await,
            Err(reject) => reply::reject(session, &reject).await,
        }
    }

    /// The paths that cost GPU time: counted, and open to faults.
    async fn compute(&self, session: &mut ServerSession, path: &str, body: &[u8]) -> Result<Leave, Gone> {
        self.instance.count_request();
        let mut count = Counted { instance: self.instance, ending: Ending::Cancelled };
        let own = match session.get_header("x-sim-fault").map(|value| value.to_str().unwrap_or("?")) {
            Some(list) => match Faults::parse(list) {
                Ok(faults) => Some(faults),
                Err(error) => {
                    count.ending = Ending::Error;
                    let reject = Reject::new(400, "BadRequestError", format!("x-sim-fault: {error}"));
                    reply::reject(session, &reject).await?;
                    return Ok(Leave::Open);
                }
            },
            None => None,
        };
        let pace = own.as_ref().map_or(1.0, Faults::slowdown);
        let faults = own.unwrap_or_else(|| self.instance.faults());
        if faults.refuses() {
            count.ending = Ending::Error;
            return Ok(Leave::Dropped);
        }
        if faults.hangs_before_headers() {
            return Err(reply::departure(session).await);
        }
        if let Some(status) = faults.status(self.instance.roll()) {
            count.ending = Ending::Error;
            reply::reject(session, &injected(status)).await?;
            return Ok(Leave::Open);
        }
        let (leave, ending) = match path {
            "/v1/embeddings" => self.embed(session, body).await?,
            "/v1/completions" => self.generate(Endpoint::Completion, session, body, &faults, pace).await?,
            _ => self.generate(Endpoint::Chat, session, body, &faults, pace).await?,
        };
        count.ending = ending;
        Ok(leave)
    }

    async fn generate(
        &self,
        endpoint: Endpoint,
        session: &mut ServerSession,
        body: &[u8],
        faults: &Faults,
        pace: f64,
    ) -> Result<(Leave, Ending), Gone> {
        let ask = match request::ask(endpoint, body, &self.instance.serves) {
            Ok(ask) => ask,
            Err(reject) => {
                reply::reject(session, &reject).await?;
                return Ok((Leave::Open, Ending::Error));
            }
        };
        let id = session.get_header("x-request-id").and_then(|id| id.to_str().ok());
        let shape = Shape::new(&ask, id.filter(|id| !id.is_empty() && id.len() <= 200), unix_now());
        let idle_step = self.fleet.idle_step;
        // Boxed: the future of a whole answer would otherwise make every connection's task as large.
        let answering = Answering { session, instance: self.instance, faults, pace, idle_step };
        Box::pin(answering.generate(&ask, &shape)).await
    }

    async fn embed(&self, session: &mut ServerSession, body: &[u8]) -> Result<(Leave, Ending), Gone> {
        let ask = match request::embed(body, &self.instance.serves) {
            Ok(ask) => ask,
            Err(reject) => {
                reply::reject(session, &reject).await?;
                return Ok((Leave::Open, Ending::Error));
            }
        };
        let wanted = ask.inputs.iter().map(|(prompt, _)| (prompt.clone(), 0)).collect();
        let flight = match self.instance.engine.submit(wanted).await {
            Ok(flight) => flight,
            Err(reason) => {
                reply::reject(session, &overloaded(&reason)).await?;
                return Ok((Leave::Open, Ending::Error));
            }
        };
        finished(session, &flight).await?;
        reply::json(session, 200, embed::answer(&ask, unix_now())).await?;
        Ok((Leave::Open, Ending::Stop))
    }
}

/// Counts how a request ended when it is dropped, wherever that is: a future cut in the middle counts as
/// cancelled.
struct Counted<'a> {
    instance: &'a Instance,
    ending: Ending,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.instance.count_ending(self.ending);
    }
}

async fn finished(session: &mut ServerSession, flight: &Flight) -> Result<(), Gone> {
    while !flight.is_finished() {
        tokio::select! {
            () = flight.moved() => {}
            gone = reply::departure(session) => return Err(gone),
        }
    }
    Ok(())
}

/// The whole body, or why not.
pub(super) async fn read_body(session: &mut ServerSession) -> Result<Result<Bytes, Reject>, Gone> {
    let too_large =
        || Reject::new(413, "Request Entity Too Large", format!("The body exceeds {MOST_BODY_BYTES} bytes."));
    let declared = std::str::from_utf8(session.get_header_bytes(http::header::CONTENT_LENGTH));
    let declared: usize = declared.ok().and_then(|length| length.parse().ok()).unwrap_or(0);
    if declared > MOST_BODY_BYTES {
        return Ok(Err(too_large()));
    }
    if session.get_header_bytes(http::header::EXPECT).eq_ignore_ascii_case(b"100-continue")
        && !session.is_http2()
    {
        session.write_continue_response().await?;
    }
    let Some(first) = session.read_request_body().await? else { return Ok(Ok(Bytes::new())) };
    let mut body = BytesMut::from(first);
    body.reserve(declared.saturating_sub(body.len()));
    while let Some(piece) = session.read_request_body().await? {
        if body.len() + piece.len() > MOST_BODY_BYTES {
            return Ok(Err(too_large()));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Ok(body.freeze()))
}

fn injected(status: u16) -> Reject {
    let (kind, message) = match status {
        429 => ("RateLimitError", "Simulated: too many requests."),
        503 => ("ServiceUnavailableError", "Simulated: the server is overloaded."),
        400..500 => ("BadRequestError", "Simulated: the request was refused."),
        _ => ("InternalServerError", "Simulated: the engine failed."),
    };
    Reject::new(status, kind, message)
}

fn models(instance: &Instance) -> String {
    let serves = &instance.serves;
    let any = [ANY_MODEL.to_owned()];
    let names = if serves.models.is_empty() { &any[..] } else { &serves.models };
    let created = unix_now();
    let entry = |name: &String| {
        json!({"id": name, "object": "model", "created": created, "owned_by": "vllm", "root": name, "parent": null,
               "max_model_len": serves.context_length, "permission": []})
    };
    json!({"object": "list", "data": names.iter().map(entry).collect::<Vec<Value>>()}).to_string()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
