//! What can be broken, and how it is written: `--fault KIND[=VALUE]`, the header `x-sim-fault`, and the
//! body of `POST /sim/fault` all speak this one little language. Faults of different kinds add up.

use std::fmt;
use std::str::FromStr;

use super::text;

/// Tokens sent before a stream dies or is cut, unless said.
const DEFAULT_AFTER: u32 = 3;

/// One thing that is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// `refuse`: the port is closed and open connections are dropped, as when the process has died.
    Refuse,
    /// `hang-headers`: requests are read and never answered.
    HangHeaders,
    /// `hang-first-token`: a stream gets headers and the role event, and then nothing.
    HangFirstToken,
    /// `die-mid-stream[=TOKENS]`: the connection is dropped after this many tokens (default 3).
    DieMidStream(u32),
    /// `cut-clean[=TOKENS]`: the body ends properly after this many tokens, without `finish_reason` and `[DONE]`.
    CutClean(u32),
    /// `status=CODE[@PROBABILITY]`: an error answer, to this share of requests (default all).
    Status(u16, f64),
    /// `slow=FACTOR`: everything takes this many times as long.
    Slow(f64),
    /// `unhealthy`: `/health` answers 503; requests are served.
    Unhealthy,
}

/// A fault that could not be read: what was found, and what is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected refuse, hang-headers, hang-first-token, die-mid-stream[=TOKENS], cut-clean[=TOKENS], \
             status=CODE[@PROBABILITY], slow=FACTOR or unhealthy, found `{}`",
            self.0
        )
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(written: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(written.chars().take(80).collect());
        let (kind, value) = match written.trim().split_once('=') {
            Some((kind, value)) => (kind.trim(), Some(value.trim())),
            None => (written.trim(), None),
        };
        let after = || value.map_or(Ok(DEFAULT_AFTER), str::parse).map_err(|_| unknown());
        let alone = |fault| if value.is_none() { Ok(fault) } else { Err(unknown()) };
        match kind {
            "refuse" => alone(Self::Refuse),
            "hang-headers" => alone(Self::HangHeaders),
            "hang-first-token" => alone(Self::HangFirstToken),
            "unhealthy" => alone(Self::Unhealthy),
            "die-mid-stream" => Ok(Self::DieMidStream(after()?)),
            "cut-clean" => Ok(Self::CutClean(after()?)),
            "slow" => match value.map(str::parse::<f64>) {
                Some(Ok(factor)) if factor.is_finite() && factor >= 0.0 => Ok(Self::Slow(factor)),
                _ => Err(unknown()),
            },
            "status" => value.and_then(status).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("refuse"),
            Self::HangHeaders => f.write_str("hang-headers"),
            Self::HangFirstToken => f.write_str("hang-first-token"),
            Self::DieMidStream(tokens) => write!(f, "die-mid-stream={tokens}"),
            Self::CutClean(tokens) => write!(f, "cut-clean={tokens}"),
            Self::Status(code, probability) => write!(f, "status={code}@{probability}"),
            Self::Slow(factor) => write!(f, "slow={factor}"),
            Self::Unhealthy => f.write_str("unhealthy"),
        }
    }
}

/// Every fault in force, at most one of a kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults a comma-separated list names; `none` or nothing is none.
    ///
    /// # Errors
    /// The first item that is no fault.
    pub fn parse(list: &str) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty() && *item != "none") {
            faults.set(item.parse()?);
        }
        Ok(faults)
    }

    /// Adds a fault; one of the same kind is replaced.
    pub fn set(&mut self, fault: Fault) {
        let kind = std::mem::discriminant(&fault);
        self.0.retain(|known| std::mem::discriminant(known) != kind);
        self.0.push(fault);
    }

    /// Each fault, as it would be written.
    pub(super) fn written(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    pub(super) fn refuses(&self) -> bool {
        self.0.contains(&Fault::Refuse)
    }

    pub(super) fn hangs_before_headers(&self) -> bool {
        self.0.contains(&Fault::HangHeaders)
    }

    pub(super) fn hangs_before_first_token(&self) -> bool {
        self.0.contains(&Fault::HangFirstToken)
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.0.contains(&Fault::Unhealthy)
    }

    /// Tokens after which the connection is dropped.
    pub(super) fn dies_after(&self) -> Option<u32> {
        self.0
            .iter()
            .find_map(|fault| if let Fault::DieMidStream(after) = fault { Some(*after) } else { None })
    }

    /// Tokens after which the body ends as if it were complete.
    pub(super) fn is_cut_after(&self) -> Option<u32> {
        self.0.iter().find_map(|fault| if let Fault::CutClean(after) = fault { Some(*after) } else { None })
    }

    /// How many times as long everything takes.
    pub(super) fn slowdown(&self) -> f64 {
        self.0
            .iter()
            .find_map(|fault| if let Fault::Slow(factor) = fault { Some(*factor) } else { None })
            .unwrap_or(1.0)
    }

    /// The error status this request gets, if the dice say so. `dice` is any evenly spread number.
    pub(super) fn status(&self, dice: u64) -> Option<u16> {
        self.0.iter().find_map(|fault| match fault {
            Fault::Status(code, probability) if unit(dice) < *probability => Some(*code),
            _ => None,
        })
    }
}

fn status(value: &str) -> Option<Fault> {
    let (code, probability) = value.split_once('@').map_or((value, "1"), |(code, share)| (code, share));
    let code: u16 = code.trim().parse().ok().filter(|code| (400..600).contains(code))?;
    let probability: f64 = probability.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
    Some(Fault::Status(code, probability))
}

/// A number in 0..1 from the upper 53 bits, which an `f64` holds exactly.
fn unit(dice: u64) -> f64 {
    (text::mix(0, dice) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, expected: Option<Fault>) {
        assert_eq!(written.parse::<Fault>().ok(), expected, "{written}");
    }

    #[test]
    fn every_kind_is_read() {
        check("refuse", Some(Fault::Refuse));
        check("hang-headers", Some(Fault::HangHeaders));
        check("hang-first-token", Some(Fault::HangFirstToken));
        check("die-mid-stream", Some(Fault::DieMidStream(3)));
        check("die-mid-stream=0", Some(Fault::DieMidStream(0)));
        check(" cut-clean = 7 ", Some(Fault::CutClean(7)));
        check("status=503", Some(Fault::Status(503, 1.0)));
        check("status=500@0.3", Some(Fault::Status(500, 0.3)));
        check("slow=2.5", Some(Fault::Slow(2.5)));
        check("unhealthy", Some(Fault::Unhealthy));
    }

    #[test]
    fn nonsense_is_named() {
        for wrong in
            ["", "explode", "status", "status=200", "status=500@2", "slow", "slow=-1", "slow=NaN", "refuse=1"]
        {
            check(wrong, None);
        }
        let message = "explode".parse::<Fault>().expect_err("no such kind").to_string();
        assert!(message.contains("`explode`"), "{message}");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let list = "refuse,hang-headers,die-mid-stream=2,status=429@0.25,slow=3";
        let faults = Faults::parse(list).expect("all are known");
        assert_eq!(Faults::parse(&faults.written().join(",")), Ok(faults));
    }

    #[test]
    fn a_kind_replaces_itself_and_none_is_none() {
        let faults = Faults::parse("slow=2, slow=4").expect("both are known");
        assert_eq!(faults.written(), ["slow=4"]);
        assert_eq!(Faults::parse("none"), Ok(Faults::default()));
    }

    #[test]
    fn a_share_of_requests_fails() {
        let faults = Faults::parse("status=500@0.3").expect("known");
        let failed = (0..10_000).filter(|dice| faults.status(*dice).is_some()).count();
        assert!((2_700..3_300).contains(&failed), "{failed} of 10000");
    }
}
