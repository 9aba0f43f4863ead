//! The closed vocabularies of rule packs and the small sets made of them.

use super::super::{Role, Severity, View};

/// Languages that atoms may be listed under, ISO 639-1. A fixed list, so that a slip such as `jp` is a fault
/// and a set of languages is one word.
const LANGUAGES: [&str; 28] = [
    "en", "fr", "zh", "ja", "de", "es", "it", "pt", "ko", "ru", "ar", "hi", "tr", "nl", "pl", "uk", "vi",
    "id", "th", "fa", "he", "sv", "cs", "el", "ro", "hu", "da", "fi",
];

/// Those whose letters take two bytes, and three. Kana, Han and Hangul are three; Thai and Devanagari too.
const TWO_BYTES: Languages = Languages::of(&["ru", "uk", "ar", "fa", "he", "el"]);
const THREE_BYTES: Languages = Languages::of(&["zh", "ja", "ko", "hi", "th"]);

/// A set of languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Languages(u32);

impl Languages {
    /// No language.
    pub const NONE: Self = Self(0);
    /// Every language there is: what an atom listed under `any` belongs to.
    pub const ANY: Self = Self((1 << LANGUAGES.len()) - 1);

    /// The language of that code, alone.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        LANGUAGES.iter().position(|known| *known == code).map(|index| Self(1 << index))
    }

    /// The languages of these codes of two letters, each of them known.
    const fn of(codes: &[&str]) -> Self {
        let mut all = 0;
        let mut at = 0;
        while at < codes.len() {
            let code = codes[at].as_bytes();
            let mut index = 0;
            while LANGUAGES[index].as_bytes()[0] != code[0] || LANGUAGES[index].as_bytes()[1] != code[1] {
                index += 1;
            }
            all |= 1 << index;
            at += 1;
        }
        Self(all)
    }

    /// All codes, for messages.
    #[must_use]
    pub fn known() -> String {
        LANGUAGES.join(", ")
    }

    /// In both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In the first and not in the second.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// A bit for each.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The set of these bits, those that stand for no language left out.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ANY.0)
    }

    /// Each of its languages, alone.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = rest & rest.wrapping_neg();
            rest ^= lowest;
            (lowest != 0).then_some(Self(lowest))
        })
    }

    /// The codes of its languages.
    pub fn codes(self) -> impl Iterator<Item = &'static str> {
        LANGUAGES.iter().enumerate().filter(move |(index, _)| self.0 >> index & 1 == 1).map(|(_, code)| *code)
    }

    /// Bytes that a letter of this one language takes in the normalised text.
    pub(crate) fn bytes_per_letter(self) -> u32 {
        match self {
            _ if !self.and(THREE_BYTES).is_empty() => 3,
            _ if !self.and(TWO_BYTES).is_empty() => 2,
            _ => 1,
        }
    }

    /// The languages whose letters take as many bytes as those of this one language.
    pub(crate) fn as_wide(self) -> Self {
        match self.bytes_per_letter() {
            3 => THREE_BYTES,
            2 => TWO_BYTES,
            _ => Self::ANY.without(THREE_BYTES).without(TWO_BYTES),
        }
    }
}

/// A set of views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Views(u8);

impl Views {
    /// All four.
    pub const ALL: Self = Self(0b1111);
    /// None yet.
    pub const NONE: Self = Self(0);
    /// The reading of a text that is ASCII already: normalising it would change nothing.
    pub const ASCII: Self = Self(1 << View::Raw as u8 | 1 << View::Normalised as u8);

    /// This and one more.
    #[must_use]
    pub const fn with(self, view: View) -> Self {
        Self(self.0 | 1 << view as u8)
    }

    /// One alone.
    #[must_use]
    pub const fn only(view: View) -> Self {
        Self::NONE.with(view)
    }

    /// Whether it is in there.
    #[must_use]
    pub const fn has(self, view: View) -> bool {
        self.0 >> view as u8 & 1 == 1
    }

    /// Whether they share one.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// Everybody who writes in a prompt: the default. A rule reads answers only if it says so.
    pub const ALL: Self = Self(0b1111);
    /// None yet.
    pub const NONE: Self = Self(0);

    /// This and one more.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// Whether it is in there.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 >> role as u8 & 1 == 1
    }

    /// Whether one of those who write in a prompt is in it.
    pub(crate) const fn read_prompts(self) -> bool {
        self.0 & Self::ALL.0 != 0
    }

    /// The first of them, in the order user, tool, assistant, system, output.
    pub(crate) fn first(self) -> Role {
        let by_weight = [Role::User, Role::Tool, Role::Assistant, Role::System, Role::Output];
        by_weight.into_iter().find(|role| self.has(*role)).unwrap_or(Role::User)
    }
}

/// The severity of that name.
pub(crate) fn severity(name: &str) -> Option<Severity> {
    [Severity::Low, Severity::Medium, Severity::High].into_iter().find(|severity| severity.name() == name)
}

/// The view of that name.
pub(crate) fn view(name: &str) -> Option<View> {
    [View::Raw, View::Normalised, View::Folded, View::Decoded].into_iter().find(|view| view.name() == name)
}

/// The role of that name.
pub(crate) fn role(name: &str) -> Option<Role> {
    match name {
        "user" => Some(Role::User),
        "tool" => Some(Role::Tool),
        "assistant" => Some(Role::Assistant),
        "system" => Some(Role::System),
        "output" => Some(Role::Output),
        _ => None,
    }
}
