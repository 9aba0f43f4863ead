//! Keys that throw a switch against the rules of a model. Some say by their name what they are for
//! (`bypass_safety_filters`); others are in every configuration (`override`, `debug`) and mean something only beside
//! a role or instructions. Off is off, so the value counts as well.

/// How much a switch's name says.
pub(super) enum Switch {
    Strong,
    Weak,
}

/// Parts of names that say what a switch does to a guard.
const UNDOES: [&[u8]; 12] = [
    b"bypass",
    b"override",
    b"ignore",
    b"disable",
    b"skip",
    b"suspend",
    b"turnoff",
    b"remove",
    b"no",
    b"without",
    b"unlock",
    b"overwrite",
];
/// Parts of names that say what the guard is.
const GUARDS: [&[u8]; 17] = [
    b"safety",
    b"filter",
    b"restriction",
    b"guardrail",
    b"guideline",
    b"instruction",
    b"policy",
    b"policies",
    b"moderation",
    b"system",
    b"rules",
    b"limits",
    b"prompt",
    b"ethic",
    b"censor",
    b"security",
    b"previous",
];

/// What the key `name` with `value` throws.
pub(super) fn read(name: &[u8], value: &[u8]) -> Option<Switch> {
    // No word of power is longer, so texts cost nothing here.
    if value.len() > 12 {
        return None;
    }
    let (is_on, is_off) = (is_on(value), is_off(value));
    if !is_on && !is_off {
        return None;
    }
    let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    let guards = GUARDS.iter().any(|guard| contains(guard));
    if is_on && guards && UNDOES.iter().any(|verb| name.starts_with(verb) || verb.len() > 4 && contains(verb))
    {
        return Some(Switch::Strong);
    }
    match name {
        b"jailbreak" | b"unrestricted" | b"uncensored" | b"godmode" | b"devmode" | b"developermode"
        | b"adminmode" | b"sudomode" | b"jailbroken" | b"unfiltered" | b"newsystemprompt" | b"dan"
            if is_on =>
        {
            Some(Switch::Strong)
        }
        b"safety" | b"filters" | b"safetymode" | b"contentfilter" | b"moderation" | b"guardrails"
        | b"restrictions" | b"safetyfilters" | b"contentpolicy" | b"safetychecks"
            if is_off =>
        {
            Some(Switch::Weak)
        }
        b"override" | b"bypass" | b"force" | b"sudo" | b"admin" | b"root" | b"priority" | b"privileged"
        | b"elevated" | b"debug" | b"isadmin" | b"overrideall" | b"superuser" | b"authorized"
        | b"trusted" | b"privilege" | b"accesslevel" | b"clearance" | b"mode" | b"ignoreprevious"
            if is_on =>
        {
            Some(Switch::Weak)
        }
        _ => None,
    }
}

/// Whether a value throws a switch: true, one, a word of power.
fn is_on(value: &[u8]) -> bool {
    [
        "true",
        "1",
        "yes",
        "on",
        "enabled",
        "high",
        "highest",
        "critical",
        "admin",
        "root",
        "system",
        "max",
        "full",
        "maximum",
        "unrestricted",
        "developer",
        "god",
        "all",
        "absolute",
        "top",
        "override",
    ]
    .iter()
    .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a value turns something off.
fn is_off(value: &[u8]) -> bool {
    ["false", "0", "no", "off", "disabled", "none", "null"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}
