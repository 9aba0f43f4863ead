//! The prompt scanner's keys: `scan` of tollgate.yaml, and what models, tiers and tenants may say otherwise.

use serde_json::{Value as Json, json};
use tollgate_filters::request::scan::Category;
use tollgate_filters::request::scan::policy::Mode;
use tollgate_filters::response::output::Action;

use crate::config::fault::{Faults, Place};
use crate::config::kind::{Kind, List, Maybe, Shape, Word, choice, section};
use crate::config::node::{Node, Value};
use crate::config::settings::OverBudget;
use crate::config::words::{ANY, Date, Flag, InputFile, OutputFile, Text, Whole, expected};

section! {
    /// Prompt security. What a model, a tier or a tenant says under its own `scan` goes before this, in that order.
    Scan {
        /// The most that is done about an attack: `block` refuses it, `flag` lets it pass with a response header and
        /// a metric, `off` does not look.
        mode: ModeName = "block";
        /// Scores from here on are marked.
        flag_at: Fraction = "0.5";
        /// Scores from here on are refused.
        block_at: Fraction = "0.75";
        /// Categories that are marked at most.
        flag_only: List<CategoryName> = "[]";
        /// Categories that do not count.
        ignore: List<CategoryName> = "[]";
        /// How hard the words of each writer are judged.
        roles: Roles = "{}";
        /// Directory of the rule packs, relative to the directory of this file; every *.yaml in it and below it is one.
        rules: Maybe<InputFile> = absent "`rules` beside this file if it is there, otherwise the packs built into the program";
        /// Directory of compiled packs, which make a start quick; relative to the working directory.
        cache: OutputFile = "var/scan-cache";
        /// Ask the learned layer too.
        learned: Flag = "true";
        /// Text of one request that is looked at.
        budget_bytes: Whole<1024, { 1 << 30 }> = "16777216";
        /// Texts that each worker thread remembers with what was found in them, so that the same text of the same tenant is
        /// not looked at again: system prompts, and what a conversation repeats. A hash stands for a text; each takes up
        /// to 5 KiB. 0 remembers none.
        remembered_texts: Whole<0, { 1 << 20 }> = "1024";
        /// What happens to a request with more text than that: `closed` refuses it, `open` looks at the beginning and
        /// the end of it and lets the rest pass.
        over_budget: OverBudgetName = "closed";
        /// What is seen only over several requests of one key.
        behaviour: Behaviour = "{}";
        /// What is done about the model's answers.
        output: Output = "{}";
    }
}

section! {
    /// How hard the words of each writer are judged.
    Roles {
        /// The operator's own application: `system` and `developer` messages, `instructions`, tool descriptions.
        system: ModeName = "flag";
        /// The person asking.
        user: ModeName = "block";
        /// The model, in earlier turns.
        assistant: ModeName = "block";
        /// Tool results and documents.
        tool: ModeName = "block";
    }
}

section! {
    /// What is seen only over several requests of one key.
    Behaviour {
        /// The most that is done about it.
        mode: ModeName = "block";
        /// The same prompt this many times in a row is an attack.
        repeats: Whole<2, 1_000_000> = "30";
        /// Earlier prompts with which a prompt is read together.
        prompts: Whole<0, 32> = "8";
        /// How long a conversation is remembered after its last prompt.
        memory_s: Whole<1, 604_800> = "3600";
        /// Conversations that are remembered; the one unused for longest is forgotten first.
        conversations: Whole<1, ANY> = "100000";
        /// Whether gateways that share limits (`limits.store`) share what they remember of conversations too. A request then waits for
        /// the store, no longer than `limits.shared.timeout_ms`, where there is more than one gateway.
        shared: Flag = "true";
    }
}

section! {
    /// What is done about the model's answers. The rules are those with `output` among their roles; `system_prompt_leak`
    /// is the request's own system prompt, said again. What a list names is not done what `action` says.
    Output {
        /// What is done about a finding: `flag` marks the answer, `redact` replaces the words, `stop` ends the answer
        /// with an error, `off` does not look.
        action: ActionName = "off";
        /// Categories that are marked.
        flag: List<CategoryName> = "[]";
        /// Categories whose words are replaced; what cannot be replaced is stopped.
        redact: List<CategoryName> = "[]";
        /// Categories that end the answer.
        stop: List<CategoryName> = "[]";
        /// Categories that do not count.
        ignore: List<CategoryName> = "[]";
    }
}

section! {
    /// What is said about answers otherwise than before. One list said anew takes the place of all four.
    OutputChange {
        /// What is done about a finding.
        action: Maybe<ActionName> = absent "as said before";
        /// Categories that are marked.
        flag: Maybe<List<CategoryName>> = absent "as said before";
        /// Categories whose words are replaced.
        redact: Maybe<List<CategoryName>> = absent "as said before";
        /// Categories that end the answer.
        stop: Maybe<List<CategoryName>> = absent "as said before";
        /// Categories that do not count.
        ignore: Maybe<List<CategoryName>> = absent "as said before";
    }
}

section! {
    /// What is said otherwise than `scan` of tollgate.yaml says.
    ScanChange {
        /// The most that is done about an attack.
        mode: Maybe<ModeName> = absent "as said before";
        /// Scores from here on are marked.
        flag_at: Maybe<Fraction> = absent "as said before";
        /// Scores from here on are refused.
        block_at: Maybe<Fraction> = absent "as said before";
        /// Categories that are marked at most.
        flag_only: Maybe<List<CategoryName>> = absent "as said before";
        /// Categories that do not count.
        ignore: Maybe<List<CategoryName>> = absent "as said before";
        /// What is done about the model's answers.
        output: Maybe<OutputChange> = absent "as said before";
    }
}

section! {
    /// A rule that does not count for a tenant, for a time and a reason. Every request that it lets pass says so in its
    /// record.
    Exemption {
        /// The id of a rule, or a category.
        rule: Text = required;
        /// Last day on which it holds.
        until: Date = required;
        /// Why, for whoever reads the configuration and the log.
        reason: Text = required;
    }
}

choice! {
    /// What may be done.
    ModeName -> Mode { "block" => Mode::Block, "flag" => Mode::Flag, "off" => Mode::Off }
}

choice! {
    /// What may be done about an answer.
    ActionName -> Action {
        "off" => Action::Off, "flag" => Action::Flag, "redact" => Action::Redact, "stop" => Action::Stop
    }
}

choice! {
    /// What happens beyond the budget.
    OverBudgetName -> OverBudget { "closed" => OverBudget::Closed, "open" => OverBudget::Open }
}

/// A category of findings.
pub(crate) enum CategoryName {}

impl Word for CategoryName {
    type Value = Category;

    fn words() -> String {
        format!("one of {}", Category::ALL.map(Category::name).join(", "))
    }

    fn schema() -> Json {
        json!({ "enum": Category::ALL.map(Category::name) })
    }

    fn parse(text: &str) -> Option<Category> {
        Category::from_name(text)
    }
}

/// A score.
pub(crate) enum Fraction {}

const FRACTION: &str = "a number above 0 and up to 1";

impl Kind for Fraction {
    type Value = f32;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<f32> {
        let number = match &node.value {
            Value::Number(text, _) => text.parse::<f32>().ok().filter(|value| *value > 0.0 && *value <= 1.0),
            _ => None,
        };
        number.or_else(|| expected(FRACTION, node, place, faults))
    }

    fn shape() -> Shape {
        let schema = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 });
        Shape::Scalar { words: FRACTION.into(), unit: None, schema }
    }
}
