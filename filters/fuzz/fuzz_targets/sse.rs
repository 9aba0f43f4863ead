//! Any bytes as a stream, cut anywhere: what goes out and what is counted must not depend on the cuts, and
//! without a correction to make, what goes out is what came in.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tollgate_filters::response::Api;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};

fuzz_target!(|input: &[u8]| {
    let [settings, cut, step, stream @ ..] = input else { return };
    let apis = [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Other];
    let plan = StreamPlan {
        api: apis[usize::from(settings & 7) % apis.len()],
        model: "m".into(),
        withhold_usage: settings & 8 != 0,
        max_event_bytes: if settings & 16 != 0 { 64 } else { 4096 },
        tokenizer: None,
    };
    let run = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let mut filter = StreamFilter::new(plan.clone());
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend(filter.push(Bytes::copy_from_slice(chunk), Duration::ZERO));
        }
        let end = filter.finish();
        out.extend(&end.bytes);
        (out, end.is_clean, filter.into_meter())
    };
    let whole = run(&mut std::iter::once(stream));
    let (first, rest) = stream.split_at(usize::from(*cut).min(stream.len()));
    let parts = run(&mut std::iter::once(first).chain(rest.chunks(usize::from(*step).max(1))));
    assert!(whole == parts, "a cut at {cut}, then every {step} bytes, changed the outcome");
    if plan.api == Api::Other && !stream.windows(5).any(|five| five == b"error") {
        assert_eq!(whole.0, stream, "nothing was to be corrected");
    }
});
