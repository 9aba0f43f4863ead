//! Draws how a rate limit lets requests through: `docs/quota-bursts.svg`.
//!
//!     cargo run -p tollgate-filters --example quota_burst > docs/quota-bursts.svg
//!
//! The curve is what the code does, not what it should do: a client asks ten times a second for four minutes of a
//! limit of 60 requests a minute, is away for the third of them, and every answer counts.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tollgate_filters::request::quota::{Clock, Demand, Holder, Limits, Measure, Plan, reserve};

const LIMIT: u64 = 60;
const SECONDS: u64 = 240;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 24.0;

fn is_away(second: u64) -> bool {
    (120..180).contains(&second)
}

fn main() {
    let limits = Limits::default().with(Measure::Requests, Some(LIMIT));
    let plan = Arc::new(Plan { limits, rules: Vec::new() });
    let holder = Holder { usage: Arc::default(), plan, rule: None };
    let demand = Demand { input: 1, ..Demand::default() };
    let (mut asked, mut passed) = (Vec::new(), Vec::new());
    let (mut asks, mut passes) = (0u64, 0u64);
    for tenth in 0..SECONDS * 10 {
        let now = Duration::from_millis(tenth * 100);
        if !is_away(tenth / 10) {
            asks += 1;
            passes +=
                u64::from(reserve([Some(holder.clone()), None], demand, Clock { now, unix: now }).is_ok());
        }
        asked.push((tenth as f64 / 10.0, asks as f64));
        passed.push((tenth as f64 / 10.0, passes as f64));
    }
    let top = (LIMIT + LIMIT * SECONDS / 60) as f64;
    asked.retain(|(_, count)| *count <= top);
    let bound = [(0.0, LIMIT as f64), (SECONDS as f64, top)];

    let mut svg = String::new();
    let (w, h) = (WIDTH + LEFT + 24.0, HEIGHT + TOP + 48.0);
    write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Requests let through by a limit of {LIMIT} a minute</title>\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n"
    )
    .expect("memory");
    for step in 0..=4 {
        let (x, y) = place((step * 60) as f64, step as f64 * top / 4.0, top);
        let (bottom, right) = (TOP + HEIGHT, LEFT + WIDTH);
        writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            bottom + 18.0,
            step * 60,
            LEFT - 6.0,
            y + 4.0,
            step as f64 * top / 4.0,
        )
        .expect("memory");
    }
    for (points, colour, dash) in
        [(&asked[..], "#999", "2 4"), (&bound[..], "#c33", "8 5"), (&passed[..], "#06c", "none")]
    {
        let d: Vec<String> = points
            .iter()
            .map(|(second, count)| place(*second, *count, top))
            .map(|(x, y)| format!("{x:.1} {y:.1}"))
            .collect();
        writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
            d.join("L")
        )
        .expect("memory");
    }
    for (second, count, colour, words) in [
        (14.0, 42.0, "#06c", "let through: a full minute's worth at once"),
        (62.0, 88.0, "#06c", "then one a second"),
        (120.0, 160.0, "#06c", "away for a minute: the allowance is full again"),
        (60.0, 152.0, "#c33", "never more than 60 × (1 + t / 60 s)"),
        (14.0, 232.0, "#777", "asked: ten a second"),
    ] {
        let (x, y) = place(second, count, top);
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{words}</text>").expect("memory");
    }
    svg.push_str("</svg>");
    #[expect(clippy::print_stdout, reason = "the picture")]
    {
        println!("{svg}");
    }
}

fn place(second: f64, count: f64, top: f64) -> (f64, f64) {
    (LEFT + WIDTH * second / SECONDS as f64, TOP + HEIGHT * (1.0 - count / top))
}
