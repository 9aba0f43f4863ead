//! `tollgate tokens`: how many tokens the gateway counts in a text or a request, with which tokenizer. It counts as the
//! gateway does, through the same door, so that an operator can see what a model's requests will be charged.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::request::body;
use tollgate_filters::response::usage::Source;
use tollgate_filters::tokenizer::CHARS_PER_TOKEN;

use crate::config::{self, settings::Model};
use crate::state::counter;

/// Done.
const DONE: u8 = 0;
/// Wrong use or bad configuration.
const BAD: u8 = 2;

/// Counts the tokens of standard input: a text, or the JSON of a request.
#[derive(Debug, Clone, Args)]
pub struct TokensArgs {
    /// Directory of the configuration files.
    #[arg(long, value_name = "DIR", default_value = "conf")]
    pub conf: PathBuf,
    /// The model, by its name in the catalogue or an alias.
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and returns its exit code: 0 if it counted, 2 if it could not.
#[must_use]
pub fn run(args: &TokensArgs) -> u8 {
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        return say(Err(format!("standard input cannot be read: {error}")));
    }
    say(answer(args, &input))
}

fn say(answer: Result<String, String>) -> u8 {
    let (code, text) = match answer {
        Ok(text) => {
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            return DONE;
        }
        Err(text) => (BAD, text),
    };
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
    code
}

fn answer(args: &TokensArgs, input: &[u8]) -> Result<String, String> {
    let settings = config::load(&args.conf).map_err(|faults| faults.to_string())?;
    let is_named = |model: &&Model| model.name == args.model || model.aliases.contains(&args.model);
    let model = settings.models.iter().find(is_named).ok_or_else(|| {
        format!("no model of {} is called {:?}", args.conf.join("models.yaml").display(), args.model)
    })?;
    // To the last token, however long: nobody waits for it but who asked.
    let counter = counter(model, usize::MAX);
    let by = counter_name(model);
    let text = std::str::from_utf8(input).map_err(|error| format!("standard input is not text: {error}"))?;
    let (input_tokens, system, source) = if text.trim_start().starts_with('{') {
        let (body, prompt) = request(text, &args.model)?;
        let counted = counter.prompt(&prompt, body.as_bytes());
        (counted.input, counted.system, counted.input_source)
    } else {
        let count = counter.tokenizer().map(|tokenizer| tokenizer.count(text));
        let source = if count.is_some() { Source::Tokenizer } else { Source::Estimated };
        (count.unwrap_or_else(|| (text.chars().count() as u64).div_ceil(CHARS_PER_TOKEN)), 0, source)
    };
    let source = if source == Source::Tokenizer { "tokenizer" } else { "estimated" };
    Ok(if args.json {
        let found = json!({"model": model.name, "tokenizer": by, "input_tokens": input_tokens,
            "system_tokens": system, "source": source});
        format!("{found}\n")
    } else {
        format!("{input_tokens} tokens ({system} of system text) by {by}, {source}\n")
    })
}

/// A request and what it asks for. One that names no model is meant for the one that the command names.
fn request(text: &str, model: &str) -> Result<(String, body::Prompt), String> {
    let json: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("standard input begins like JSON, and is none: {error}"))?;
    let text = match json["model"] {
        serde_json::Value::Null => text.replacen('{', &format!("{{\"model\":{},", json!(model)), 1),
        _ => text.to_owned(),
    };
    let endpoint = if !json["messages"].is_null() {
        Endpoint::ChatCompletions
    } else if !json["prompt"].is_null() {
        Endpoint::Completions
    } else if !json["instructions"].is_null() {
        Endpoint::Responses
    } else {
        Endpoint::Embeddings
    };
    let prompt = body::parse(endpoint, text.as_bytes(), tollgate_filters::json::MAX_DEPTH)
        .map_err(|refusal| refusal.answer().message)?;
    Ok((text, prompt))
}

/// What counts a model's tokens, in words.
#[must_use]
pub fn counter_name(model: &Model) -> String {
    match &model.tokenizer {
        None => format!("{CHARS_PER_TOKEN} characters a token"),
        Some(found) => match found.tokenizer.family().filter(|_| model.chat_template.is_none()) {
            Some(family) => format!("{} ({})", found.name, family.name()),
            None => found.name.clone(),
        },
    }
}
