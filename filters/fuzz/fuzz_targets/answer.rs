//! Any bytes as a whole answer and as an error: spans stay within the body, and every error can be told.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_filters::response::Api;
use tollgate_filters::response::{answer, error};
use tollgate_filters::tokenizer::counter::Counter;

fuzz_target!(|input: &[u8]| {
    let [status, body @ ..] = input else { return };
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Other] {
        let answer = answer::read(api, body, &Counter::default());
        if let Some(model) = answer.model {
            assert!(body.get(model).is_some(), "the model's name stands in the body");
        }
    }
    let status = [200, 400, 401, 404, 413, 422, 429, 500, 501, 503, 504][usize::from(*status) % 11];
    let error = error::normalise(status, body);
    assert!((400..=599).contains(&error.status));
    assert!(error.message.len() <= 1100 && !error.message.is_empty());
    assert!(error::is_openai_shape(error.to_json().as_bytes()));
});
