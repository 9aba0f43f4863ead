//! The shapes that are told apart, and the way from a shape to a finding. Each has an identifier that policy,
//! metrics and verdicts use. A text may hold one shape a million times, so only the first few are reported.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use super::super::{Category, Finding, Role, Severity, View};

/// One shape of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A control token of a chat template opens or ends a turn.
    TemplateTurn,
    /// The whole text is a prompt in the form of a chat template, as clients of `/v1/completions` send it.
    TemplateWhole,
    /// Control tokens in quotes, in code or spoken of.
    TemplateMention,
    /// `Assistant: … System: …` within one text.
    SpokenTurn,
    /// `### Response: … ### Instruction: …` within one text.
    HeadingTurn,
    /// `[system](#instructions)`.
    RoleLink,
    /// `[system]` before an order.
    RoleBracket,
    /// `--- END OF USER INPUT ---`.
    Fence,
    /// `<system>` with an order in it.
    RoleTag,
    /// A tool call or a tool's result, made up.
    ToolTag,
    /// The element or section around the text is closed from inside.
    MarkupBreakout,
    /// The JSON string around the text is closed from inside.
    JsonBreakout,
    /// A message object with the role of the system.
    JsonRole,
    /// An object with switches against the rules.
    JsonSwitch,
    /// Hidden text that asks something of a model.
    HiddenRequest,
    /// A link or image that runs a script.
    LinkScript,
    /// A script or an event handler.
    Script,
    /// An image whose address is to carry data.
    ExfilImage,
    /// One word or phrase again and again.
    Repetition,
    /// Bits, spaced hex digits or Morse.
    Codes,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 20] = [
        Self::TemplateTurn,
        Self::TemplateWhole,
        Self::TemplateMention,
        Self::SpokenTurn,
        Self::HeadingTurn,
        Self::RoleLink,
        Self::RoleBracket,
        Self::Fence,
        Self::RoleTag,
        Self::ToolTag,
        Self::MarkupBreakout,
        Self::JsonBreakout,
        Self::JsonRole,
        Self::JsonSwitch,
        Self::HiddenRequest,
        Self::LinkScript,
        Self::Script,
        Self::ExfilImage,
        Self::Repetition,
        Self::Codes,
    ];

    /// The rule's name in findings.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::TemplateTurn => "structure.template-turn",
            Self::TemplateWhole => "structure.template-whole",
            Self::TemplateMention => "structure.template-mention",
            Self::SpokenTurn => "structure.spoken-turn",
            Self::HeadingTurn => "structure.heading-turn",
            Self::RoleLink => "structure.role-link",
            Self::RoleBracket => "structure.role-bracket",
            Self::Fence => "structure.fence",
            Self::RoleTag => "structure.role-tag",
            Self::ToolTag => "structure.tool-tag",
            Self::MarkupBreakout => "structure.markup-breakout",
            Self::JsonBreakout => "structure.json-breakout",
            Self::JsonRole => "structure.json-role",
            Self::JsonSwitch => "structure.json-switch",
            Self::HiddenRequest => "structure.hidden-request",
            Self::LinkScript => "structure.link-script",
            Self::Script => "structure.script",
            Self::ExfilImage => "structure.exfil-image",
            Self::Repetition => "structure.repetition",
            Self::Codes => "structure.codes",
        }
    }

    /// What it speaks of.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Self::TemplateTurn
            | Self::TemplateWhole
            | Self::TemplateMention
            | Self::SpokenTurn
            | Self::HeadingTurn
            | Self::RoleLink
            | Self::RoleBracket
            | Self::RoleTag
            | Self::ToolTag => Category::RoleSmuggling,
            Self::Fence | Self::MarkupBreakout => Category::DelimiterAbuse,
            Self::JsonBreakout | Self::JsonRole | Self::JsonSwitch => Category::JsonSmuggling,
            Self::HiddenRequest => Category::HiddenText,
            Self::LinkScript | Self::Script => Category::ActiveContent,
            Self::ExfilImage => Category::Exfiltration,
            Self::Repetition => Category::Repetition,
            Self::Codes => Category::EncodedPayload,
        }
    }
}

/// The identifiers, made once, so that a finding costs a count and no copy.
static IDS: LazyLock<[Arc<str>; Shape::ALL.len()]> =
    LazyLock::new(|| Shape::ALL.map(|shape| Arc::from(shape.id())));

/// More of one shape at one severity says nothing new.
const MOST_ALIKE: u8 = 4;

/// Where the rooms put what they found.
pub(super) struct Report<'a> {
    text: &'a str,
    role: Role,
    found: &'a mut Vec<Finding>,
    counts: [[u8; 3]; Shape::ALL.len()],
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str, role: Role, found: &'a mut Vec<Finding>) -> Self {
        Self { text, role, found, counts: [[0; 3]; Shape::ALL.len()] }
    }

    /// Adds a finding; `span` is widened to character boundaries.
    pub(super) fn add(&mut self, shape: Shape, severity: Severity, span: Range<usize>) {
        let severity = match (self.role, severity) {
            (Role::System, Severity::High) => Severity::Medium,
            (Role::System, _) => Severity::Low,
            (_, severity) => severity,
        };
        let count = &mut self.counts[shape as usize][severity as usize];
        if *count == MOST_ALIKE {
            return;
        }
        *count += 1;
        let span = self.text.floor_char_boundary(span.start)..self.text.ceil_char_boundary(span.end);
        self.found.push(Finding {
            rule: Arc::clone(&IDS[shape as usize]),
            category: shape.category(),
            severity,
            view: View::Raw,
            span,
        });
    }
}
